"""Layer 2 networks: Open vSwitch bridges on the nodes, an interface of the VM's own on them, addresses by DHCP.

Hostplumber makes the bridges (ovs_bridges), Multus and the CNI plugin ovs plug the VM's pod in (the
NetworkAttachmentDefinition here), luigi's DHCP server tells the guest its address (ovs_dhcp).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from kubectl_yoshi.backends import kubevirt, ovs_guests, ovs_leases, ovs_vm
from kubectl_yoshi.backends import ovs_bridges as bridges
from kubectl_yoshi.backends import ovs_dhcp as dhcp
from kubectl_yoshi.backends.marks import earlier_selves, gone_of
from kubectl_yoshi.backends.ovs_objects import (
    creation,
    deletion,
    in_the_way,
    is_own,
    mending,
    own_again,
    own_object,
    own_read,
)
from kubectl_yoshi.backends.ovs_spec import NAD, PLUGIN, Layer2, layer2_of
from kubectl_yoshi.backends.private import Private
from kubectl_yoshi.backends.wished_names import NETWORK_NAME, names_of
from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.backend import HotPlug, LetGo, Obstacle, Recorded, Use, Wishes
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, same_json
from kubectl_yoshi.model.errors import Refused, UsageMistake, first_few
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.ledger import NETWORK, RESERVATION, Record
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, comes_first, parse_network
from kubectl_yoshi.model.nic import ANY_NIC, Nic
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, annotations_of, dig, name_of, namespace_of
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import LAUNCHER, POD, VM, VMI, Vm, instance_reads, is_over, pods_of, vms_read

RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
MARKER = "ovs-cni.network.kubevirt.io/"
"""Prefix of the node resource by which ovs-cni's marker tells that a node has a bridge."""
CNI_VERSION = "0.4.0"
FEW = 5
"""So many VMs are named in a message."""


