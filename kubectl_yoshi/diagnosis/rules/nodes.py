"""Rules about nodes and Layer 2 networks: 4xxx."""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_yoshi.backends import nmstate
from kubectl_yoshi.backends.ovs import bridges, dhcp
from kubectl_yoshi.backends.ovs.objects import object_query
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, NAD, PLUGIN, TEMPLATE, Layer2, parse_layer2_spec
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation, Severity
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError, first_few
from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import NODE, NamespacedName, ObjectRef, Resource
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query

MAX_ADDRESSES = 5
"""Maximum number of addresses that a message names."""


def _observe(
    network: Network, ref: ObjectRef, message: str, *commands: str, field: str = "", evidence: tuple[str, ...] = ()
) -> Observation:
    """Return an observation about an object of a Layer 2 network."""
    return Observation(ref, message, field, evidence, commands, network=(network.namespace, network.name))


def _networks(facts: Facts) -> Iterator[tuple[Network, Layer2]]:
    """Yield the Layer 2 networks of the scope whose spec is valid."""
    for network in facts.networks:
        if network.plugin == PLUGIN:
            try:
                yield network, parse_layer2_spec(network)
            except UsageError:
                continue  # reported as an invalid network


def _wanted_changes(network: Network, resource: Resource, facts: Facts) -> list[Change]:
    """Return the changes with which `sync` would repair a network's object of a resource.

    Raises:
        CannotCheckError: the object, or what it depends on, cannot be read.
    """
    query = Query(TEMPLATE) if resource == TEMPLATE else object_query(resource, network)
    facts.snapshot.lookup(query)
    if reason := facts.snapshot.unreadable_reason(query):
        raise CannotCheckError(reason)
    plans = facts.derived(_computed_plans)
    name = (network.namespace, network.name)
    if name not in plans:
        records = facts.allocations(network).records()
        try:
            plans[name] = facts.backend(network).ensure(network, records, facts.snapshot)
        except PreconditionFailed as error:
            raise CannotCheckError(error.in_one_line) from None
    plan = plans[name]
    return [change for change in plan if change.ref.resource == resource and change.verb is not Verb.DELETE]


def _computed_plans(_: Facts) -> dict[NamespacedName, Plan]:
    """Return the plans that rules have computed so far, by network: none at first."""
    return {}


def _describe(change: Change) -> str:
    return f"{change.ref} is missing" if change.verb is Verb.CREATE else f"{change.ref} was changed"


@rule("4401", Severity.ERROR, "The attachment of a Layer 2 network, or its bridge, is missing")
def attachment_missing(facts: Facts) -> Iterator[Observation]:
    """The NetworkAttachmentDefinition was deleted or edited, or no node has the bridge that the network expects.

    VMs of the network do not start, or are on another bridge or VLAN. `kubectl yoshi sync` creates or repairs the
    attachment; a bridge that yoshi does not create (hostConfig: false) must be created on the nodes.
    """
    for network, layer in _networks(facts):
        if NAD in facts.served:
            for change in _wanted_changes(network, NAD, facts):
                message = f"{_describe(change)}: VMs cannot be connected to bridge {layer.bridge}"
                yield _observe(network, change.ref, message, remedies.sync(network), field="spec.config")
        if not layer.makes_bridges and not any(bridges.has_bridge(node, layer) for node in facts.objects(NODE)):
            resource = bridges.node_resource(layer).replace(".", "\\.")
            columns = f"NODE:.metadata.name,BRIDGE:.status.allocatable.{resource}"
            yield _observe(
                network,
                NETWORKWIZARD.ref(network.name, network.namespace),
                f"no node has bridge {layer.bridge} of network {network.full_name}",
                f"kubectl get nodes -o custom-columns='{columns}'",
                field="spec.ovs.bridge",
            )


@rule("4402", Severity.ERROR, "A node network policy of a Layer 2 network could not be applied")
def node_policy_degraded(facts: Facts) -> Iterator[Observation]:
    """Kubernetes NMState reports that a NodeNetworkConfigurationPolicy with the network's bridge or interface failed.

    NMState then restores the former configuration of the node, without the bridge. The enactments name the nodes and
    the error.
    """
    for network, layer in _networks(facts) if facts.is_served(nmstate.NNCP) else ():
        for policy in facts.objects(nmstate.NNCP):
            reason = nmstate.degraded_reason(policy)
            concerned = nmstate.list_interfaces(policy) & {layer.bridge, *layer.nics}
            if reason and concerned:
                ref = nmstate.NNCP.ref(str(policy["metadata"]["name"]))
                message = f"{ref}, which configures {', '.join(sorted(concerned))}, could not be applied: {reason}"
                show = f"kubectl get nodenetworkconfigurationenactments -l nmstate.io/policy={ref.name}"
                yield _observe(network, ref, message, show, field="status.conditions")


