"""Calico's BGPConfiguration "default", which is shared with everybody.

Fields: https://docs.tigera.io/calico/latest/reference/resources/bgpconfig. What this program writes into
BGPConfiguration is recorded there by annotations: the networks that need the asNumber it set, and each list entry it
added, so that it removes those and no others. asNumber is set only where there was none, and unset with the last
network.

Each entry of a list has an annotation `address.plumber.k8s.pf9.io/<address>` with the uids of its network and its VM:
an entry without it is not managed by this program, and one of another VM was written after the allocation that a run
wants to release. A list is written with a `test` of the whole list, so that no address comes in twice; the entries of
one plan go in one patch. An address whose `via` was edited changes lists when its VM is attached again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_network

from kubectl_yoshi.backends.calico.api import CalicoApi
from kubectl_yoshi.backends.ownership import (
    CREATED_BY_ANNOTATION,
    CREATED_BY_YOSHI,
    NEEDED_BY_PREFIX,
    add_annotations,
    get_annotations,
    get_needing_networks,
    is_created_by_yoshi,
    needed_by_annotation,
    remove_annotations,
    require_annotation,
    shared_object_annotations,
)
from kubectl_yoshi.model.addresses import Address, Cidr, parse_name_part, to_name_part
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import Attachment
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, differing_fields
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import Json, dig, new_object, resource_version_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, Snapshot

MAX_ASN = 2147483647
"""Calico's CRDs define ASNs as int32."""

LOAD_BALANCER_IPS = "serviceLoadBalancerIPs"
EXTERNAL_IPS = "serviceExternalIPs"

_FIELDS = Fields(defaults={"logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"})

ASN_ANNOTATION = f"{GROUP}/asNumber"
"""Annotation: the asNumber that this program set because there was none."""
LIST_CREATED_PREFIX = f"list.{GROUP}/"
"""Prefix of the annotation, named after a list, that records that this program created the list."""
ENTRY_PREFIX = f"address.{GROUP}/"
"""Prefix of the annotation, named after an address, that records the network a list entry belongs to."""


def get_configuration(api: CalicoApi, snapshot: Snapshot) -> Json | None:
    """Return BGPConfiguration "default"; None if it does not exist.

    Raises:
        PreconditionFailed: it cannot be read.
    """
    query = Query(api.bgp_configuration, name="default")
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(
            f"Calico's bgpconfiguration/default cannot be read: {reason}",
            "Ask an administrator for this permission; the ClusterRole yoshi-admin grants it.",
        )
    return found[0] if found else None


# -- the configuration as a whole ------------------------------------------------------------------------------------


def asn_conflicts(network: Network, api: CalicoApi, snapshot: Snapshot) -> list[str]:
    """Return why Calico cannot use the network's ASNs."""
    assert network.bgp is not None
    found = [
        f"Calico supports no ASN above {MAX_ASN}, and {field} is {asn}: choose --announce metallb-bgp, or another ASN"
        for field, asn in (("myASN", network.bgp.my_asn), ("remoteASN", network.bgp.remote_asn))
        if asn > MAX_ASN
    ]
    current_asn = dig(get_configuration(api, snapshot), "spec", "asNumber")
    if current_asn is not None and current_asn != network.bgp.my_asn:
        found.append(
            f"bgpconfiguration/default has asNumber {current_asn}, but this network requires myASN "
            f"{network.bgp.my_asn}: use --my-asn {current_asn}"
        )
    return found


def ensure_configuration(network: Network, api: CalicoApi, snapshot: Snapshot) -> tuple[Change, ...]:
    """Return the changes that create BGPConfiguration "default", or set its asNumber if it has none."""
    assert network.bgp is not None
    config = get_configuration(api, snapshot)
    ref = api.bgp_configuration.ref("default")
    asn = network.bgp.my_asn
    summary = f"set asNumber {asn} in Calico's {ref}"
    if config is None:
        annotations = {**shared_object_annotations(network), ASN_ANNOTATION: str(asn)}
        body = new_object(ref, {"spec": {"asNumber": asn}}, annotations=annotations)
        return (Change(Verb.CREATE, ref, summary, body=body),)
    if dig(config, "spec", "asNumber") is None:
        patch = PatchBuilder.for_uid(uid_of(config))
        patch.set_in(config, ("spec", "asNumber"), asn)
        add_annotations(patch, config, {ASN_ANNOTATION: str(asn), **needed_by_annotation(network)})
        return (Change(Verb.PATCH, ref, summary, patch.ops, before=config),)
    if ASN_ANNOTATION in get_annotations(config) and network.uid not in get_needing_networks(config):
        patch = PatchBuilder.for_uid(uid_of(config))
        add_annotations(patch, config, needed_by_annotation(network))
        return (
            Change(Verb.PATCH, ref, f"record that network {network.full_name} needs {ref}", patch.ops, before=config),
        )
    return ()