class Ovs(Private):
    """The back-end for spec.plugin: ovs."""

    plugin = PLUGIN
    wish = NETWORK_NAME
    on_template = True
    has_interface = True
    keeps_addresses = False
    by_default = False

    def wishes(self, vm: Vm) -> Wishes:
        """See Backend."""
        return Wishes(names_of(vm))

    def missing(self, served: Served) -> str:
        """See Backend."""
        return "" if NAD in served else f"Multus's attachments ({NAD.full_name})"

    # -- networks ------------------------------------------------------------------------------------------------

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """See Backend."""
        layer = layer2_of(network)
        lacking = [why for why in (bridges.missing(layer, facts.served), dhcp.missing(layer, facts.served)) if why]
        if lacking:
            raise Refused(f"network {network.full_name} needs what is not installed: {lacking[0]}", *lacking[1:])
        others, live = _others(network, facts)
        return (
            *map(Obstacle, _rivals(network, layer, others)),
            *in_the_way(NAD, network, facts),
            *bridges.obstacles(layer, live, facts),
            *dhcp.obstacles(network, layer, facts),
        )

    def own_use(self, network: Network) -> str | None:
        """See Backend."""
        return "DHCP server" if layer2_of(network).dhcp is not None else ""

    def build(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """See Backend."""
        layer = layer2_of(network)
        attachment = own_object(NAD, network, facts)
        _must_stay_under_vms(network, layer, attachment, records, facts)
        config, annotations = cni_config(network, layer), {RESOURCE_NAME: MARKER + layer.bridge}
        if attachment is None:
            first = [creation(NAD, network, {"spec": {"config": json.dumps(config)}}, annotations)]
        else:
            fields: dict[tuple[str, ...], object] = {(*ANNOTATIONS, key): value for key, value in annotations.items()}
            if not same_json(_config_of(attachment), config):  # the plugin's own words, in a text: nobody changes them
                fields[("spec", "config")] = json.dumps(config)
            first = mending(NAD, attachment, fields | own_again(attachment, network))
        first += bridges.build(network, layer, facts)
        served = dhcp.build(network, layer, records, facts)
        return (Plan((tuple(first),)) if first else Plan()) + served

    def problem(self, network: Network, facts: Facts) -> str:
        """See Backend."""
        layer = layer2_of(network)
        if own_object(NAD, network, facts) is None:
            return f"{NAD.ref(network.name, network.namespace)} is missing"
        return bridges.problem(layer, facts) or dhcp.problem(network, layer, facts)

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """See Backend."""
        layer = layer2_of(network)
        there = own_object(NAD, network, facts)
        absence = facts.absence(own_read(NAD, network))
        nics = f" on {','.join(layer.nics)}" if layer.nics else ""
        return (
            ("Bridge", f"{layer.bridge}{nics}"),
            ("VLAN", str(layer.vlan) if layer.vlan else "untagged"),
            ("MTU", str(layer.mtu or "")),
            ("Attachment", str(NAD.ref(network.name, network.namespace)) + ("" if there else f" ({absence})")),
            *bridges.describe(layer, facts),
            *dhcp.describe(network, layer, facts),
        )

    def demolish(self, network: Network, facts: Facts, later: bool = False) -> Plan:
        """See Backend."""
        if (users := _still_on_it(network, facts)) and not later:
            raise Refused(
                f"{users[0].ref} still has an interface on network {network.full_name}",
                f"Take it off: kubectl yoshi vm detach {users[0].name} -n {users[0].namespace} "
                f"--network {network.full_name}",
            )
        attachment = own_object(NAD, network, facts)
        last: list[Change] = bridges.give_up({network.uid}, facts)
        if attachment is not None and is_own(attachment, network):
            last.insert(0, deletion(NAD, attachment))
        return dhcp.demolish(network, facts) + (Plan((tuple(last),)) if last else Plan())

    def leftovers(self, live: Sequence[Network], namespace: str | None, facts: Facts) -> Plan:
        """See Backend. All but templates is owned by its network, so that Kubernetes takes it away."""
        users = bridges.users(facts)
        gone = gone_of(users, live, namespace) - earlier_selves(users, live)
        changes = bridges.give_up(gone, facts) if gone else []
        return Plan((tuple(changes),)) if changes else Plan()

    # -- VMs -----------------------------------------------------------------------------------------------------

    def uses(self, network: Network, vms: Sequence[Vm], numbers: Intervals, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        leases = ovs_leases.reads(network, numbers, facts)
        facts.ask(*instance_reads(vms), *leases, *(dhcp.server_reads(network, facts) if numbers else ()))
        found: list[Use] = []
        for vm in vms:
            found += ovs_vm.wanted_by(vm, network)
            instance = facts.one(VMI, vm.name, vm.namespace)  # maybe of an earlier VM of that name
            if instance is not None and not is_over(instance):
                found += ovs_vm.run_by_instance(instance, network, vm, facts)
            found += [u for pod in pods_of(vm.namespace, vm.name, facts) for u in ovs_vm.run_by_pod(pod, network)]
        if numbers:
            found += [use for use in dhcp.server_use(network, facts) if use.number in numbers]
        return (*found, *ovs_leases.lent(network, leases, dict(ovs_vm.macs_on(vms, network)), facts))

    def settings(self, facts: Facts) -> tuple[Read, ...]:
        """See Backend."""
        return ()

    def survey(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        where: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_reads = [Read(VM, namespace) for namespace in where]
        vmi_reads = [Read(VMI, namespace) for namespace in where]
        pod_reads = [Read(POD, namespace, label_selector=LAUNCHER) for namespace in where]
        leases = ovs_leases.reads(network, network.everything, facts)
        facts.ask(*vm_reads, *vmi_reads, *pod_reads, *leases, *dhcp.server_reads(network, facts))
        vms = vms_read(vm_reads, facts)
        by_name = {(vm.namespace, vm.name): vm for vm in vms}
        found = [use for vm in vms for use in ovs_vm.wanted_by(vm, network)]
        for vmi in facts.ask(*vmi_reads):
            if not is_over(vmi):
                found += ovs_vm.run_by_instance(vmi, network, by_name.get((namespace_of(vmi), name_of(vmi))), facts)
        for pod in facts.ask(*pod_reads):
            if not is_over(pod):
                found += ovs_vm.run_by_pod(pod, network)
        found += dhcp.server_use(network, facts)
        return (*found, *ovs_leases.lent(network, leases, dict(ovs_vm.macs_on(vms, network)), facts))

    def told_by(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """See Backend."""
        return ovs_vm.told_by(vm, network)

    def elsewhere(self, vm: Vm, network: Network, facts: Facts) -> str:
        """See Backend. A VM may be on several layer 2 networks."""
        return ""

    def prepare(self, vm: Vm, network: Network, number: int, facts: Facts) -> LetGo:
        """See Backend."""
        return LetGo()

    def provide(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """See Backend."""
        return dhcp.provide(network, records, facts) if layer2_of(network).dhcp is not None else Plan()

    def retract(self, network: Network, records: Mapping[int, Record], facts: Facts) -> LetGo:
        """See Backend."""
        if layer2_of(network).dhcp is None:
            return LetGo()
        theirs = dhcp.kept_for_others(network, records, facts)
        return dhcp.retract(network, [number for number in records if number not in theirs], facts)

    def fasten(
        self,
        vm: Vm,
        network: Network,
        number: int,
        mac: str,
        facts: Facts,
        ports: Sequence[Port] = (),
        nic: Nic = ANY_NIC,
    ) -> tuple[Change, ...]:
        """See Backend."""
        patch = PatchBuilder.of_uid(vm.uid)
        binding = kubevirt.default_binding(facts) if vm.pod_interface == {} else ""
        name = ovs_vm.plug_in(patch, vm, network, number, mac, nic, binding)
        layer = layer2_of(network)
        told: tuple[Change, ...] = ()
        if nic.cloud_init:
            told = ovs_guests.write(patch, vm, network, layer, number, name, mac, facts)
        if not patch.writes:
            return told
        says = f"give {network.address(number)} to {vm.ref}"
        return (*told, Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject))

    def hot_plug(self, vm: Vm, facts: Facts) -> HotPlug:
        """See Backend."""
        return kubevirt.hot_plug(vm, facts)

    def loosen(self, vm: Vm, network: Network, facts: Facts, live: bool = False) -> tuple[Change, ...]:
        """See Backend."""
        if not ovs_vm.is_on(vm, network):
            return ()
        patch = PatchBuilder.of_uid(vm.uid)
        mac = ovs_vm.unplug(patch, vm, network, live)
        told = ovs_guests.erase(patch, vm, mac, facts)
        says = f"take {vm.ref} off network {network.full_name}"
        return (*told, Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject))

    def let_go(self, network: Network, number: int, namespace: str, name: str, facts: Facts) -> LetGo:
        """See Backend. A lease that is left keeps the address from others until it ends, which needs no record."""
        if layer2_of(network).dhcp is None:
            return LetGo()
        return dhcp.retract(network, [number], facts, f"{namespace}/{name}")

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """See Backend."""
        return ovs_vm.macs_of(vm, network)

    def concerns(self, vm: Vm, network: Network, number: int, facts: Facts, nic: Nic = ANY_NIC) -> tuple[str, ...]:
        """See Backend."""
        layer = layer2_of(network)
        if layer.dhcp is None:
            told = nic.cloud_init or ovs_guests.tells(vm, number, network, facts)
            return () if told else _to_be_set_in_the_guest(vm, network, number)
        leases = ovs_leases.reads(network, Intervals.of_numbers([number]), facts)
        facts.ask(*leases)
        found = []
        if why := facts.why_unknown(*leases):
            found.append(f"whether {network.address(number)} is lent to another machine cannot be told: {why}")
        return (*found, *dhcp.concerns(network, number, facts))

    def strays(self, network: Network, recorded: Recorded, facts: Facts) -> Plan:
        """See Backend. An address's file goes before its record; but a run that was slow or killed may write it after
        that. Leases end by themselves."""
        return dhcp.strays(network, recorded, facts) if layer2_of(network).dhcp is not None else Plan()


def _to_be_set_in_the_guest(vm: Vm, network: Network, number: int) -> tuple[str, ...]:
    assert network.cidr is not None
    via = f", gateway {network.gateway}" if network.gateway else ""
    address = f"{network.address(number)}/{network.cidr.prefixlen}{via}"
    return (f"{vm.ref}: nothing tells the guest its address: set {address} in it, or pass --cloud-init",)


def _still_on_it(network: Network, facts: Facts) -> list[Vm]:
    """VMs, of all namespaces that may be seen, that could not start any more without the network's attachment."""
    everywhere = Read(VM)
    found = facts.ask(everywhere)
    if facts.why_unknown(everywhere):
        found = facts.ask(Read(VM, network.namespace))
    return [vm for vm in map(Vm, found) if ovs_vm.plug_of(vm.raw, vm.namespace, network) is not None]


def cni_config(network: Network, layer: Layer2) -> Json:
    """The NetworkAttachmentDefinition's config, as the CNI plugin ovs reads it.

    The VLAN is always there: with none the plugin makes a trunk, and the VM would see every VLAN of the bridge.
    """
    config: Json = {
        "cniVersion": CNI_VERSION,
        "name": network.name,
        "type": "ovs",
        "bridge": layer.bridge,
        "vlan": layer.vlan,
    }
    return {**config, "mtu": layer.mtu} if layer.mtu else config


def _config_of(attachment: Json) -> object:
    try:
        return json.loads(dig(attachment, "spec", "config", default=""))
    except ValueError:
        return None


def _must_stay_under_vms(
    network: Network, layer: Layer2, attachment: Json | None, records: Mapping[int, Record], facts: Facts
) -> None:
    """Raises Refused where an edited spec would take the bridge from under VMs: they run on it, or would start on
    another one than before."""
    held = {n: r for n, r in sorted(records.items()) if r.kind not in (NETWORK, RESERVATION)}
    if not held:
        return
    former = bridges.taken_off(network, layer, facts) or _former_bridge(layer, attachment)
    if not former:
        return
    holders = [f"{record.holder} ({network.address(number)})" for number, record in held.items()]
    raise Refused(
        f"network {network.full_name} wants bridge {bridges.shown(layer)}, and VMs are on bridge {former}: "
        f"{first_few(holders, FEW)}",
        "Detach them first, or put back what the network's spec.ovs said: "
        f"kubectl edit networkwizard {network.name} -n {network.namespace}",
    )


def _former_bridge(layer: Layer2, attachment: Json | None) -> str:
    """The bridge that the attachment was made for, where it is another one; "" also where somebody else has changed
    the attachment, which does not say the same in both places then."""
    if attachment is None:
        return ""
    marker = str(annotations_of(attachment).get(RESOURCE_NAME, ""))
    bridge = marker.removeprefix(MARKER)
    made_so = marker.startswith(MARKER) and dig(_config_of(attachment), "bridge") == bridge
    return bridge if made_so and bridge != layer.bridge else ""


def _others(network: Network, facts: Facts) -> tuple[list[Network], set[str]]:
    """The other layer 2 networks that may be read, and the uids of all networks that are there."""
    everywhere = Read(NETWORKWIZARD)
    found = facts.ask(everywhere)
    if facts.why_unknown(everywhere):
        found = facts.ask(Read(NETWORKWIZARD, network.namespace))
    others = []
    for obj in found:
        itself = (namespace_of(obj), name_of(obj)) == (network.namespace, network.name)
        if itself or dig(obj, "spec", "plugin") != PLUGIN:
            continue
        try:
            others.append(parse_network(obj))
        except UsageMistake:
            continue
    return others, {other.uid for other in others} | {network.uid}


def _rivals(network: Network, layer: Layer2, others: Sequence[Network]) -> Iterator[str]:
    """Networks that want the same VLAN of the same bridge, its interface in another one, or the bridge made otherwise.

    Of two that are made at the same moment one gives way.
    """
    for other in others:
        if network.uid and not comes_first(other, network):
            continue
        try:
            theirs = layer2_of(other)
        except UsageMistake:
            continue
        if (theirs.bridge, theirs.vlan) == (layer.bridge, layer.vlan):
            vlan = f"VLAN {layer.vlan}" if layer.vlan else "untagged"
            yield f"network {other.full_name} is on bridge {layer.bridge}, {vlan}, already"
        elif nic := bridges.shared_nic(layer, theirs):
            yield f"network {other.full_name} has {nic} in bridge {theirs.bridge}: an interface is in one bridge only"
        elif bridges.other_nics(layer, theirs):
            yield f"network {other.full_name} has {','.join(theirs.nics)} in bridge {layer.bridge}"
        elif bridges.other_nodes(layer, theirs):
            yield (
                f"network {other.full_name} makes bridge {layer.bridge} on other nodes: ask for the same "
                "--node-selector, or for --no-host-config"
            )
