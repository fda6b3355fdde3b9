"""Announcing by MetalLB, on the nodes' LAN (ARP, NDP) or by BGP: a pool and an advertisement for each network.

Each address outside the network's CIDR has a pool of its own, so that no list is shared; the network's advertisement
chooses them by OUTSIDE_CIDR_LABEL, which the pool of the CIDR lacks: MetalLB adds what an advertisement names and what
it selects, without looking for duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from kubectl_yoshi.backends.bgp_peers import remove_peers
from kubectl_yoshi.backends.ensure import ensure_fields, spec_fields
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.metallb.bgp_peers import metallb_bgp_peers
from kubectl_yoshi.backends.ownership import (
    NETWORK_UID_ANNOTATION,
    get_annotations,
    get_needing_networks,
    get_owner_networks,
    is_created_for,
    ownership_annotations,
)
from kubectl_yoshi.backends.public.announcer import ServiceTemplate
from kubectl_yoshi.model.addresses import Address, to_name_part
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import Attachment, NetworkConflict
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, UnreadableError
from kubectl_yoshi.model.matching import Fields
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import (
    Json,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    name_of,
    namespace_of,
    new_object,
    short_hash,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot

OUTSIDE_CIDR_LABEL = f"{GROUP}/outsideCIDR"
OPTIONAL_FIELDS = ("interfaces", "nodeSelectors", "peers", "ipAddressPools", "ipAddressPoolSelectors")
"""Fields of an advertisement that are removed when the network's spec no longer contains them."""

# autoAssign is not declared: the default in MetalLB's CRD is true, so if the API server omits the field, it is false.
_SELECTORS = frozenset({"ipAddressPoolSelectors", "nodeSelectors"})
_FIELDS = Fields(
    unordered=_SELECTORS | {"addresses", "interfaces", "ipAddressPools", "peers"},
    whole=_SELECTORS,
)