@rule("4403", Severity.ERROR, "The DHCP server of a Layer 2 network may lease allocated addresses")
def address_not_reserved_in_dhcp(facts: Facts) -> Iterator[Observation]:
    """The DHCP server's ConfigMap lacks the reservation of an allocated address, or its ranges were changed, so an
    unknown client may get the address of a VM.

    `kubectl yoshi sync` writes the configuration again. The server reads it only when it starts.
    """
    for network, layer in _networks(facts):
        if layer.dhcp is None or DHCPSERVER not in facts.served:
            continue
        for resource in (CONFIGMAP, DHCPSERVER):
            for change in _wanted_changes(network, resource, facts):
                if change.verb is Verb.CREATE:
                    continue  # without a server nothing is leased: YOSHI-4404
                lacking = _unreserved_addresses(change)
                named = first_few(lacking, MAX_ADDRESSES)
                what = f"lacks the reservations of {named}" if lacking else "was changed"
                restart = remedies.restart((network.namespace, f"{network.name}-0"))
                message = f"{change.ref}, the DHCP configuration of network {network.full_name}, {what}"
                yield _observe(network, change.ref, message, remedies.sync(network), restart)


def _unreserved_addresses(change: Change) -> list[str]:
    """Return the addresses whose files a change of the ConfigMap writes."""
    written = [str(op["path"]) for op in change.body if op["op"] in ("add", "replace")]
    files = [path.removeprefix("/binaryData/") for path in written if path.startswith("/binaryData/")]
    return [file.removesuffix(".conf") for file in files if file != dhcp.OPTIONS_FILE]


@rule("4404", Severity.ERROR, "The DHCP server of a Layer 2 network does not run", is_volatile=True)
def dhcp_server_down(facts: Facts) -> Iterator[Observation]:
    """The DHCPServer or its ConfigMap was deleted, or the VM that luigi's controller creates for it does not run.

    VMs that start get no address from DHCP. `kubectl yoshi sync` creates the objects again; start the server's VM, or
    look at why it does not start.
    """
    for network, layer in _networks(facts):
        if layer.dhcp is None or DHCPSERVER not in facts.served:
            continue
        changes = (c for resource in (DHCPSERVER, CONFIGMAP) for c in _wanted_changes(network, resource, facts))
        missing = [change for change in changes if change.verb is Verb.CREATE]
        for change in missing:
            message = f"{_describe(change)}: network {network.full_name} has no DHCP server"
            yield _observe(network, change.ref, message, remedies.sync(network))
        if missing:
            continue
        facts.snapshot.answer_from_lists(dhcp.server_instance_queries(network))
        if reason := dhcp.pending_rollout(network, layer, facts.snapshot):
            for query in dhcp.server_instance_queries(network):
                if unreadable := facts.snapshot.unreadable_reason(query):
                    raise CannotCheckError(unreadable)
            name = f"{network.name}-0"
            start, show = (f"virtctl start {name}", f"kubectl describe vm {name}")
            ref = DHCPSERVER.ref(network.name, network.namespace)
            commands = tuple(f"{command} -n {network.namespace}" for command in (start, show))
            yield _observe(network, ref, f"network {network.full_name}: {reason}", *commands)


@rule("4405", Severity.ERROR, "The bridge of a Layer 2 network is not configured on a node")
def bridge_not_configured(facts: Facts) -> Iterator[Observation]:
    """The HostNetworkTemplate was deleted or edited, or Hostplumber has not created the bridge on a node.

    VMs of the network cannot run on such a node. `kubectl yoshi sync` creates or repairs the template; the log of
    Hostplumber on the node says why a bridge is missing there. A node without the network's interface never gets it:
    restrict the network by `--node-selector`.
    """
    for network, layer in _networks(facts):
        if not layer.makes_bridges or TEMPLATE not in facts.served:
            continue
        changes = _wanted_changes(network, TEMPLATE, facts)
        for change in changes:
            message = f"{_describe(change)}: nothing configures bridge {layer.bridge} on the nodes"
            yield _observe(network, change.ref, message, remedies.sync(network), field="spec.ovsConfig")
        if changes:
            continue
        facts.objects(NODE)
        reason = bridges.health(layer, facts.snapshot) or bridges.pending_rollout(layer, facts.snapshot)
        if reason:
            yield _observe(
                network,
                NETWORKWIZARD.ref(network.name, network.namespace),
                f"network {network.full_name}: {reason}",
                "kubectl get hostnetworks.plumber.k8s.pf9.io -A -o yaml",
                field="spec.ovs.bridge",
            )
