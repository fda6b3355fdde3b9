"""Announcing by MetalLB, on the nodes' LAN (ARP, NDP) or by BGP: a pool and an advertisement for each network.

Each address outside the network's CIDR has a pool of its own, so that no list is shared; the network's advertisement
chooses them by label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kubectl_yoshi.backends import metallb
from kubectl_yoshi.backends.bgp_peers import leave_peers
from kubectl_yoshi.backends.marks import MARK_UID, is_marked_for, marked, marks_of, needing, users_of
from kubectl_yoshi.backends.metallb_peers import peers_of_metallb
from kubectl_yoshi.backends.public_announcer import Shape
from kubectl_yoshi.model.addresses import Address, word_of
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.errors import ASK_FOR_IT, Unseen
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.matching import Fields, differing
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import (
    Json,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    name_of,
    namespace_of,
    short_hash,
    uid_of,
)

OUTSIDE_LABEL = f"{GROUP}/outsideCIDR"
OPTIONAL = ("interfaces", "nodeSelectors", "peers", "ipAddressPools", "ipAddressPoolSelectors")
"""Fields of an advertisement that are taken away again when the network does not want them any more."""

# autoAssign is not declared: its default, true, is in MetalLB's CRD, so where the API server shows none, it is false.
_SELECTORS = frozenset({"ipAddressPoolSelectors", "nodeSelectors"})
_FIELDS = Fields(
    unordered=_SELECTORS | {"addresses", "interfaces", "ipAddressPools", "peers"},
    whole=_SELECTORS,
)


class MetalLb:
    """Announces by MetalLB.

    Args:
        name: "metallb-l2" or "metallb-bgp".
        advertisement: the resource that makes it so.
        status: the resource in which speakers say what they announce.
    """

    def __init__(self, name: str, advertisement: Resource, status: Resource) -> None:
        self.name = name
        self._advertisement = advertisement
        self._status = status
        self._speaks_bgp = advertisement == metallb.BGP_ADVERTISEMENT

    def missing(self, served: Served) -> str:
        """See Announcer."""
        return "" if metallb.is_installed(served) else f"MetalLB's pools ({metallb.POOL.full_name})"

    # -- networks ------------------------------------------------------------------------------------------------

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """See Announcer."""
        found = []
        pools = metallb.pools(facts)
        if why := facts.why_unknown(Read(metallb.POOL)):
            return (Obstacle(f"whether MetalLB has these addresses already cannot be told: {why}", unseen=True),)
        home = metallb.home(facts)
        for pool in pools:
            if is_marked_for(pool, network) or not network.cidr:
                continue
            if name_of(pool) == object_name(network) and namespace_of(pool) == home:
                found.append(f"ipaddresspool/{name_of(pool)} exists and was not made for this network")
            elif metallb.shares(pool, network) and not metallb.is_just(pool, network):
                has = ", ".join(dig(pool, "spec", "addresses", default=[])[:3])
                found.append(f"{network.cidr} overlaps ipaddresspool/{name_of(pool)} ({has})")
        there = self._present_advertisement(network, facts)
        kind = self._advertisement.kind.lower()
        if why := facts.why_unknown(Read(self._advertisement, home)):
            ref = f"{kind}/{object_name(network)}"
            return (Obstacle(f"whether there is a {ref} already cannot be told: {why}", unseen=True),)
        if there is not None and not is_marked_for(there, network):
            found.append(f"{kind}/{name_of(there)} exists and was not made for this network")
        found += [
            f"MetalLB cannot be told to reach {peer.address} through {peer.reachable_by}: leave reachableBy out, and "
            "say multihop if the router is not on the nodes' own network"
            for peer in (network.bgp.peers if network.bgp else ())
            if peer.reachable_by is not None
        ]
        return (*map(Obstacle, found), *peers_of_metallb(facts).obstacles(network, facts))

    def build(self, network: Network, facts: Facts) -> Plan:
        """See Announcer."""
        home = metallb.home(facts)
        peer_changes, peers = peers_of_metallb(facts).build(network, facts) if self._speaks_bgp else ((), ())
        first: list[Change] = list(peer_changes)
        pool = find_pool(network, facts)
        pool_name = object_name(network)
        if network.cidr is not None and pool is None:
            first.append(_create(metallb.POOL, pool_name, home, pool_spec([str(network.cidr)]), network))
        elif pool is not None:
            pool_name = name_of(pool)
            if is_marked_for(pool, network):
                first += _mended(metallb.POOL, pool, pool_spec([str(network.cidr)]), ())
        spec = self._advertisement_spec(network, pool_name, peers)
        there = self._present_advertisement(network, facts)
        if there is None:
            second: list[Change] = [_create(self._advertisement, object_name(network), home, spec, network)]
        else:
            second = _mended(self._advertisement, there, spec, OPTIONAL)
        return Plan(tuple(tuple(stage) for stage in (first, second, self._former(network, facts)) if stage))

    def _former(self, network: Network, facts: Facts) -> list[Change]:
        """What takes back the advertisement of the other kind and the peers that the network had before it was
        changed."""
        if not network.is_edited:
            return []
        home = metallb.home(facts)
        former = [
            _delete(resource, obj)
            for resource in (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT)
            if resource != self._advertisement
            for obj in facts.ask(Read(resource, home))
            if is_marked_for(obj, network)
        ]
        return [*former, *peers_of_metallb(facts).left_by(network, facts)]

    def _present_advertisement(self, network: Network, facts: Facts) -> Json | None:
        home = metallb.home(facts)
        facts.ask(Read(self._advertisement, home))
        return facts.one(self._advertisement, object_name(network), home)

    def _advertisement_spec(self, network: Network, pool_name: str, peers: Sequence[str]) -> Json:
        spec: Json = {}
        if network.cidr is not None:
            spec["ipAddressPools"] = [pool_name]
        spec["ipAddressPoolSelectors"] = [{"matchLabels": _outside_labels(network)}]
        if labels := network.options.get("nodeSelector"):
            spec["nodeSelectors"] = [{"matchLabels": dict(labels)}]
        if self._speaks_bgp:
            spec |= {"aggregationLength": 32, "aggregationLengthV6": 128}
            if peers:
                spec["peers"] = list(peers)
        elif interfaces := network.options.get("interfaces"):
            spec["interfaces"] = list(interfaces)
        return spec

    def problem(self, network: Network, facts: Facts) -> str:
        """See Announcer."""
        if network.cidr is not None and find_pool(network, facts) is None:
            return f"ipaddresspool/{object_name(network)} is missing"
        return metallb.configuration_error(facts)

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """See Announcer."""
        pool = find_pool(network, facts)
        absence = f"{object_name(network)} ({facts.absence(Read(metallb.POOL))})"
        shown = name_of(pool) if pool else absence if network.cidr else "one per address"
        pool_row = ("Pool", f"{shown} in namespace {metallb.home(facts)}")
        return (pool_row, *peers_of_metallb(facts).describe(network, facts))

    def demolish(self, network: Network, facts: Facts) -> Plan:
        """See Announcer."""
        return take_away({network.uid}, facts)

    # -- addresses -----------------------------------------------------------------------------------------------

    def shape(self, network: Network, address: Address) -> Shape:
        """See Announcer."""
        return Shape({metallb.WANTED_IPS: str(address)}, {"type": "LoadBalancer"})

    def permit(self, network: Network, address: Address, facts: Facts, subject: str) -> Plan:
        """See Announcer. For an address outside the CIDR, a pool of just this address, unless a pool has it already."""
        if address in network:
            return Plan()
        pools = metallb.pools(facts)
        if why := facts.why_unknown(Read(metallb.POOL)):
            raise Unseen(f"whether MetalLB has these addresses already cannot be told: {why}", ASK_FOR_IT)
        if any(metallb.covers(pool, address) for pool in pools):
            return Plan()
        spec = pool_spec([f"{address}/{address.max_prefixlen}"])
        name = f"yoshi-{word_of(address)}-{short_hash((network.uid,))}"
        change = _create(metallb.POOL, name, metallb.home(facts), spec, network, subject, _outside_labels(network))
        return in_order(change)

    def announce(
        self, network: Network, address: Address, ref: ObjectRef, service: Json | None, facts: Facts, subject: str
    ) -> Plan:
        """See Announcer. MetalLB does the rest."""
        return Plan()

    def withdraw(self, network: Network, address: Address, facts: Facts, subject: str) -> Plan:
        """See Announcer."""
        if address in network:
            return Plan()
        mine = [p for p in metallb.pools(facts) if is_marked_for(p, network) and metallb.covers(p, address)]
        return Plan((tuple(_delete(metallb.POOL, pool, subject) for pool in mine),) if mine else ())

    def awaited(self, address: Address, ref: ObjectRef, service: Json | None, subject: str) -> tuple[Change, ...]:
        """See Announcer."""
        if service is not None and metallb.is_served(service, address):
            return ()
        says = f"wait until MetalLB has given {address} to {ref}"
        return (Change(Verb.WAIT, ref, says, body=str(address), subject=subject, wait_for="served"),)

    def concerns(self, network: Network, address: Address, facts: Facts) -> tuple[str, ...]:
        """See Announcer."""
        if address in network:
            return ()
        for pool in metallb.pools(facts):
            if metallb.covers(pool, address) and not is_marked_for(pool, network):
                return (f"{address} comes from ipaddresspool/{name_of(pool)}, and is announced as that pool is",)
        return ()

    def announced(self, service: Json, vmi: Json | None, facts: Facts) -> tuple[str, str]:
        """See Announcer."""
        if not dig(service, "status", "loadBalancer", "ingress"):
            return metallb.why_not_served(service, facts) or "MetalLB has not given it yet", ""
        return self.name, metallb.nodes_announcing(service, self._status, facts)


def object_name(network: Network) -> str:
    """ "<namespace>.<name>": what is made for a network is in MetalLB's namespace, networks are in any."""
    return f"{network.namespace}.{network.name}"