class MetalLb:
    """An announcer that uses MetalLB.

    Args:
        name: "metallb-l2" or "metallb-bgp".
        advertisement: the resource that configures the announcement.
        status: the resource in which MetalLB's speakers report what they announce.
    """

    def __init__(self, name: str, advertisement: Resource, status: Resource) -> None:
        self.name = name
        self.advertisement = advertisement
        self.status = status
        self.speaks_bgp = advertisement == metallb.BGP_ADVERTISEMENT

    def missing_apis(self, served: ServedApis) -> str:
        return "" if metallb.is_installed(served) else f"MetalLB's pools ({metallb.POOL.full_name})"

    # -- networks ------------------------------------------------------------------------------------------------

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        found = []
        pools = metallb.pools(snapshot)
        if reason := snapshot.unreadable_reason(Query(metallb.POOL)):
            return (
                NetworkConflict(
                    f"cannot check whether MetalLB has these addresses already: {reason}", is_unreadable=True
                ),
            )
        own_namespace = metallb.own_namespace(snapshot)
        for pool in pools:
            if is_created_for(pool, network) or not network.cidr:
                continue
            if name_of(pool) == object_name(network) and namespace_of(pool) == own_namespace:
                found.append(f"ipaddresspool/{name_of(pool)} exists and was not created for this network")
            elif metallb.shares(pool, network) and not metallb.has_exactly(pool, network):
                addresses = ", ".join(dig(pool, "spec", "addresses", default=[])[:3])
                found.append(f"{network.cidr} overlaps ipaddresspool/{name_of(pool)} ({addresses})")
        existing = self._find_advertisement(network, snapshot)
        kind = self.advertisement.kind.lower()
        if reason := snapshot.unreadable_reason(Query(self.advertisement, own_namespace)):
            ref = f"{kind}/{object_name(network)}"
            return (NetworkConflict(f"cannot check whether {ref} already exists: {reason}", is_unreadable=True),)
        if existing is not None and not is_created_for(existing, network):
            found.append(f"{kind}/{name_of(existing)} exists and was not created for this network")
        found += [
            f"MetalLB cannot reach {peer.address} through {peer.reachable_by}: leave reachableBy out, and use "
            "multihop if the router is not on the nodes' own network"
            for peer in (network.bgp.peers if network.bgp else ())
            if peer.reachable_by is not None
        ]
        return (*map(NetworkConflict, found), *metallb_bgp_peers(snapshot).conflicts(network, snapshot))

    def ensure(self, network: Network, snapshot: Snapshot) -> Plan:
        own_namespace = metallb.own_namespace(snapshot)
        peer_changes, peers = metallb_bgp_peers(snapshot).ensure(network, snapshot) if self.speaks_bgp else ((), ())
        first: list[Change] = list(peer_changes)
        pool = find_pool(network, snapshot)
        pool_name = object_name(network)
        if network.cidr is not None and pool is None:
            ref = metallb.POOL.ref(pool_name, own_namespace)
            first.append(_create(ref, pool_spec([str(network.cidr)]), network))
        elif pool is not None:
            pool_name = name_of(pool)
            if is_created_for(pool, network):
                first += ensure_fields(metallb.POOL, pool, spec_fields(pool_spec([str(network.cidr)])), _FIELDS)
        spec = self._advertisement_spec(network, pool_name, peers)
        existing = self._find_advertisement(network, snapshot)
        if existing is None:
            ref = self.advertisement.ref(object_name(network), own_namespace)
            second: list[Change] = [_create(ref, spec, network)]
        else:
            fields = spec_fields({**dict.fromkeys(OPTIONAL_FIELDS), **spec})
            second = ensure_fields(self.advertisement, existing, fields, _FIELDS)
        return Plan(tuple(tuple(stage) for stage in (first, second, self._remove_former(network, snapshot)) if stage))

    def _remove_former(self, network: Network, snapshot: Snapshot) -> list[Change]:
        """Return the changes that delete the other kind of advertisement and the peers of the network's former spec."""
        if not network.is_edited:
            return []
        own_namespace = metallb.own_namespace(snapshot)
        former = [
            _delete(resource, obj)
            for resource in (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT)
            if resource != self.advertisement
            for obj in snapshot.lookup(Query(resource, own_namespace))
            if is_created_for(obj, network)
        ]
        return [*former, *metallb_bgp_peers(snapshot).remove_former(network, snapshot)]

    def _find_advertisement(self, network: Network, snapshot: Snapshot) -> Json | None:
        own_namespace = metallb.own_namespace(snapshot)
        snapshot.lookup(Query(self.advertisement, own_namespace))
        return snapshot.get_object(self.advertisement, object_name(network), own_namespace)

    def _advertisement_spec(self, network: Network, pool_name: str, peers: Sequence[str]) -> Json:
        spec: Json = {}
        if network.cidr is not None:
            spec["ipAddressPools"] = [pool_name]
        spec["ipAddressPoolSelectors"] = [{"matchLabels": _outside_labels(network)}]
        if labels := network.options.get("nodeSelector"):
            spec["nodeSelectors"] = [{"matchLabels": dict(labels)}]
        if self.speaks_bgp:
            spec |= {"aggregationLength": 32, "aggregationLengthV6": 128}
            if peers:
                spec["peers"] = list(peers)
        elif interfaces := network.options.get("interfaces"):
            spec["interfaces"] = list(interfaces)
        return spec

    def health(self, network: Network, snapshot: Snapshot) -> str:
        if network.cidr is not None and find_pool(network, snapshot) is None:
            return f"ipaddresspool/{object_name(network)} is missing"
        return metallb.configuration_error(snapshot)

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        """Return that MetalLB has not loaded the pool; older versions than 0.15.3 do not report that they have."""
        pool = find_pool(network, snapshot)
        if pool is None or pool.get("status") or not metallb.reports_state(snapshot):
            return ""
        return f"MetalLB has not loaded ipaddresspool/{name_of(pool)}"

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        pool = find_pool(network, snapshot)
        absence = f"{object_name(network)} ({snapshot.describe_absence(Query(metallb.POOL))})"
        shown = name_of(pool) if pool else absence if network.cidr else "one per address"
        pool_row = ("Pool", f"{shown} in namespace {metallb.own_namespace(snapshot)}")
        return (pool_row, *metallb_bgp_peers(snapshot).describe(network, snapshot))

    def teardown(self, network: Network, snapshot: Snapshot) -> Plan:
        return remove_for_networks({network.uid}, snapshot)

    # -- addresses -----------------------------------------------------------------------------------------------

    def service_template(self, network: Network, address: Address) -> ServiceTemplate:
        return ServiceTemplate({metallb.LOAD_BALANCER_IPS_ANNOTATION: str(address)}, {"type": "LoadBalancer"})

    def ensure_prerequisites(self, network: Network, address: Address, snapshot: Snapshot, owner: str) -> Plan:
        """Return a pool for a single address outside the CIDR, unless a pool contains it already."""
        if address in network:
            return Plan()
        pools = metallb.pools(snapshot)
        if reason := snapshot.unreadable_reason(Query(metallb.POOL)):
            raise UnreadableError(f"cannot check whether MetalLB has these addresses already: {reason}", ASK_ADMIN_HINT)
        if any(metallb.covers(pool, address) for pool in pools):
            return Plan()
        spec = pool_spec([f"{address}/{address.max_prefixlen}"])
        name = f"yoshi-{to_name_part(address)}-{short_hash((network.uid,))}"
        ref = metallb.POOL.ref(name, metallb.own_namespace(snapshot))
        return sequential(_create(ref, spec, network, owner, _outside_labels(network)))

    def announce(self, attachment: Attachment, service: Json | None, snapshot: Snapshot) -> Plan:
        """Return no changes: MetalLB announces the Service itself."""
        return Plan()

    def withdraw(self, network: Network, address: Address, record: Allocation, snapshot: Snapshot) -> Plan:
        if address in network:
            return Plan()
        own_pools = [p for p in metallb.pools(snapshot) if is_created_for(p, network) and metallb.covers(p, address)]
        return Plan((tuple(_delete(metallb.POOL, pool, record.owner) for pool in own_pools),) if own_pools else ())

    def wait_conditions(self, address: Address, ref: ObjectRef, service: Json | None, owner: str) -> tuple[Change, ...]:
        if service is not None and metallb.is_served(service, address):
            return ()
        summary = f"wait until MetalLB has assigned {address} to {ref}"
        condition = partial(metallb.allocation_status, ref, address)
        return (Change(Verb.WAIT, ref, summary, owner=owner, wait_for="condition", condition=condition),)

    def warnings(self, network: Network, address: Address, snapshot: Snapshot) -> tuple[str, ...]:
        if address in network:
            return ()
        for pool in metallb.pools(snapshot):
            if metallb.covers(pool, address) and not is_created_for(pool, network):
                return (f"{address} comes from ipaddresspool/{name_of(pool)}, and is announced like that pool",)
        return ()

    def get_announcement(self, service: Json, vmi: Json | None, snapshot: Snapshot) -> tuple[str, str]:
        if not dig(service, "status", "loadBalancer", "ingress"):
            return metallb.pending_reason(service, snapshot) or "MetalLB has not assigned it yet", ""
        return self.name, ",".join(self.announcing_nodes(service, snapshot))

    def announcing_nodes(self, service: Json, snapshot: Snapshot) -> list[str]:
        """Return the nodes whose speakers report that they announce a Service."""
        return metallb.nodes_announcing(service, self.status, snapshot)


