"""Rules about public addresses: from the Service to the router: 2xxx.

The rules follow the path of an address. One that needs something which an earlier rule found missing finds nothing
itself, so that a cause is reported once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from kubectl_yoshi.backends.calico.api import V1, V3, get_read_api, is_installed
from kubectl_yoshi.backends.metallb import frr
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.metallb.bgp_peers import metallb_bgp_peers
from kubectl_yoshi.backends.public.metallb import find_pool
from kubectl_yoshi.backends.public.services import SERVICE, is_for_network, service_ref
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation, Severity
from kubectl_yoshi.diagnosis.public import (
    ESTABLISHED,
    PublicAddress,
    announcing_nodes,
    can_serve,
    has_endpoint,
    is_announced,
    iter_sessions,
    list_endpoints,
    list_public_addresses,
    metallb_announcer,
    public_networks,
    running_node,
)
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.diagnosis.rules.allocations import find_free_address
from kubectl_yoshi.model.backend import Attachment
from kubectl_yoshi.model.errors import PreconditionFailed, first_few
from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import (
    NAMESPACE,
    NODE,
    Json,
    ObjectRef,
    Resource,
    dig,
    labels_of,
    metadata,
    name_of,
    namespace_of,
)
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.plan.context import age_in_seconds

EXCLUDED_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
FIXED_VERSION = (0, 16)
"""The version of MetalLB from which on an address that two endpoints share during a migration is announced."""
FRR_REPORT_SECONDS = 60.0
"""How long after an announcement the running configuration that FRR-K8s reports may lack it (it polls for 30 s)."""
MAX_NAMES = 5
"""Maximum number of VMs that a message names."""


def _observe(
    public: PublicAddress,
    message: str,
    *commands: str,
    ref: ObjectRef | None = None,
    field: str = "",
    evidence: tuple[str, ...] = (),
) -> Observation:
    """Return an observation about a public address; `ref` is its Service by default."""
    vm, network = public.vm, public.network
    return Observation(
        ref or public.service_ref,
        message,
        field=field,
        evidence=evidence,
        commands=commands,
        network=(network.namespace, network.name),
        vm=(vm.namespace, vm.name),
        address=str(public.address),
    )


def _observe_network(network: Network, ref: ObjectRef, message: str, *commands: str, field: str = "") -> Observation:
    """Return an observation about an object that concerns all addresses of a network."""
    return Observation(ref, message, field, commands=commands, network=(network.namespace, network.name))


def _addresses(facts: Facts) -> tuple[PublicAddress, ...]:
    return facts.derived(list_public_addresses)


def _attach(public: PublicAddress) -> str:
    flags = f"--public-network {public.network.full_name} --ip {public.address}"
    return remedies.attach((public.vm.namespace, public.vm.name), flags)


# -- the Service -----------------------------------------------------------------------------------------------------


@rule("2109", Severity.ERROR, "The Service of a public address is missing or was changed", is_volatile=True)
def service_differs(facts: Facts) -> Iterator[Observation]:
    """The VM's Service was deleted or edited with kubectl, or an attachment was killed before it created the Service.

    Attach the VM again: this creates or repairs the Service, and the VM keeps its address. To open other ports, pass
    --port.
    """
    for public in _addresses(facts):
        ref = service_ref(public.vm, public.network)
        existing = facts.snapshot.get_object(SERVICE, ref.name, str(ref.namespace))
        if existing is not None and not is_for_network(existing, public.network):
            message = f"{ref} has the name of the Service of {public.address} and was not created for its network"
            yield _observe(public, message, f"kubectl delete service {ref.name} -n {ref.namespace}", ref=ref)
            continue
        change = _service_change(public, facts)
        if change is not None:
            yield _observe_service_change(public, change)


def _service_change(public: PublicAddress, facts: Facts) -> Change | None:
    """Return the change with which attaching the VM again would repair its Service; None if the Service is right.

    Raises:
        CannotCheckError: something it depends on cannot be read.
    """
    for change in _wanted_changes(public, facts):
        if change.ref.resource == SERVICE and change.verb is not Verb.WAIT:
            return change
    return None


def _wanted_changes(public: PublicAddress, facts: Facts) -> Plan:
    """Return the changes with which attaching the VM again would repair what is separate from the VM.

    Raises:
        CannotCheckError: something they depend on cannot be read.
    """
    backend = facts.backend(public.network)
    attachment = Attachment(public.vm, public.network, public.row.number)
    try:
        return backend.ensure_service(attachment, facts.snapshot)
    except PreconditionFailed as error:
        raise CannotCheckError(error.in_one_line) from None


def _observe_service_change(public: PublicAddress, change: Change) -> Observation:
    vm, address = public.vm.full_name, public.address
    if change.verb is Verb.CREATE:
        return _observe(public, f"{change.ref}, which provides {address} for VM {vm}, is missing", _attach(public))
    if change.verb is Verb.DELETE:
        message = (
            f"{change.ref} differs in a field that requires to create it again, so {address} does not reach VM {vm}"
        )
        return _observe(public, message, _attach(public), field="spec", ref=change.ref)
    fields = [_format_path(op["path"]) for op in change.body if op["op"] in ("add", "replace", "remove")]
    named = ", ".join(fields)
    message = f"{change.ref} was changed: {named} is not what {address} of VM {vm} needs"
    evidence = tuple(f"{field}: {_value_at(public.service, op['path'])}" for field, op in _writes(fields, change))
    return _observe(public, message, _attach(public), field=fields[0] if fields else "", evidence=evidence)


def _writes(fields: list[str], change: Change) -> Iterator[tuple[str, Json]]:
    return zip(fields, (op for op in change.body if op["op"] in ("add", "replace", "remove")), strict=True)


def _format_path(pointer: str) -> str:
    """Return a JSON Pointer as the path of a field: "spec.selector", "metadata.annotations[metallb.io/x]"."""
    first, *rest = [part.replace("~1", "/").replace("~0", "~") for part in pointer.lstrip("/").split("/")]
    return first + "".join(f".{part}" if part.isidentifier() else f"[{part}]" for part in rest)


def _value_at(obj: Json | None, pointer: str) -> object:
    keys = [part.replace("~1", "/").replace("~0", "~") for part in pointer.lstrip("/").split("/")]
    return dig(obj, *keys, default="(none)")


# -- assignment by MetalLB -------------------------------------------------------------------------------------------


def _pending(facts: Facts) -> Iterator[tuple[PublicAddress, Json]]:
    """Yield the addresses that MetalLB has to assign and has not, with their Services."""
    for public in _addresses(facts):
        service = public.service
        if service is None or public.metallb is None or public.is_assigned:
            continue
        if not metadata(service).get("deletionTimestamp"):
            yield public, service


def _covering_pools(public: PublicAddress, facts: Facts) -> list[Json]:
    return [pool for pool in facts.product_objects(metallb.POOL) if metallb.covers(pool, public.address)]


@rule("2101", Severity.ERROR, "A public address is in no pool of MetalLB")
def address_in_no_pool(facts: Facts) -> Iterator[Observation]:
    """MetalLB's IPAddressPool of the network was deleted, or its addresses were changed, so the Service is pending.

    `kubectl yoshi sync` creates the pool again, or repairs it.
    """
    for public, _ in _pending(facts):
        if not _covering_pools(public, facts):
            message = f"{public.service_ref} is pending: {public.address} is in no IPAddressPool"
            repair = remedies.sync(public.network) if public.address in public.network else _attach(public)
            yield _observe(public, message, repair, evidence=_list_pools(facts))


def _list_pools(facts: Facts) -> tuple[str, ...]:
    return tuple(
        f"ipaddresspool/{name_of(pool)}: {first_few(dig(pool, 'spec', 'addresses', default=[]), MAX_NAMES)}"
        for pool in facts.product_objects(metallb.POOL)[:MAX_NAMES]
    )


@rule("2102", Severity.ERROR, "A pool of MetalLB refuses a Service")
def pool_refuses(facts: Facts) -> Iterator[Observation]:
    """The spec.serviceAllocation of the IPAddressPool restricts the pool to other namespaces or Services.

    Remove the restriction, or add the namespace of the VM to it. Networks that share the pool are concerned, too.
    """
    for public, service in _pending(facts):
        for pool, refusing in _refusals(public, service, facts):
            ref = metallb.POOL.ref(name_of(pool), namespace_of(pool))
            field = f"spec.serviceAllocation.{refusing}"
            patch = '[{"op": "remove", "path": "/spec/serviceAllocation"}]'
            yield _observe(
                public,
                f"{public.service_ref} is pending: {ref} has {public.address}, and {field} does not allow it",
                f"kubectl patch ipaddresspool {ref.name} -n {ref.namespace} --type json -p '{patch}'",
                ref=ref,
                field=field,
                evidence=(f"serviceAllocation: {dig(pool, 'spec', 'serviceAllocation')}",),
            )


def _refusals(public: PublicAddress, service: Json, facts: Facts) -> list[tuple[Json, str]]:
    """Return the pools that have an address and refuse the Service, each with the field that says so."""
    found = (
        (pool, metallb.find_refusal(pool, service, lambda: _namespace_labels(service, facts)))
        for pool in _covering_pools(public, facts)
    )
    return [(pool, field) for pool, field in found if field]


def _namespace_labels(service: Json, facts: Facts) -> dict[str, str]:
    """Return the labels of a Service's namespace.

    Raises:
        CannotCheckError: the namespace cannot be read.
    """
    return dict(labels_of(facts.get(NAMESPACE, namespace_of(service)) or {}))


@rule("2105", Severity.ERROR, "Another Service has the public address")
def address_of_another_service(facts: Facts) -> Iterator[Observation]:
    """MetalLB gives an address to one Service, unless several have the same annotation metallb.io/allow-shared-ip and
    different ports.

    Remove the address from the other Service, or move the VM to another address: `kubectl yoshi vm attach` with
    --replace.
    """
    for public, _ in _pending(facts):
        for ref, other in _other_holders(public, facts):
            yield _observe(
                public,
                f"{public.service_ref} is pending: {ref} has {public.address}",
                _attach_to_another(public, facts),
                ref=ref,
                field="status.loadBalancer.ingress",
                evidence=(f"ports: {', '.join(_format_ports(other))}",),
            )


def _attach_to_another(public: PublicAddress, facts: Facts) -> str:
    """Return the command that gives a VM another public address; without a free one, that shows the address."""
    address = find_free_address(public.network, facts)
    if address is None:
        return remedies.show_address(public.address)
    flags = f"--public-network {public.network.full_name} --ip {address} --replace"
    return remedies.attach((public.vm.namespace, public.vm.name), flags)


def _other_holders(public: PublicAddress, facts: Facts) -> list[tuple[ObjectRef, Json]]:
    """Return the other Services, of all namespaces, that have an address."""
    found = (other for other in facts.product_objects(SERVICE) if metallb.is_served(other, public.address))
    refs = ((SERVICE.ref(name_of(other), namespace_of(other)), other) for other in found)
    return [(ref, other) for ref, other in refs if ref != public.service_ref]


def _format_ports(service: Json) -> list[str]:
    return [f"{port.get('protocol', 'TCP')}/{port.get('port')}" for port in dig(service, "spec", "ports", default=[])]


def _other_ingress(service: Json, public: PublicAddress) -> list[str]:
    """Return the addresses in a Service's status that are not the VM's."""
    ingress = dig(service, "status", "loadBalancer", "ingress", default=[])
    return [text for entry in ingress if (text := str(entry.get("ip") or "")) and text != str(public.address)]


@rule("2106", Severity.ERROR, "Another load balancer controller assigns an address to a Service")
def second_controller(facts: Facts) -> Iterator[Observation]:
    """A second controller, such as the load balancer IPAM of Calico or Cilium, or K3s' ServiceLB, handles Services
    without a loadBalancerClass, as MetalLB does; both write the status.

    Restrict the other controller to Services that request it. The managed fields of the Service name its writers.
    """
    for public in _addresses(facts):
        service = public.service
        if service is None or public.metallb is None:
            continue
        if others := _other_ingress(service, public):
            ref = public.service_ref
            show = f"kubectl get service {ref.name} -n {ref.namespace} -o yaml --show-managed-fields"
            yield _observe(
                public,
                f"{ref} has {', '.join(others)} in its status, which MetalLB did not assign for {public.address}",
                *_calico_restriction(facts),
                show,
                field="status.loadBalancer.ingress",
            )


def _calico_restriction(facts: Facts) -> tuple[str, ...]:
    """Return the command that restricts Calico's load balancer controller, if a pool of Calico is for it."""
    plural = "kubecontrollersconfigurations"
    group = next((group for group in (V3, V1) if f"{plural}.{group}" in facts.served.resources), "")
    if not group or not is_installed(facts.served):
        return ()
    pools = facts.snapshot.lookup(Query(get_read_api(facts.snapshot).pool))
    if not any("LoadBalancer" in dig(pool, "spec", "allowedUses", default=[]) for pool in pools):
        return ()
    patch = '{"spec": {"controllers": {"loadBalancer": {"assignIPs": "RequestedServicesOnly"}}}}'
    return (f"kubectl patch {plural}.{group} default --type merge -p '{patch}'",)


