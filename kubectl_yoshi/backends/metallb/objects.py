"""Read MetalLB's objects: their namespace, the addresses of its pools, and what it reports about Services.

Fields: https://metallb.io/apis/. All of MetalLB's objects must be in its own namespace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network

from kubectl_yoshi.model.addresses import Address, Intervals, Span, span_of
from kubectl_yoshi.model.label_selector import selects_labels
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import (
    EVENT,
    Json,
    ObjectRef,
    Resource,
    dig,
    labels_of,
    metadata,
    name_of,
    namespace_of,
    uid_of,
)
from kubectl_yoshi.model.plan import WaitStatus
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot

METALLB = "metallb.io"
POOL = Resource(METALLB, "v1beta1", "ipaddresspools", "IPAddressPool")
L2_ADVERTISEMENT = Resource(METALLB, "v1beta1", "l2advertisements", "L2Advertisement")
BGP_ADVERTISEMENT = Resource(METALLB, "v1beta1", "bgpadvertisements", "BGPAdvertisement")
PEER = Resource(METALLB, "v1beta2", "bgppeers", "BGPPeer")
CONFIGURATION_STATE = Resource(METALLB, "v1beta1", "configurationstates", "ConfigurationState")
L2_STATUS = Resource(METALLB, "v1beta1", "servicel2statuses", "ServiceL2Status")
BGP_STATUS = Resource(METALLB, "v1beta1", "servicebgpstatuses", "ServiceBGPStatus")
DEPLOYMENT = Resource("apps", "v1", "deployments", "Deployment")

LOAD_BALANCER_IPS_ANNOTATION = f"{METALLB}/loadBalancerIPs"
NETWORK_LABEL = f"{GROUP}/networkUID"
DEFAULT_NAMESPACE = "metallb-system"
CONTROLLER_QUERIES = (
    Query(DEPLOYMENT, label_selector="app.kubernetes.io/name=metallb"),  # Helm chart
    Query(DEPLOYMENT, label_selector="app=metallb,component=controller"),  # manifests
)
"""MetalLB's controller, of each way to install it."""


def is_installed(served: ServedApis) -> bool:
    """Return whether the API server serves MetalLB's pools."""
    return POOL.full_name in served.resources


def own_namespace(snapshot: Snapshot) -> str:
    """Return MetalLB's namespace: that of its objects, else of its controller, else the default one."""
    namespaces = Counter(namespace_of(pool) for pool in snapshot.lookup(Query(POOL)))
    if len(namespaces) == 1:
        return next(iter(namespaces))
    for deployment in snapshot.lookup(*CONTROLLER_QUERIES):
        return namespace_of(deployment)
    if namespaces:
        return namespaces.most_common(1)[0][0]
    return DEFAULT_NAMESPACE


def find_controller(snapshot: Snapshot) -> tuple[ObjectRef, str] | None:
    """Return the Deployment of MetalLB's controller and its version, such as "v0.16.1", from the tag of its image.

    Returns:
        None if it cannot be read, or if no image has a tag.
    """
    for deployment in snapshot.lookup(*CONTROLLER_QUERIES):
        for container in dig(deployment, "spec", "template", "spec", "containers", default=[]):
            image = str(container.get("image", "")).partition("@")[0].rpartition("/")[2]
            program, _, tag = image.partition(":")
            if tag and (container.get("name") == "controller" or program.endswith("controller")):
                return DEPLOYMENT.ref(name_of(deployment), namespace_of(deployment)), tag
    return None


def pools(snapshot: Snapshot) -> list[Json]:
    """Return every readable IPAddressPool."""
    return snapshot.lookup(Query(POOL))


def parse_spans(pool: Json) -> list[tuple[Span, int]]:
    """Return first and last address, and IP version (4 or 6), of each valid entry of a pool."""
    found: list[tuple[Span, int]] = []
    for text in dig(pool, "spec", "addresses", default=[]):
        first, dash, last = str(text).partition("-")
        try:
            if dash:
                one, two = ip_address(first.strip()), ip_address(last.strip())
                found.append(((int(one), int(two)), one.version))
            else:
                cidr = ip_network(first.strip(), strict=False)
                found.append((span_of(cidr), cidr.version))
        except ValueError:
            continue
    return found


def covers(pool: Json, address: Address) -> bool:
    """Return whether a pool contains an address."""
    return any(
        first <= int(address) <= last for (first, last), version in parse_spans(pool) if version == address.version
    )


def shares(pool: Json, network: Network) -> bool:
    """Return whether a pool contains an address of a network."""
    pool_addresses = Intervals.from_spans(span for span, version in parse_spans(pool) if version == network.version)
    return bool(pool_addresses & network.cidr_addresses)


def has_exactly(pool: Json, network: Network) -> bool:
    """Return whether a pool has exactly a network's addresses and assigns none automatically.

    It does not matter who created the pool. A pool without autoAssign assigns addresses automatically (MetalLB's
    default is true).
    """
    spans = parse_spans(pool)
    return (
        all(version == network.version for _, version in spans)
        and Intervals.from_spans(span for span, _ in spans) == network.cidr_addresses
        and dig(pool, "spec", "autoAssign") is False
    )