def remove_from_configuration(deleted_uids: Collection[str], api: CalicoApi, snapshot: Snapshot) -> Plan:
    """Return the changes that remove what was written into BGPConfiguration for these networks (by uid).

    They remove the entries, then asNumber, then the whole object if this program created it and nothing else is in it.
    """
    config = get_configuration(api, snapshot)
    if config is None:
        return Plan()
    annotations = get_annotations(config)
    ref = api.bgp_configuration.ref("default")
    entries = {key: entry for key, entry in _parse_entry_marks(config).items() if entry.uid in deleted_uids}
    needing_uids = get_needing_networks(config).keys() & set(deleted_uids)
    keys = [*entries, *(f"{NEEDED_BY_PREFIX}{uid}" for uid in sorted(needing_uids))]
    other_keys = [key for key in annotations if key.startswith((ENTRY_PREFIX, NEEDED_BY_PREFIX)) and key not in keys]
    lists = [] if other_keys else [key for key in annotations if key.startswith(LIST_CREATED_PREFIX)]
    if not keys and not lists:
        return Plan()
    spec = dict(config.get("spec") or {})
    patch = PatchBuilder.for_uid(uid_of(config))
    if other_keys:
        require_annotation(patch, config, min(other_keys))
    else:  # removed as a whole, so it must be unchanged since it was read
        patch.test(("metadata", "resourceVersion"), resource_version_of(config))
    for field in (LOAD_BALANCER_IPS, EXTERNAL_IPS):
        own_addresses = {
            parse_name_part(key.removeprefix(ENTRY_PREFIX)) for key, entry in entries.items() if entry.field == field
        }
        spec[field] = _remove_entries(patch, config, field, own_addresses)
    if not other_keys:
        if ASN_ANNOTATION in annotations and str(spec.get("asNumber")) == annotations[ASN_ANNOTATION]:
            patch.test(("spec", "asNumber"), spec.pop("asNumber")).remove(("spec", "asNumber"))
        for field in (LOAD_BALANCER_IPS, EXTERNAL_IPS):
            if f"{LIST_CREATED_PREFIX}{field}" in annotations and spec[field] == []:
                patch.ops.append({"op": "remove", "path": f"/spec/{field}"})
        keys += [*lists, *(key for key in (ASN_ANNOTATION, CREATED_BY_ANNOTATION) if key in annotations)]
        if is_created_by_yoshi(config) and not differing_fields(dict.fromkeys(spec), spec, _FIELDS):
            return sequential(
                Change(
                    Verb.DELETE, ref, f"delete {ref}", before=config, uid=uid_of(config),
                    resource_version=resource_version_of(config), ignore_not_found=True,
                )
            )  # fmt: skip
    remove_annotations(patch, config, keys)
    return sequential(Change(Verb.PATCH, ref, f"revert what was written into {ref}", patch.ops, before=config))


def owner_networks(api: CalicoApi, snapshot: Snapshot) -> dict[str, str]:
    """Return all networks with entries in Calico's BGP objects: uid -> "namespace/name"."""
    config = get_configuration(api, snapshot)
    found = {entry.uid: entry.network for entry in _parse_entry_marks(config).values()} if config else {}
    for obj in [*([config] if config else []), *snapshot.lookup(Query(api.bgp_peer))]:
        found |= get_needing_networks(obj)
    return found


# -- lists ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ListEntryMark:
    """The annotation for a list entry, which records why the entry exists.

    Attributes:
        uid: the network's uid.
        field: the list.
        network: "namespace/name"; "" if an earlier version of this program wrote it.
        vm_uid: uid of the VM that has the address; "" if an earlier version of this program wrote it.
    """

    uid: str
    field: str
    network: str
    vm_uid: str

    @classmethod
    def parse(cls, text: str) -> _ListEntryMark:
        """Parse an annotation's value."""
        return cls(*[*text.split(" "), "", "", ""][:4])

    def __str__(self) -> str:
        return f"{self.uid} {self.field} {self.network} {self.vm_uid}"


def _parse_entry_marks(config: Json) -> dict[str, _ListEntryMark]:
    """Return annotation key -> annotation, for all entries managed by yoshi."""
    return {
        key: _ListEntryMark.parse(value)
        for key, value in get_annotations(config).items()
        if key.startswith(ENTRY_PREFIX)
    }


def _entry_key(address: Address) -> str:
    """Return the key of the annotation for a list entry."""
    return f"{ENTRY_PREFIX}{to_name_part(address)}"