@rule("2111", Severity.ERROR, "MetalLB has not assigned the public address", is_volatile=True)
def not_assigned(facts: Facts) -> Iterator[Observation]:
    """The pool has the address and allows the Service, and no other Service has it; MetalLB's controller may not run.

    MetalLB's Events about the Service say why, if its controller runs.
    """
    for public, service in _pending(facts):
        if not _covering_pools(public, facts) or _refusals(public, service, facts):
            continue
        if _other_holders(public, facts) or _other_ingress(service, public):
            continue
        namespace = metallb.own_namespace(facts.snapshot)
        reason = metallb.pending_reason(service, facts.snapshot)
        yield _observe(
            public,
            f"{public.service_ref} is pending: MetalLB has not assigned {public.address}",
            f"kubectl get pods -n {namespace} -l component=controller",
            evidence=(f"Event: {reason}",) if reason else ("MetalLB reports no reason",),
        )


# -- announcement ----------------------------------------------------------------------------------------------------


@rule("2103", Severity.ERROR, "Nothing announces the addresses of a public network")
def not_advertised(facts: Facts) -> Iterator[Observation]:
    """No L2Advertisement or BGPAdvertisement selects MetalLB's pool, or Calico's BGPConfiguration lacks the address.

    MetalLB then assigns addresses that nobody outside the cluster can reach. `kubectl yoshi sync` creates the
    advertisement again.
    """
    by_network: dict[str, list[PublicAddress]] = defaultdict(list)
    for public in _addresses(facts):
        by_network[public.network.full_name].append(public)
    for network in public_networks(facts):
        held = by_network[network.full_name]
        yield from _unadvertised_pools(network, held, facts)
        for public in held:
            yield from _unlisted_address(public, facts)


