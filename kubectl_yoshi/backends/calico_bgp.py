"""Calico's BGPConfiguration "default", which is shared with everybody.

Fields: https://docs.tigera.io/calico/latest/reference/resources/bgpconfig. What this program writes into
BGPConfiguration is marked there by annotations: the networks that need the asNumber it set, and each list entry it
added, so that it takes back those and no others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_network

from kubectl_yoshi.backends.calico_api import CalicoApi
from kubectl_yoshi.backends.marks import (
    MADE,
    MAKER,
    NEEDED_BY,
    drop_marks,
    first_marks,
    is_made_here,
    marked,
    needed_by,
    needing,
    set_marks,
)
from kubectl_yoshi.model.addresses import Address, Cidr, address_of_word, word_of
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.matching import Fields, differing
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import Json, dig, resource_version_of, uid_of

MOST_ASN = 2147483647
"""Calico's CRDs have its ASNs as int32."""

LOAD_BALANCER_IPS = "serviceLoadBalancerIPs"
EXTERNAL_IPS = "serviceExternalIPs"

_FIELDS = Fields(defaults={"logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"})

AS_SET = f"{GROUP}/asNumber"
"""Annotation: the asNumber that this program set where there was none."""
LIST_MADE = f"list.{GROUP}/"
"""Prefix of the annotation, named after a list, that says that this program made the list."""
ENTRY = f"address.{GROUP}/"
"""Prefix of the annotation, named after an address, that says which network's the list entry is."""


def configuration(api: CalicoApi, facts: Facts) -> Json | None:
    """BGPConfiguration "default"; None where there is none.

    Raises:
        Refused: it may not be read.
    """
    read = Read(api.bgp_configuration, name="default")
    found = facts.ask(read)
    if why := facts.why_unknown(read):
        raise Refused(
            f"Calico's bgpconfiguration/default cannot be read: {why}",
            "Ask an administrator for this right; the ClusterRole yoshi-admin holds it.",
        )
    return found[0] if found else None


# -- the configuration as a whole ------------------------------------------------------------------------------------


def asn_obstacles(network: Network, api: CalicoApi, facts: Facts) -> list[str]:
    """Why the cluster cannot speak with the network's ASNs."""
    assert network.bgp is not None
    found = [
        f"Calico takes no ASN above {MOST_ASN}, and {field} is {asn}: choose --announce metallb-bgp, or another ASN"
        for field, asn in (("myASN", network.bgp.my_asn), ("remoteASN", network.bgp.remote_asn))
        if asn > MOST_ASN
    ]
    there = dig(configuration(api, facts), "spec", "asNumber")
    if there is not None and there != network.bgp.my_asn:
        found.append(
            f"bgpconfiguration/default has asNumber {there}, and this network wants myASN {network.bgp.my_asn}: "
            f"say --my-asn {there}"
        )
    return found


def build_configuration(network: Network, api: CalicoApi, facts: Facts) -> tuple[Change, ...]:
    """Makes BGPConfiguration "default", or sets its asNumber where it has none."""
    assert network.bgp is not None
    there = configuration(api, facts)
    ref = api.bgp_configuration.ref("default")
    asn = network.bgp.my_asn
    says = f"set asNumber {asn} in Calico's {ref}"
    if there is None:
        body = {
            "apiVersion": api.bgp_configuration.api_version,
            "kind": api.bgp_configuration.kind,
            "metadata": {"name": "default", "annotations": {**first_marks(network), AS_SET: str(asn)}},
            "spec": {"asNumber": asn},
        }
        return (Change(Verb.CREATE, ref, says, body=body),)
    if dig(there, "spec", "asNumber") is None:
        patch = PatchBuilder.of_uid(uid_of(there))
        patch.set_in(there, ("spec", "asNumber"), asn)
        set_marks(patch, there, {AS_SET: str(asn), **needed_by(network)})
        return (Change(Verb.PATCH, ref, says, patch.ops, before=there),)
    if AS_SET in marked(there) and network.uid not in needing(there):
        patch = PatchBuilder.of_uid(uid_of(there))
        set_marks(patch, there, needed_by(network))
        return (Change(Verb.PATCH, ref, f"note that network {network.full_name} needs {ref}", patch.ops, before=there),)
    return ()