def _outside_labels(network: Network) -> dict[str, str]:
    """The labels of the pools of addresses outside the CIDR. The pool of the CIDR itself does not have all of them: one
    that an advertisement both names and selects would be announced twice."""
    return {metallb.NETWORK_LABEL: network.uid, **({OUTSIDE_LABEL: "true"} if network.cidr is not None else {})}


def pool_spec(addresses: list[str]) -> Json:
    """A pool that gives out no address unasked; what may be given out is the ledger's to say."""
    return {"addresses": addresses, "autoAssign": False, "avoidBuggyIPs": False}


def find_pool(network: Network, facts: Facts) -> Json | None:
    """The network's pool: ours, or another's that has just its addresses; None where there is none or no CIDR."""
    if network.cidr is None:
        return None
    pools = metallb.pools(facts)
    ours = [pool for pool in pools if is_marked_for(pool, network) and name_of(pool) == object_name(network)]
    return next(iter(ours + [pool for pool in pools if metallb.is_just(pool, network)]), None)


def take_away(gone: set[str], facts: Facts) -> Plan:
    """Takes away everything that was made for these networks (by uid), the advertisements first."""
    facts.ask(*(Read(r) for r in (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.POOL, metallb.PEER)))
    first = [
        _delete(resource, obj)
        for resource in (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT)
        for obj in facts.ask(Read(resource))
        if marked(obj).get(MARK_UID) in gone
    ]
    second = [_delete(metallb.POOL, pool) for pool in metallb.pools(facts) if marked(pool).get(MARK_UID) in gone]
    second += leave_peers(metallb.PEER, gone, facts)
    return Plan(tuple(tuple(stage) for stage in (first, second) if stage))