def _unadvertised_pools(network: Network, held: list[PublicAddress], facts: Facts) -> Iterator[Observation]:
    announcer = metallb_announcer(network, facts)
    if announcer is None:
        return
    silent = [public for public in held if not (announcing_nodes(public, facts) or ())]
    if held and not silent:
        return  # what speakers announce is advertised
    facts.product_objects(metallb.POOL)
    any_kind: tuple[Resource, ...] = (metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT)
    outside = [public for public in silent if public.address not in network]
    found = {name_of(pool): (pool, any_kind) for public in outside for pool in _covering_pools(public, facts)}
    own_pool = find_pool(network, facts.snapshot)
    if own_pool is not None:
        found[name_of(own_pool)] = (own_pool, (announcer.advertisement,))
    for name, (pool, kinds) in found.items():
        if not any(metallb.list_advertisements(pool, facts.product_objects(kind)) for kind in kinds):
            named = " or ".join(kind.kind for kind in kinds)
            ref = metallb.POOL.ref(name, namespace_of(pool))
            message = f"no {named} announces {ref} of network {network.full_name}"
            yield _observe_network(network, ref, message, remedies.sync(network))


def _unlisted_address(public: PublicAddress, facts: Facts) -> Iterator[Observation]:
    if public.metallb is not None or public.service is None:
        return
    for change in _wanted_changes(public, facts):
        if change.ref.resource.plural == "bgpconfigurations":
            message = f"{change.ref} does not list {public.address}, so Calico does not announce it"
            yield _observe(public, message, _attach(public), ref=change.ref, field="spec")