def leave_configuration(gone: Collection[str], api: CalicoApi, facts: Facts) -> Plan:
    """Takes back what was written into BGPConfiguration for these networks (by uid): entries, then asNumber, then all
    of it where this program made it and nothing else is in it."""
    there = configuration(api, facts)
    if there is None:
        return Plan()
    marks = marked(there)
    ref = api.bgp_configuration.ref("default")
    entries = {key: entry for key, entry in _entries_in(there).items() if entry.uid in gone}
    needed = needing(there).keys() & set(gone)
    keys = [*entries, *(f"{NEEDED_BY}{uid}" for uid in sorted(needed))]
    others = [key for key in marks if key.startswith((ENTRY, NEEDED_BY)) and key not in keys]
    lists = [] if others else [key for key in marks if key.startswith(LIST_MADE)]
    if not keys and not lists:
        return Plan()
    spec = dict(there.get("spec") or {})
    patch = PatchBuilder.of_uid(uid_of(there))
    if not others:  # what nobody needs is taken away whole: it must be as it was read
        patch.test(("metadata", "resourceVersion"), resource_version_of(there))
    for field in (LOAD_BALANCER_IPS, EXTERNAL_IPS):
        mine = {address_of_word(key.removeprefix(ENTRY)) for key, entry in entries.items() if entry.field == field}
        spec[field] = _remove_entries(patch, there, field, mine)
    if not others:
        if AS_SET in marks and str(spec.get("asNumber")) == marks[AS_SET]:
            patch.test(("spec", "asNumber"), spec.pop("asNumber")).remove(("spec", "asNumber"))
        for field in (LOAD_BALANCER_IPS, EXTERNAL_IPS):
            if f"{LIST_MADE}{field}" in marks and spec[field] == []:
                patch.ops.append({"op": "remove", "path": f"/spec/{field}"})
        keys += [*lists, *(key for key in (AS_SET, MADE) if key in marks)]
        if is_made_here(there) and not differing(dict.fromkeys(spec), spec, _FIELDS):
            return in_order(
                Change(
                    Verb.DELETE, ref, f"delete {ref}", before=there, uid=uid_of(there),
                    resource_version=resource_version_of(there), tolerate_missing=True,
                )
            )  # fmt: skip
    drop_marks(patch, there, keys)
    return in_order(Change(Verb.PATCH, ref, f"take back what was written into {ref}", patch.ops, before=there))


def users(api: CalicoApi, facts: Facts) -> dict[str, str]:
    """All networks for which something was written into Calico's BGP objects: uid -> "namespace/name"."""
    there = configuration(api, facts)
    found = {entry.uid: entry.network for entry in _entries_in(there).values()} if there else {}
    for obj in [*([there] if there else []), *facts.ask(Read(api.bgp_peer))]:
        found |= needing(obj)
    return found


# -- its lists -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """The mark beside an entry of a list: for which network (uid, "namespace/name") it is in which list (field)."""

    uid: str
    field: str
    network: str

    @classmethod
    def parse(cls, text: str) -> _Entry:
        """From an annotation's value; earlier versions wrote no network."""
        return cls(*[*text.split(" "), "", ""][:3])

    def __str__(self) -> str:
        return f"{self.uid} {self.field} {self.network}"


def _entries_in(there: Json) -> dict[str, _Entry]:
    """The marks of all entries that are this program's, by the annotation's name."""
    return {key: _Entry.parse(value) for key, value in marked(there).items() if key.startswith(ENTRY)}