def list_advertisements(pool: Json, advertisements: Iterable[Json]) -> list[Json]:
    """Return the advertisements that announce a pool's addresses; one without pools and selectors announces all."""
    return [advertisement for advertisement in advertisements if _advertises(advertisement, pool)]


def _advertises(advertisement: Json, pool: Json) -> bool:
    names = dig(advertisement, "spec", "ipAddressPools", default=[])
    selectors = dig(advertisement, "spec", "ipAddressPoolSelectors", default=[])
    if not names and not selectors:
        return True
    return name_of(pool) in names or any(selects_labels(selector, labels_of(pool)) for selector in selectors)


def selects_node(obj: Json, node: Json) -> bool:
    """Return whether spec.nodeSelectors of an advertisement or a BGPPeer selects a node; without them all nodes."""
    selectors = dig(obj, "spec", "nodeSelectors", default=[])
    return not selectors or any(selects_labels(selector, labels_of(node)) for selector in selectors)


def find_refusal(pool: Json, service: Json, namespace_labels: Callable[[], Mapping[str, str]]) -> str:
    """Return the field of a pool's serviceAllocation because of which a Service gets no address of it; "" for none.

    Source: MetalLB, internal/allocator, isPoolCompatibleWithService.

    Args:
        pool: the pool.
        service: the Service.
        namespace_labels: returns the labels of the Service's namespace; called only if they matter.
    """
    rules = dig(pool, "spec", "serviceAllocation", default={})
    names, selectors = rules.get("namespaces") or [], rules.get("namespaceSelectors") or []
    is_restricted = bool(names or selectors) and namespace_of(service) not in names
    if is_restricted and not any(selects_labels(selector, namespace_labels()) for selector in selectors):
        return "namespaces" if names else "namespaceSelectors"
    service_selectors = rules.get("serviceSelectors") or []
    if service_selectors and not any(selects_labels(one, labels_of(service)) for one in service_selectors):
        return "serviceSelectors"
    return ""


def configuration_error(snapshot: Snapshot) -> str:
    """Return why MetalLB rejects its configuration; "" if it accepts it, or if that cannot be read."""
    for state in snapshot.lookup(Query(CONFIGURATION_STATE)):
        if dig(state, "status", "result") == "Invalid":
            reason = dig(state, "status", "errorSummary", default="no reason is reported")
            return f"MetalLB rejects its configuration: {reason}"
    return ""


def reports_state(snapshot: Snapshot) -> bool:
    """Return whether MetalLB reports the state of its configuration and, in their status, of its pools."""
    return bool(snapshot.lookup(Query(CONFIGURATION_STATE)))


def is_served(service: Json, address: Address) -> bool:
    """Return whether a Service's status contains an address."""
    return any(
        _equals(entry.get("ip"), address) for entry in dig(service, "status", "loadBalancer", "ingress", default=[])
    )


def _equals(text: object, address: Address) -> bool:
    try:
        return ip_address(str(text)) == address
    except ValueError:
        return False


def nodes_announcing(service: Json, resource: Resource, snapshot: Snapshot) -> list[str]:
    """Return the nodes whose speakers report that they announce a Service."""
    return sorted(announced_since(service, resource, snapshot))


def announced_since(service: Json, resource: Resource, snapshot: Snapshot) -> dict[str, str]:
    """Return the nodes whose speakers report that they announce a Service, and since when each does (RFC 3339)."""
    snapshot.lookup(Query(resource))
    statuses = snapshot.group_by(resource, _announced_service).get((namespace_of(service), name_of(service)), ())
    found = {
        str(dig(status, "status", "node", default="")): str(metadata(status).get("creationTimestamp", ""))
        for status in statuses
    }
    return {node: since for node, since in found.items() if node}


def _announced_service(status: Json) -> tuple[str, str]:
    return str(dig(status, "status", "serviceNamespace")), str(dig(status, "status", "serviceName"))


def allocation_failure(service_uid: str, events: Iterable[Json]) -> str:
    """Return MetalLB's latest Event about failing to assign an address to a Service; "" for none."""
    failures = [
        event
        for event in events
        if event.get("reason") == "AllocationFailed" and dig(event, "involvedObject", "uid") == service_uid
    ]
    failures.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return str(failures[-1].get("message") or "") if failures else ""


def allocation_status(ref: ObjectRef, address: Address, service: Json, events: Iterable[Json]) -> WaitStatus:
    """Return what is missing until a Service has an address."""
    if is_served(service, address):
        return WaitStatus()
    reason = allocation_failure(uid_of(service), events)
    remaining = f"{ref} without {address}"
    return WaitStatus(f"{remaining} ({reason})" if reason else remaining, reason if str(address) in reason else "")


def pending_reason(service: Json, snapshot: Snapshot) -> str:
    """Return why a Service has no address, from MetalLB's Events."""
    return allocation_failure(uid_of(service), snapshot.lookup(Query(EVENT, namespace_of(service))))