@rule("2104", Severity.ERROR, "A public address has no ready endpoint", is_volatile=True)
def no_ready_endpoint(facts: Facts) -> Iterator[Observation]:
    """The VM runs and its Service has no ready endpoint, so no node announces the address (externalTrafficPolicy
    Local): its readiness probe fails, its guest is not ready, or its pod has no address of the Service's IP family.

    Repair what the VM's conditions report. A stopped VM is no finding: its address is announced when it runs.
    """
    for public in _addresses(facts):
        if public.service is None or not public.is_assigned or not (node := running_node(public.vm, facts)):
            continue
        if is_announced(public, facts) or has_endpoint(public, facts) or _service_change(public, facts):
            continue
        endpoints = list_endpoints(public.service, facts)
        vm = public.vm
        ready = sum(1 for endpoint in endpoints if can_serve(endpoint))
        where = f" on node {node}" if ready else ""
        yield _observe(
            public,
            f"{public.service_ref} has no ready endpoint{where} ({len(endpoints)} in all), although VM {vm.full_name} "
            f"runs on {node}",
            f"kubectl describe vmi {vm.name} -n {vm.namespace}",
            evidence=(*map(_format_endpoint, endpoints), *_failing_conditions(public, facts)),
        )


def _format_endpoint(endpoint: Json) -> str:
    state = "ready" if can_serve(endpoint) else "not ready"
    addresses = ", ".join(endpoint.get("addresses") or [])
    return f"endpoint {addresses} on {endpoint.get('nodeName', 'an unknown node')}: {state}"


