"""The public addresses of VMs with what makes them reachable: Service, endpoints, announcing nodes, BGP sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from kubectl_yoshi.backends.calico.node_status import iter_peers, node_status_resource
from kubectl_yoshi.backends.metallb import frr
from kubectl_yoshi.backends.public.annotations import list_requested_addresses
from kubectl_yoshi.backends.public.announcer import Announcer
from kubectl_yoshi.backends.public.backend import get_announcer
from kubectl_yoshi.backends.public.foreign_services import find_foreign_service, has_address
from kubectl_yoshi.backends.public.metallb import MetalLb
from kubectl_yoshi.backends.public.services import SERVICE, is_for_network, service_query, service_ref
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError
from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, NamespacedName, ObjectRef, Resource, dig, labels_of, name_of, namespace_of
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.inventory import InventoryRow

ENDPOINT_SLICE = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

PLUGIN = "public"
ESTABLISHED = "Established"
ROUTER_SESSIONS_HINT = "on the router run `vtysh -c 'show bgp summary'`, `birdc show protocols` or `gobgp neighbor`"


@dataclass(frozen=True)
class PublicAddress:
    """A public address that a VM holds and requests.

    Attributes:
        vm: the VM.
        row: the allocation.
        announcer: what announces the addresses of its network.
        service: the VM's Service for the network, or one that is not managed by yoshi; None if there is none.
    """

    vm: Vm
    row: InventoryRow
    announcer: Announcer
    service: Json | None

    @property
    def network(self) -> Network:
        """Return the network."""
        return self.row.network

    @property
    def address(self) -> Address:
        """Return the address."""
        return parse_address(self.row.address)

    @property
    def service_ref(self) -> ObjectRef:
        """Return the reference of the Service, or of the one that is missing."""
        if self.service is None:
            return service_ref(self.vm, self.network)
        return SERVICE.ref(name_of(self.service), namespace_of(self.service))

    @property
    def is_assigned(self) -> bool:
        """Return whether the Service has the address, rather than only requesting it."""
        return self.service is not None and has_address(self.service, self.address)

    @property
    def is_local(self) -> bool:
        """Return whether only nodes with a ready endpoint of the Service may announce the address."""
        return bool(dig(self.service, "spec", "externalTrafficPolicy") == "Local")

    @property
    def metallb(self) -> MetalLb | None:
        """Return the announcer if it is MetalLB."""
        return self.announcer if isinstance(self.announcer, MetalLb) else None


def public_networks(facts: Facts) -> list[Network]:
    """Return the public networks of the scope."""
    return [network for network in facts.networks if network.plugin == PLUGIN]


def metallb_announcer(network: Network, facts: Facts) -> MetalLb | None:
    """Return the announcer of a network if it is MetalLB."""
    announcer = get_announcer(network, facts.served)
    return announcer if isinstance(announcer, MetalLb) else None


def list_public_addresses(facts: Facts) -> tuple[PublicAddress, ...]:
    """Return the public addresses that VMs hold and request.

    Raises:
        CannotCheckError: VMs or Services cannot be read.
    """
    if not public_networks(facts):
        return ()
    facts.require(SERVICE)
    held = [
        (vm, row)
        for vm, row in facts.attachments
        if row.network.plugin == PLUGIN and parse_address(row.address) in list_requested_addresses(vm, row.network)
    ]
    facts.snapshot.answer_from_lists(service_query(vm, row.network) for vm, row in held)
    return tuple(
        PublicAddress(vm, row, get_announcer(row.network, facts.served), _find_service(vm, row, facts))
        for vm, row in held
    )


def _find_service(vm: Vm, row: InventoryRow, facts: Facts) -> Json | None:
    ref = service_ref(vm, row.network)
    own = facts.snapshot.get_object(SERVICE, ref.name, str(ref.namespace))
    if own is not None and is_for_network(own, row.network):
        return own
    return find_foreign_service(vm, parse_address(row.address), facts.snapshot)


def running_node(vm: Vm, facts: Facts) -> str:
    """Return the node on which a VM runs; "" if it does not run.

    Raises:
        CannotCheckError: VMIs cannot be read.
    """
    instance = facts.instance(vm)
    is_running = dig(instance, "status", "phase") == "Running"
    return str(dig(instance, "status", "nodeName", default="")) if is_running else ""


def announcing_nodes(public: PublicAddress, facts: Facts) -> frozenset[str] | None:
    """Return the nodes that report that they announce an address; None if its announcer does not report that.

    Raises:
        CannotCheckError: the reports cannot be read.
    """
    speaker = public.metallb
    if speaker is None or public.service is None or not facts.is_served(speaker.status):
        return None
    facts.product_objects(speaker.status)
    return frozenset(speaker.announcing_nodes(public.service, facts.snapshot))


def is_announced(public: PublicAddress, facts: Facts) -> bool:
    """Return whether the nodes that should announce an address report that they do.

    Raises:
        CannotCheckError: VMIs, or the reports, cannot be read.
    """
    nodes = announcing_nodes(public, facts) or frozenset()
    return running_node(public.vm, facts) in nodes if public.is_local else bool(nodes)


def list_endpoints(service: Json, facts: Facts) -> list[Json]:
    """Return the endpoints in the EndpointSlices of a Service.

    Raises:
        CannotCheckError: they cannot be read.
    """
    facts.require(ENDPOINT_SLICE)
    slices = facts.snapshot.group_by(ENDPOINT_SLICE, _service_of_slice).get((namespace_of(service), name_of(service)))
    return [endpoint for one in slices or () for endpoint in one.get("endpoints") or ()]


def _service_of_slice(endpoint_slice: Json) -> NamespacedName:
    return namespace_of(endpoint_slice), labels_of(endpoint_slice).get(SERVICE_NAME_LABEL, "")


def can_serve(endpoint: Json) -> bool:
    """Return whether announcers count an endpoint: it is ready (also if unknown), or serves until it terminates."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("ready", True) in (True, None) or conditions.get("serving") is True


