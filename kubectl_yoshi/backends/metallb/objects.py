"""MetalLB's objects: where they live, what its pools hold, and what it says of a Service.

Fields: https://metallb.io/apis/. All of MetalLB's objects must be in its own namespace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from kubectl_yoshi.model.addresses import Address, Intervals, Span, span_of
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import EVENT, Json, ObjectRef, Resource, dig, name_of, namespace_of, uid_of
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
_CONTROLLER_SELECTORS = (
    "app.kubernetes.io/name=metallb",
    "app=metallb,component=controller",
)  # the chart's, the manifests'


def is_installed(served: ServedApis) -> bool:
    """Whether MetalLB's pools are served."""
    return POOL.full_name in served.resources


def own_namespace(snapshot: Snapshot) -> str:
    """MetalLB's namespace: that of its objects, else of its controller, else the usual one."""
    namespaces = Counter(namespace_of(pool) for pool in snapshot.lookup(Query(POOL)))
    if len(namespaces) == 1:
        return next(iter(namespaces))
    deployments = snapshot.lookup(*(Query(DEPLOYMENT, label_selector=labels) for labels in _CONTROLLER_SELECTORS))
    for deployment in deployments:
        return namespace_of(deployment)
    if namespaces:
        return namespaces.most_common(1)[0][0]
    return DEFAULT_NAMESPACE


def pools(snapshot: Snapshot) -> list[Json]:
    """Every IPAddressPool that may be seen."""
    return snapshot.lookup(Query(POOL))


def parse_spans(pool: Json) -> list[tuple[Span, int]]:
    """What a pool gives out: first and last address, and IP version, of each entry; what MetalLB would not read is left
    out."""
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
    """Whether a pool has an address."""
    return any(
        first <= int(address) <= last for (first, last), version in parse_spans(pool) if version == address.version
    )


def shares(pool: Json, network: Network) -> bool:
    """Whether a pool has an address of a network."""
    pool_addresses = Intervals.from_spans(span for span, version in parse_spans(pool) if version == network.version)
    return bool(pool_addresses & network.cidr_addresses)


def has_exactly(pool: Json, network: Network) -> bool:
    """Whether a pool, whosever it is, has the addresses of a network and no others, and gives none out unasked: where
    autoAssign is missing, it does (MetalLB's default is true)."""
    spans = parse_spans(pool)
    return (
        all(version == network.version for _, version in spans)
        and Intervals.from_spans(span for span, _ in spans) == network.cidr_addresses
        and dig(pool, "spec", "autoAssign") is False
    )


def configuration_error(snapshot: Snapshot) -> str:
    """Why MetalLB does not take its configuration; "" where it does, or that may not be read."""
    for state in snapshot.lookup(Query(CONFIGURATION_STATE)):
        if dig(state, "status", "result") == "Invalid":
            reason = dig(state, "status", "errorSummary", default="it does not say why")
            return f"MetalLB refuses its configuration: {reason}"
    return ""


def is_served(service: Json, address: Address) -> bool:
    """Whether a Service's status has an address."""
    return any(
        _equals(entry.get("ip"), address) for entry in dig(service, "status", "loadBalancer", "ingress", default=[])
    )


def _equals(text: object, address: Address) -> bool:
    try:
        return ip_address(str(text)) == address
    except ValueError:
        return False


def nodes_announcing(service: Json, resource: Resource, snapshot: Snapshot) -> str:
    """The nodes whose speakers say that they announce a Service, with commas."""
    nodes = {
        str(dig(status, "status", "node", default=""))
        for status in snapshot.lookup(Query(resource))
        if (dig(status, "status", "serviceNamespace"), dig(status, "status", "serviceName"))
        == (namespace_of(service), name_of(service))
    }
    return ",".join(sorted(node for node in nodes if node))


def allocation_failure(service_uid: str, events: Iterable[Json]) -> str:
    """What MetalLB said last of a Service that it gave no address; "" where it said nothing."""
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
    """What MetalLB's events say of a Service without an address."""
    return allocation_failure(uid_of(service), snapshot.lookup(Query(EVENT, namespace_of(service))))