def _failing_conditions(public: PublicAddress, facts: Facts) -> tuple[str, ...]:
    conditions = dig(facts.instance(public.vm), "status", "conditions", default=[])
    return tuple(
        f"the VMI's condition Ready is False: {one.get('reason', '')} {one.get('message', '')}".rstrip()
        for one in conditions
        if one.get("type") == "Ready" and one.get("status") == "False"
    )


def _unannounced(facts: Facts) -> Iterator[tuple[PublicAddress, str]]:
    """Yield the addresses, with the VMs' nodes, that could be announced, and are not as far as that is reported."""
    for public in _addresses(facts):
        if public.service is None or not public.is_assigned or not (node := running_node(public.vm, facts)):
            continue
        if not is_announced(public, facts) and has_endpoint(public, facts):
            yield public, node


@rule("2108", Severity.ERROR, "The node of a VM may not announce its public address")
def node_excluded(facts: Facts) -> Iterator[Observation]:
    """The node has the label node.kubernetes.io/exclude-from-external-load-balancers, its condition NetworkUnavailable
    is True, or the advertisement, or the router's BGPPeer, does not select it.

    With externalTrafficPolicy Local only the node on which the VM runs can announce the address. Change the node, or
    run the VM on another one.
    """
    for public, node_name in _unannounced(facts):
        if not public.is_local:
            continue
        node = facts.find(NODE, node_name)
        if node is not None:
            for reason, ref, command in _exclusions(public, node, facts):
                message = f"{public.address} of VM {public.vm.full_name} is not announced: {reason}"
                yield _observe(public, message, command, ref=ref)


def _exclusions(public: PublicAddress, node: Json, facts: Facts) -> Iterator[tuple[str, ObjectRef, str]]:
    """Yield why a node may not announce an address, the object that says so, and what repairs it."""
    name = name_of(node)
    if public.metallb is not None and EXCLUDED_LABEL in labels_of(node):
        label = f"node {name} has the label {EXCLUDED_LABEL}"
        yield label, NODE.ref(name), f"kubectl label node {name} {EXCLUDED_LABEL}-"
    conditions = {one.get("type"): one for one in dig(node, "status", "conditions", default=[])}
    if public.metallb is not None and dig(conditions, "NetworkUnavailable", "status") == "True":
        reason = dig(conditions, "NetworkUnavailable", "reason", default="no reason")
        yield f"node {name} is NetworkUnavailable ({reason})", NODE.ref(name), f"kubectl describe node {name}"
    wanted = {str(key): str(value) for key, value in (public.network.options.get("nodeSelector") or {}).items()}
    labels = labels_of(node)
    missing = [f"{key}={value}" for key, value in wanted.items() if labels.get(key) != value]
    if missing:
        network = NETWORKWIZARD.ref(public.network.name, public.network.namespace)
        reason = f"node {name} lacks {', '.join(missing)}, which network {public.network.full_name} requires"
        yield reason, network, f"kubectl label node {name} {' '.join(missing)} --overwrite"
        return
    for obj, ref in _selecting_objects(public, facts):
        if not metallb.selects_node(obj, node):
            kind = ref.resource.full_name
            yield f"{ref} does not select node {name}", ref, f"kubectl get {kind} {ref.name} -n {ref.namespace} -o yaml"