def has_endpoint(public: PublicAddress, facts: Facts) -> bool:
    """Return whether an endpoint of an address's Service can serve, on the node of the VM if only that counts.

    Raises:
        CannotCheckError: EndpointSlices, or VMIs, cannot be read.
    """
    if public.service is None:
        return False
    node = running_node(public.vm, facts) if public.is_local else ""
    endpoints = list_endpoints(public.service, facts)
    return any(can_serve(one) and (not node or one.get("nodeName") in (node, None)) for one in endpoints)


@dataclass(frozen=True)
class BgpSession:
    """The session of a node with a router.

    Attributes:
        ref: the object that reports it.
        node: the node.
        peer: the router.
        state: the state of the BGP session, such as "Established" or "Active".
    """

    ref: ObjectRef
    node: str
    peer: Address
    state: str


def iter_sessions(network: Network, facts: Facts) -> Iterator[BgpSession]:
    """Yield the reported sessions of the nodes with a network's routers.

    Raises:
        CannotCheckError: after the others, if nothing reports the sessions with a router.
    """
    peers = {peer.address for peer in network.bgp.peers} if network.bgp else set()
    is_metallb = metallb_announcer(network, facts) is not None
    reported = _metallb_sessions(facts) if is_metallb else _calico_sessions(facts)
    missing = set(peers)
    for session in reported:
        if session.peer in peers:
            missing.discard(session.peer)
            yield session
    if missing:
        routers = ", ".join(sorted(map(str, missing)))
        how = "MetalLB reports BGP sessions with FRR-K8s only" if is_metallb else "no CalicoNodeStatus reports it"
        raise CannotCheckError(f"the BGP session with {routers} is not visible, {how}; {ROUTER_SESSIONS_HINT}")


def _metallb_sessions(facts: Facts) -> Iterator[BgpSession]:
    for state in facts.product_objects(frr.SESSION_STATE) if facts.is_served(frr.SESSION_STATE) else ():
        peer = frr.get_peer(state)
        if peer is not None:
            ref = frr.SESSION_STATE.ref(name_of(state), namespace_of(state))
            node, status = (str(dig(state, "status", key, default="")) for key in ("node", "bgpStatus"))
            yield BgpSession(ref, node, peer, status)


def _calico_sessions(facts: Facts) -> Iterator[BgpSession]:
    resource = node_status_resource(facts.served)
    if resource is None:
        return
    for status in facts.objects(resource):
        for text, state in iter_peers(status):
            try:
                peer = ip_address(text)
            except ValueError:
                continue
            yield BgpSession(resource.ref(name_of(status)), str(dig(status, "spec", "node", default="")), peer, state)