def announces(service: Json) -> bool:
    """Whether a Service of this program's is made to be announced by MetalLB."""
    return metallb.WANTED_IPS in annotations_of(service)


def users(facts: Facts) -> dict[str, str]:
    """All networks for which something of MetalLB's was made: uid -> "namespace/name"."""
    resources = (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.POOL)
    found: dict[str, str] = {}
    for obj in facts.ask(*(Read(resource) for resource in resources)):
        found |= users_of(obj)
    for peer in facts.ask(Read(metallb.PEER)):
        found |= needing(peer)
    return found


def _create(
    resource: Resource,
    name: str,
    namespace: str,
    spec: Json,
    network: Network,
    subject: str = "",
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Change:
    ref = resource.ref(name, namespace)
    body = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {metallb.NETWORK_LABEL: network.uid, **labels},
            "annotations": marks_of(network),
        },
        "spec": spec,
    }
    return Change(Verb.CREATE, ref, f"make {resource.kind.lower()} {name}", body=body, subject=subject)


def _mended(resource: Resource, obj: Json, wanted: Json, optional: Sequence[str]) -> list[Change]:
    ref = resource.ref(name_of(obj), namespace_of(obj))
    patch = PatchBuilder.of_uid(uid_of(obj))
    stale = differing({**dict.fromkeys(optional), **wanted}, obj.get("spec"), _FIELDS)
    for key in stale:
        if key in wanted:
            patch.set_in(obj, ("spec", key), wanted[key])
        else:
            patch.unset_in(obj, ("spec", key))
    return [Change(Verb.PATCH, ref, f"mend {ref}", patch.ops, before=obj)] if stale else []


def _delete(resource: Resource, obj: Json, subject: str = "") -> Change:
    ref = resource.ref(name_of(obj), namespace_of(obj))
    return Change(
        Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj), subject=subject, tolerate_missing=True
    )