def _selecting_objects(public: PublicAddress, facts: Facts) -> Iterator[tuple[Json, ObjectRef]]:
    """Yield the only advertisement of the address's pool and, with BGP, the BGPPeers of the network's routers."""
    if public.metallb is None:
        return
    kind = public.metallb.advertisement
    for pool in _covering_pools(public, facts):
        found = metallb.list_advertisements(pool, facts.product_objects(kind))
        if len(found) == 1:  # of several, one that selects the node suffices
            yield found[0], kind.ref(name_of(found[0]), namespace_of(found[0]))
    peers = public.network.bgp.peers if public.network.bgp else ()
    for peer in peers:
        facts.product_objects(metallb.PEER)
        obj, _ = metallb_bgp_peers(facts.snapshot).find_peer(public.network, peer, facts.snapshot)
        if obj is not None:
            yield obj, metallb.PEER.ref(name_of(obj), namespace_of(obj))


@rule("2110", Severity.ERROR, "No node reports that it announces a public address", is_volatile=True)
def not_announced(facts: Facts) -> Iterator[Observation]:
    """The address is assigned, advertised and has a ready endpoint, and no speaker of MetalLB announces it.

    The speaker on the VM's node may not run, or it rejects its configuration; its log says why.
    """
    for public, node_name in _unannounced(facts):
        nodes = announcing_nodes(public, facts)
        if nodes is None or [*_unadvertised_pools(public.network, [public], facts)]:
            continue
        node = facts.find(NODE, node_name) if public.is_local else None
        if node is not None and any(True for _ in _exclusions(public, node, facts)):
            continue
        if _service_change(public, facts) or any(True for _ in _peer_changes(public.network, facts)):
            continue
        namespace = metallb.own_namespace(facts.snapshot)
        instead = f"; announced by {', '.join(sorted(nodes))}" if nodes else ""
        yield _observe(
            public,
            f"no speaker on {node_name} reports that it announces {public.address} of VM {public.vm.full_name}"
            f"{instead}",
            f"kubectl get pods -n {namespace} -l component=speaker --field-selector spec.nodeName={node_name}",
            f"kubectl logs -n {namespace} -l component=speaker --tail 50",
        )


# -- BGP -------------------------------------------------------------------------------------------------------------


def _metallb_networks(facts: Facts) -> list[Network]:
    return [network for network in public_networks(facts) if metallb_announcer(network, facts) is not None]


@rule("2201", Severity.ERROR, "A BGP session with a router is not established", is_volatile=True)
def session_down(facts: Facts) -> Iterator[Observation]:
    """The router is down, or does not accept the node: another AS number, password or address than it expects.

    A node without a session announces nothing to that router. Compare the configuration of both sides. Sessions are
    visible with MetalLB's FRR-K8s mode, and with Calico if an administrator has created a CalicoNodeStatus for the
    node; otherwise look at the router.
    """
    reasons = []
    for network in public_networks(facts):
        if network.bgp is None:
            continue
        try:
            for session in iter_sessions(network, facts):
                if session.state != ESTABLISHED:
                    ref = session.ref
                    where = f" -n {ref.namespace}" if ref.namespace else ""
                    yield Observation(
                        ref,
                        f"the BGP session of node {session.node} with router {session.peer} is "
                        f"{session.state or 'unknown'}, so network {network.full_name} is not announced there",
                        field="status",
                        commands=(f"kubectl get {ref.resource.full_name} {ref.name}{where} -o yaml",),
                        network=(network.namespace, network.name),
                    )
        except CannotCheckError as error:
            reasons.append(error.reason)
    if reasons:
        raise CannotCheckError("; ".join(dict.fromkeys(reasons)))