def add_entry(
    network: Network, address: Address, field: str, api: CalicoApi, facts: Facts, subject: str
) -> Change | None:
    """Adds an address to a list of BGPConfiguration, at its end; None where it is there. Where it is in the other list,
    it is first taken out of that one.

    The list must still be as it was read, so that no address comes in twice; entries of several VMs of one plan are
    sent as one patch.
    """
    there = configuration(api, facts)
    ref = api.bgp_configuration.ref("default")
    entry = {"cidr": cidr_of(address)}
    key, mark = f"{ENTRY}{word_of(address)}", str(_Entry(network.uid, field, network.full_name))
    says = f"let Calico announce {address}"
    if there is None:
        marks = {MADE: MAKER, key: mark, f"{LIST_MADE}{field}": "true"}
        body = {
            "apiVersion": api.bgp_configuration.api_version,
            "kind": api.bgp_configuration.kind,
            "metadata": {"name": "default", "annotations": marks},
            "spec": {field: [entry]},
        }
        return Change(Verb.CREATE, ref, says, body=body, subject=subject)
    noted = _entries_in(there).get(key)
    if noted is not None and noted.uid == network.uid and noted.field != field:
        return remove_entry(network, address, api, facts, subject)
    entries = dig(there, "spec", field)
    patch = PatchBuilder.of_uid(uid_of(there))
    if _places(there, field, {address}):
        theirs = marked(there).get(key)
        if theirs is None or theirs == mark:
            return None
        set_marks(patch, there, {key: mark})  # an earlier network left it behind
        return Change(Verb.PATCH, ref, says, patch.ops, before=there, subject=subject, shared=True)
    marks = {key: mark}
    if entries is None:
        patch.set_in(there, ("spec", field), [entry])
        marks[f"{LIST_MADE}{field}"] = "true"
    else:
        patch.test(("spec", field), entries).add(("spec", field, "-"), entry)
    set_marks(patch, there, marks)
    return Change(Verb.PATCH, ref, says, patch.ops, before=there, subject=subject, shared=True)


def remove_entry(network: Network, address: Address, api: CalicoApi, facts: Facts, subject: str) -> Change | None:
    """Takes an address out of the list into which this program put it for this network; None where it did not."""
    there = configuration(api, facts)
    key = f"{ENTRY}{word_of(address)}"
    mark = _entries_in(there).get(key) if there else None
    if there is None or mark is None or mark.uid != network.uid:
        return None
    patch = PatchBuilder.of_uid(uid_of(there))
    _remove_entries(patch, there, mark.field, {address})
    drop_marks(patch, there, [key])
    ref = api.bgp_configuration.ref("default")
    says = f"have Calico announce {address} no more"
    return Change(Verb.PATCH, ref, says, patch.ops, before=there, subject=subject, shared=True)


def covering(address: Address, field: str, api: CalicoApi, facts: Facts) -> str:
    """The larger network in a list that covers an address, which every node announces; "" where there is none, or
    Calico was told to announce single addresses only."""
    there = configuration(api, facts)
    if there is None or dig(there, "spec", "serviceLoadBalancerAggregation") == "Disabled":
        return ""
    for entry in dig(there, "spec", field, default=[]):
        cidr = network_of(entry.get("cidr"))
        if cidr is not None and cidr.version == address.version and address in cidr and cidr.num_addresses > 1:
            return str(cidr)
    return ""


def cidr_of(address: Address) -> str:
    """A single address as these lists have it: "203.0.113.5/32"."""
    return f"{address}/{address.max_prefixlen}"


def _places(there: Json, field: str, addresses: Collection[Address]) -> list[int]:
    wanted = {ip_network(address) for address in addresses}
    entries = dig(there, "spec", field, default=[])
    return [place for place, entry in enumerate(entries) if network_of(entry.get("cidr")) in wanted]


def network_of(text: object) -> Cidr | None:
    """A CIDR as Calico's objects have it; None where it is none."""
    try:
        return ip_network(str(text), strict=False)
    except ValueError:
        return None


def _remove_entries(patch: PatchBuilder, there: Json, field: str, addresses: Collection[Address]) -> list[Json] | None:
    """Removes entries from the list's end on, each tested; gives what is left."""
    entries: list[Json] | None = dig(there, "spec", field)
    places = _places(there, field, addresses)
    for place in reversed(places):
        patch.test(("spec", field, str(place)), (entries or [])[place])
    for place in reversed(places):
        patch.remove(("spec", field, str(place)))
    return None if entries is None else [entry for place, entry in enumerate(entries) if place not in places]