def add_entry(attachment: Attachment, field: str, api: CalicoApi, snapshot: Snapshot) -> Change | None:
    """Return the change that appends a VM's address to a list of BGPConfiguration; None if the list contains it.

    If the other list contains it, the change removes it from that one first. The list must be unchanged since it was
    read, so that an address is not added twice; the entries of several VMs of one plan are sent as one patch.
    """
    config = get_configuration(api, snapshot)
    ref = api.bgp_configuration.ref("default")
    network, address, owner = attachment.network, attachment.address, attachment.vm.full_name
    entry = {"cidr": to_host_cidr(address)}
    key = _entry_key(address)
    mark = str(_ListEntryMark(network.uid, field, network.full_name, attachment.vm.uid))
    summary = f"let Calico announce {address}"
    if config is None:
        annotations = {CREATED_BY_ANNOTATION: CREATED_BY_YOSHI, key: mark, f"{LIST_CREATED_PREFIX}{field}": "true"}
        body = new_object(ref, {"spec": {field: [entry]}}, annotations=annotations)
        return Change(Verb.CREATE, ref, summary, body=body, owner=owner)
    current_mark = _parse_entry_marks(config).get(key)
    if current_mark is not None and current_mark.uid == network.uid and current_mark.field != field:
        return _removal(config, current_mark, address, api, owner)
    entries = dig(config, "spec", field)
    patch = PatchBuilder.for_uid(uid_of(config))
    if _find_positions(config, field, {address}):
        other_mark = get_annotations(config).get(key)
        if other_mark is None or other_mark == mark:
            return None
        add_annotations(patch, config, {key: mark})  # an entry of an earlier network or VM
        return Change(Verb.PATCH, ref, summary, patch.ops, before=config, owner=owner)
    annotations = {key: mark}
    if entries is None:
        patch.set_in(config, ("spec", field), [entry])
        annotations[f"{LIST_CREATED_PREFIX}{field}"] = "true"
    else:
        patch.test(("spec", field), entries).add(("spec", field, "-"), entry)
    add_annotations(patch, config, annotations)
    return Change(Verb.PATCH, ref, summary, patch.ops, before=config, owner=owner)


def remove_entry(
    network: Network, address: Address, api: CalicoApi, snapshot: Snapshot, record: Allocation
) -> Change | None:
    """Return the change that removes a VM's address from the list that this program added it to for this network.

    Returns:
        None if it did not, or if the entry belongs to another VM by now.
    """
    config = get_configuration(api, snapshot)
    mark = _parse_entry_marks(config).get(_entry_key(address)) if config else None
    if config is None or mark is None or mark.uid != network.uid:
        return None
    if mark.vm_uid and record.uid and mark.vm_uid != record.uid:
        return None
    return _removal(config, mark, address, api, record.owner)


def _removal(config: Json, mark: _ListEntryMark, address: Address, api: CalicoApi, owner: str) -> Change:
    patch = PatchBuilder.for_uid(uid_of(config))
    _remove_entries(patch, config, mark.field, {address})
    remove_annotations(patch, config, [_entry_key(address)])
    ref = api.bgp_configuration.ref("default")
    summary = f"stop Calico from announcing {address}"
    return Change(Verb.PATCH, ref, summary, patch.ops, before=config, owner=owner)


def covering_cidr(address: Address, field: str, api: CalicoApi, snapshot: Snapshot) -> str:
    """Return the network in a list that covers an address and that every node therefore announces.

    Returns:
        "" if there is none, or if Calico is configured to announce single addresses only.
    """
    config = get_configuration(api, snapshot)
    if config is None or dig(config, "spec", "serviceLoadBalancerAggregation") == "Disabled":
        return ""
    for entry in dig(config, "spec", field, default=[]):
        cidr = parse_cidr_or_none(entry.get("cidr"))
        if cidr is not None and cidr.version == address.version and address in cidr and cidr.num_addresses > 1:
            return str(cidr)
    return ""


def to_host_cidr(address: Address) -> str:
    """Return a single address in the form of these lists: "203.0.113.5/32"."""
    return f"{address}/{address.max_prefixlen}"


def _find_positions(config: Json, field: str, addresses: Collection[Address]) -> list[int]:
    wanted = {ip_network(address) for address in addresses}
    entries = dig(config, "spec", field, default=[])
    return [position for position, entry in enumerate(entries) if parse_cidr_or_none(entry.get("cidr")) in wanted]


def parse_cidr_or_none(text: object) -> Cidr | None:
    """Parse a CIDR of Calico's objects; None if it is not a CIDR."""
    try:
        return ip_network(str(text), strict=False)
    except ValueError:
        return None


def _remove_entries(patch: PatchBuilder, config: Json, field: str, addresses: Collection[Address]) -> list[Json] | None:
    """Remove entries, from the end of the list, each with a test; return the remaining ones."""
    entries: list[Json] | None = dig(config, "spec", field)
    positions = _find_positions(config, field, addresses)
    for position in reversed(positions):
        patch.test(("spec", field, str(position)), (entries or [])[position])
    for position in reversed(positions):
        patch.remove(("spec", field, str(position)))
    return None if entries is None else [entry for position, entry in enumerate(entries) if position not in positions]