@rule("2202", Severity.ERROR, "MetalLB or its router rejects its configuration")
def configuration_rejected(facts: Facts) -> Iterator[Observation]:
    """An object of MetalLB or FRR is invalid, or contradicts another one; the last valid configuration stays in effect.

    The reported reason names the object. Correct or delete it.
    """
    networks = _metallb_networks(facts)
    if not networks:
        return
    for state in facts.product_objects(metallb.CONFIGURATION_STATE):
        if dig(state, "status", "result") == "Invalid":
            ref = metallb.CONFIGURATION_STATE.ref(name_of(state), namespace_of(state))
            reason = dig(state, "status", "errorSummary", default="no reason is reported")
            show = f"kubectl get configurationstate {ref.name} -n {ref.namespace} -o yaml"
            message = f"MetalLB rejects its configuration ({ref.name}): {reason}"
            yield _observe_network(networks[0], ref, message, show, field="status.errorSummary")
    if facts.is_served(frr.NODE_STATE) and any(network.bgp for network in networks):
        for state in facts.objects(frr.NODE_STATE):
            ref = frr.NODE_STATE.ref(name_of(state))
            show = "kubectl get frrconfigurations.frrk8s.metallb.io -A -o yaml"
            for reason in frr.list_rejections(state):
                yield _observe_network(networks[0], ref, f"node {ref.name}: {reason}", show, field="status")


@rule("2203", Severity.ERROR, "A public address is not in the router configuration of its node", is_volatile=True)
def prefix_not_configured(facts: Facts) -> Iterator[Observation]:
    """The speaker on the VM's node reports that it announces the address, and the running configuration of FRR lacks
    its prefix.

    FRR-K8s has not applied MetalLB's configuration, or rejects it (see YOSHI-2202). It reports the configuration of FRR
    every 30 seconds, so an address that is announced for less than a minute is not reported.
    """
    if not facts.is_served(frr.NODE_STATE):
        return
    for public in _addresses(facts):
        if public.metallb is None or not public.metallb.speaks_bgp or not public.is_assigned:
            continue
        if public.service is None or announcing_nodes(public, facts) is None:
            continue
        since = metallb.announced_since(public.service, public.metallb.status, facts.snapshot)
        for name in sorted(since):
            state = facts.find(frr.NODE_STATE, name)
            if state is None or frr.has_prefix(state, public.address) or [*frr.list_rejections(state)]:
                continue
            if not frr.has_config(state) or age_in_seconds(since[name], facts.now) < FRR_REPORT_SECONDS:
                continue
            yield _observe(
                public,
                f"the running configuration of FRR on node {name} does not announce {public.address}",
                f"kubectl get frrnodestates.frrk8s.metallb.io {name} -o yaml",
                ref=frr.NODE_STATE.ref(name),
                field="status.runningConfig",
            )


@rule("2204", Severity.ERROR, "The BGP peers of a network are missing or differ from its spec")
def peers_differ(facts: Facts) -> Iterator[Observation]:
    """A BGPPeer, or the AS number in Calico's BGPConfiguration, was deleted or changed after the network was created.

    `kubectl yoshi sync` creates or repairs what yoshi has created; what others have created it reports as a conflict.
    """
    for network in public_networks(facts):
        for change in _peer_changes(network, facts):
            state = "is missing" if change.verb is Verb.CREATE else "was changed"
            message = f"{change.ref}, which network {network.full_name} needs, {state}"
            yield _observe_network(network, change.ref, message, remedies.sync(network), field="spec")


def _peer_changes(network: Network, facts: Facts) -> Iterator[Change]:
    """Yield the changes with which `sync` would repair the BGP peers of a network; none if its sessions are up.

    Raises:
        CannotCheckError: something they depend on cannot be read.
    """
    if network.bgp is None or _has_all_sessions(network, facts):
        return
    try:
        plan = facts.backend(network).ensure(network, {}, facts.snapshot)
    except PreconditionFailed as error:
        raise CannotCheckError(error.in_one_line) from None
    for change in plan:
        if change.ref.resource.plural in ("bgppeers", "bgpconfigurations") and change.verb is not Verb.DELETE:
            yield change