def object_name(network: Network) -> str:
    """Return "<namespace>.<name>", since all objects of networks are in MetalLB's namespace."""
    return f"{network.namespace}.{network.name}"


def _outside_labels(network: Network) -> dict[str, str]:
    """Return the labels of the pools of addresses outside the CIDR.

    The pool of the CIDR itself lacks one of them: an advertisement that both names and selects a pool would announce it
    twice.
    """
    return {metallb.NETWORK_LABEL: network.uid, **({OUTSIDE_CIDR_LABEL: "true"} if network.cidr is not None else {})}


def pool_spec(addresses: list[str]) -> Json:
    """Return the spec of a pool from which MetalLB assigns nothing automatically; the allocations decide instead."""
    return {"addresses": addresses, "autoAssign": False, "avoidBuggyIPs": False}


def find_pool(network: Network, snapshot: Snapshot) -> Json | None:
    """Return the network's pool: its own one, or another one with exactly its addresses.

    Returns:
        None if there is none, or if the network has no CIDR.
    """
    if network.cidr is None:
        return None
    pools = metallb.pools(snapshot)
    own_pools = [pool for pool in pools if is_created_for(pool, network) and name_of(pool) == object_name(network)]
    return next(iter(own_pools + [pool for pool in pools if metallb.has_exactly(pool, network)]), None)


def remove_for_networks(deleted_uids: set[str], snapshot: Snapshot) -> Plan:
    """Return the changes that delete all objects created for these networks (by uid), first the advertisements."""
    snapshot.lookup(
        *(Query(r) for r in (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.POOL, metallb.PEER))
    )
    first = [
        _delete(resource, obj)
        for resource in (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT)
        for obj in snapshot.lookup(Query(resource))
        if get_annotations(obj).get(NETWORK_UID_ANNOTATION) in deleted_uids
    ]
    second = [
        _delete(metallb.POOL, pool)
        for pool in metallb.pools(snapshot)
        if get_annotations(pool).get(NETWORK_UID_ANNOTATION) in deleted_uids
    ]
    second += remove_peers(metallb.PEER, deleted_uids, snapshot)
    return Plan(tuple(tuple(stage) for stage in (first, second) if stage))


def announces(service: Json) -> bool:
    """Return whether a Service managed by yoshi is configured to be announced by MetalLB."""
    return metallb.LOAD_BALANCER_IPS_ANNOTATION in annotations_of(service)


def owner_networks(snapshot: Snapshot) -> dict[str, str]:
    """Return all networks with MetalLB objects: uid -> "namespace/name"."""
    resources = (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.POOL)
    found: dict[str, str] = {}
    for obj in snapshot.lookup(*(Query(resource) for resource in resources)):
        found |= get_owner_networks(obj)
    for peer in snapshot.lookup(Query(metallb.PEER)):
        found |= get_needing_networks(peer)
    return found


def _create(
    ref: ObjectRef, spec: Json, network: Network, owner: str = "", labels: Mapping[str, str] = MappingProxyType({})
) -> Change:
    body = new_object(
        ref,
        {"spec": spec},
        labels={metallb.NETWORK_LABEL: network.uid, **labels},
        annotations=ownership_annotations(network),
    )
    return Change(Verb.CREATE, ref, f"create {ref.resource.kind.lower()} {ref.name}", body=body, owner=owner)


def _delete(resource: Resource, obj: Json, owner: str = "") -> Change:
    ref = resource.ref(name_of(obj), namespace_of(obj))
    return Change(Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj), owner=owner, ignore_not_found=True)