def _has_all_sessions(network: Network, facts: Facts) -> bool:
    """Return whether established sessions with all routers are reported, for which there must be BGP peers."""
    try:
        return all(session.state == ESTABLISHED for session in iter_sessions(network, facts))
    except CannotCheckError:
        return False


# -- versions --------------------------------------------------------------------------------------------------------


@rule("2301", Severity.WARNING, "MetalLB withdraws a public address during a live migration")
def withdrawn_by_migration(facts: Facts) -> Iterator[Observation]:
    """During a live migration of a VM with a permanent private address its two pods have the same address, and MetalLB
    before 0.16 takes that address for not ready as long as one of them is not (metallb#2908).

    The public address is unreachable until the migration ends. Upgrade MetalLB to 0.16 or newer.
    """
    migratable: dict[str, list[PublicAddress]] = defaultdict(list)
    private = {(vm.namespace, vm.name) for vm, row in facts.attachments if facts.backend(row.network).keeps_addresses}
    for public in _addresses(facts):
        if public.metallb is not None and (public.vm.namespace, public.vm.name) in private:
            conditions = dig(facts.instance(public.vm), "status", "conditions", default=[])
            if any(one.get("type") == "LiveMigratable" and one.get("status") == "True" for one in conditions):
                migratable[public.network.full_name].append(public)
    if not migratable:
        return
    version, ref = _metallb_version(facts)
    if version >= FIXED_VERSION:
        return
    for held in migratable.values():
        network, vms = held[0].network, [public.vm.full_name for public in held]
        named = first_few(sorted(vms), MAX_NAMES)
        message = (
            f"MetalLB v{version[0]}.{version[1]} withdraws addresses of network {network.full_name} while their VMs "
            f"migrate: {named}"
        )
        where = f"kubectl get deployment {ref.name} -n {ref.namespace} -o wide"
        yield _observe_network(network, ref, message, where, field="spec.template.spec.containers")


def _metallb_version(facts: Facts) -> tuple[tuple[int, int], ObjectRef]:
    """Return MetalLB's version, from the image of its controller, and the controller's Deployment.

    Raises:
        CannotCheckError: it is unknown.
    """
    ref, tag = metallb.find_controller(facts.snapshot) or (None, "")
    if ref is not None and (found := re.match(r"v(\d+)\.(\d+)", tag)):
        return (int(found[1]), int(found[2])), ref
    if reason := facts.snapshot.unreadable_reason(*metallb.CONTROLLER_QUERIES):
        raise CannotCheckError(f"MetalLB's version is unknown: {reason}")
    raise CannotCheckError("MetalLB's version is unknown: no Deployment of its controller names it")


@rule("2401", Severity.WARNING, "Services use spec.externalIPs, which Kubernetes 1.40 disables")
def external_ips(facts: Facts) -> Iterator[Observation]:
    """Kubernetes deprecates spec.externalIPs in 1.36, disables it in 1.40, and removes it in 1.43 (KEP-5707).

    Create a public network without `--via external-ips`, and move the VMs there; it may announce the same addresses
    once the old network is deleted. Change Services that yoshi did not create to type LoadBalancer.
    """
    for network in public_networks(facts):
        if network.options.get("via") == "external-ips":
            ref = NETWORKWIZARD.ref(network.name, network.namespace)
            message = f"the Services of network {network.full_name} use spec.externalIPs, off from Kubernetes 1.40 on"
            yield _observe_network(network, ref, message, remedies.describe(network), field="spec.public.via")
    for public in _addresses(facts):
        if public.network.options.get("via") != "external-ips" and dig(public.service, "spec", "externalIPs"):
            ref = public.service_ref
            message = f"{ref} provides {public.address} by spec.externalIPs, off from Kubernetes 1.40 on"
            show = f"kubectl get service {ref.name} -n {ref.namespace} -o yaml"
            yield _observe(public, message, show, field="spec.externalIPs")
