"""Private networks on Calico: an IPPool per network, and a pin on each VM's template.

The pin is the annotation cni.projectcalico.org/ipAddrs, which KubeVirt hands to the launcher pod and Calico's CNI
plugin obeys (https://docs.tigera.io/calico/latest/networking/ipam/use-specific-ip). It reaches a running VM only by
a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from kubectl_yoshi.backends import calico_handles as handles
from kubectl_yoshi.backends import calico_ipam as ipam
from kubectl_yoshi.backends import calico_pools as pools
from kubectl_yoshi.backends.calico_api import (
    V1,
    V3,
    CalicoApi,
    api_for_reading,
    api_for_writing,
    calico_version,
    is_installed,
)
from kubectl_yoshi.backends.calico_pins import (
    HW_ADDR,
    IP_ADDRS,
    pinned,
    run_by_instance,
    run_by_pod,
    wanted_by,
    wanted_in,
)
from kubectl_yoshi.backends.private import Private
from kubectl_yoshi.backends.wished_names import NETWORK_NAME, names_it, names_of, other_names, with_name, without_name
from kubectl_yoshi.model.addresses import Address, Intervals, address_of
from kubectl_yoshi.model.backend import HotPlug, How, LetGo, Obstacle, Recorded, Trouble, Use, Wishes
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts, Read, Served, both
from kubectl_yoshi.model.ledger import Record
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.nic import ANY_NIC, Nic
from kubectl_yoshi.model.objects import ANNOTATIONS, dig, labels_of, name_of
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import (
    LAUNCHER,
    POD,
    VM,
    VMI,
    Vm,
    instance_name_of_pod,
    instance_reads,
    is_over,
    pods_of,
)

ALLOW_MIGRATION = "kubevirt.io/allow-pod-bridge-network-live-migration"
TEMPLATE_ANNOTATIONS = ("spec", "template", "metadata", "annotations")

MASQUERADE_CIDR = "10.0.2.0/24"
MIGRATING = ("LiveMigrate", "LiveMigrateIfPossible", "External")
"""Eviction strategies of a VM that is to leave its node while it runs."""
KEEPS_VM_ADDRESSES = (3, 32)
"""From this version on Calico itself keeps a VM's address in a handle."""


class Calico(Private):
    """The back-end for spec.plugin: calico."""

    plugin = "calico"
    wish = NETWORK_NAME
    on_template = True
    has_interface = False
    keeps_addresses = True
    by_default = True

    def wishes(self, vm: Vm) -> Wishes:
        """See Backend."""
        return Wishes(names_of(vm))

    def missing(self, served: Served) -> str:
        """See Backend."""
        return "" if is_installed(served) else f"Calico's IPPools (ippools.{V3} or ippools.{V1})"

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """See Backend."""
        if network.cidr is None:
            raise UsageMistake(
                f"network {network.full_name}: a Calico network needs a cidr", "Give it one, such as 10.133.0.0/16."
            )
        pools.pool_spec(network, manual=True)
        return pools.obstacles(network, facts)

    def own_use(self, network: Network) -> str | None:
        """See Backend."""
        return None

    def build(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """See Backend."""
        return pools.build(network, facts)

    def problem(self, network: Network, facts: Facts) -> str:
        """See Backend."""
        return pools.problem(network, facts)

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """See Backend."""
        api = api_for_writing(facts)
        pool = pools.find_pool(network, api, facts)
        if pool is None:
            return (("IPPool", f"{pools.pool_name(network)} ({facts.absence(Read(api.pool))})"),)
        spec = pool.get("spec") or {}
        return (
            ("IPPool", f"{name_of(pool)} ({api.pool.api_version})"),
            ("VXLAN", str(spec.get("vxlanMode", "Never"))),
            ("IPIP", str(spec.get("ipipMode", "Never"))),
            ("NAT Outgoing", str(bool(spec.get("natOutgoing"))).lower()),
            ("Block Size", str(spec.get("blockSize", ""))),
            ("Assignment", str(spec.get("assignmentMode", "Automatic"))),
        )

    def demolish(self, network: Network, facts: Facts, later: bool = False) -> Plan:
        """See Backend."""
        return pools.demolish(network, facts, later)

    def leftovers(self, live: Sequence[Network], namespace: str | None, facts: Facts) -> Plan:
        """See Backend."""
        return pools.leftovers(live, namespace, facts) if is_installed(facts.served) else Plan()

    # -- VMs -----------------------------------------------------------------------------------------------------

    def uses(self, network: Network, vms: Sequence[Vm], numbers: Intervals, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        api = api_for_reading(facts)
        wanted = [*instance_reads(vms), *(r for vm in vms for r in ipam.handle_reads(api, vm.namespace, vm.name))]
        _, blocks = both(lambda: facts.ask(*wanted), lambda: self._block_reads(network, numbers, api, facts))
        facts.ask(*blocks)
        found: list[Use] = []
        held: set[tuple[int, str]] = set()
        for vm in vms:
            found += wanted_by(vm, network)
            instance = facts.one(VMI, vm.name, vm.namespace)  # maybe of an earlier VM of that name
            if instance is not None and not is_over(instance):
                found += run_by_instance(instance, network)
            found += [u for pod in pods_of(vm.namespace, vm.name, facts) for u in run_by_pod(pod, network)]
            for holding in ipam.held_by_vm(api, vm.namespace, vm.name, facts)[0]:
                if holding.version == network.version and holding.number in network.everything:
                    found.append(_held(holding, facts))
                    held.add((holding.number, holding.handle))
        for holding in ipam.holdings_in(numbers, network.version, api, facts):
            if (holding.number, holding.handle) not in held:
                found.append(_held(holding, facts))
        return tuple(found)

    def settings(self, facts: Facts) -> tuple[Read, ...]:
        """See Backend. How addresses are assigned and kept, and Calico's version."""
        api = api_for_reading(facts)
        return Read(api.config, name="default"), Read(api.information, name="default")

    def _block_reads(self, network: Network, numbers: Intervals, api: CalicoApi, facts: Facts) -> list[Read]:
        if not numbers or network.cidr is None:
            return []
        if numbers.size > 64 * 32:
            return [Read(api.block)]

        def with_size(size: int) -> list[Read]:
            blocks = {ipam.block_of(number, network.version, size) for number in numbers}
            return [Read(api.block, name=ipam.block_name(block)) for block in blocks]

        expected = with_size(pools.block_size(network))  # read at once, since it is what the pool says but for edits
        size, _ = both(lambda: pools.actual_block_size(network, api, facts), lambda: facts.ask(*expected))
        return with_size(size)

    def survey(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        api = api_for_reading(facts)
        where: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_reads = [Read(VM, namespace) for namespace in where]
        vmi_reads = [Read(VMI, namespace) for namespace in where]
        pod_reads = [Read(POD, namespace, label_selector=LAUNCHER) for namespace in where]
        facts.ask(*vm_reads, *vmi_reads, *pod_reads, Read(api.block))
        found: list[Use] = wanted_in(network, namespaces, facts)
        for vmi in facts.ask(*vmi_reads):
            if not is_over(vmi):
                found += run_by_instance(vmi, network)
        for pod in facts.ask(*pod_reads):
            if not is_over(pod):
                found += run_by_pod(pod, network)
        found += [_held(h, facts) for h in ipam.holdings_in(network.everything, network.version, api, facts)]
        return tuple(found)

    def told_by(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """See Backend. A VM is on one Calico network."""
        return pinned(vm.template_annotations)

    def elsewhere(self, vm: Vm, network: Network, facts: Facts) -> str:
        """See Backend."""
        for address in pinned(vm.template_annotations):
            if address not in network:
                others = self._left(vm, network, facts)
                return f"{address} " + (f"on network {others[0]}" if others else f"({IP_ADDRS} in its template)")
        return ""

    def prepare(self, vm: Vm, network: Network, number: int, facts: Facts) -> LetGo:
        """See Backend."""
        api = api_for_reading(facts)
        held, why = ipam.held_by_vm(api, vm.namespace, vm.name, facts)
        if why:
            return LetGo(Plan(notes=(f"whether Calico holds other addresses for VMs is unknown: {why}",)))
        others = [h for h in held if (h.number, h.version) != (number, network.version)]
        if not others or not ipam.keeps_addresses(api, facts):
            return handles.made_consistent(api, vm, facts)
        address = address_of(others[0].number, others[0].version)
        released = ipam.release(api, others, facts, vm.subject)
        if running := ipam.runs(vm.namespace, vm.name, facts):
            if why := ipam.why_not_allowed(released, facts):  # or the VM would be stopped in vain
                raise Refused(
                    f"Calico holds {address} for VM {vm.subject} and would give it that one again: {why}",
                    "Ask an administrator to run this command, or attach the VM to that address.",
                )
            return LetGo(
                obstacle=f"Calico holds {address} for VM {vm.subject} and would give it that one again ({running})"
            )
        return LetGo(released)

    def provide(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """See Backend."""
        return Plan()

    def retract(self, network: Network, records: Mapping[int, Record], facts: Facts) -> LetGo:
        """See Backend."""
        return LetGo()

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
        if network.cidr is None:
            raise Refused(
                f"network {network.full_name} has no cidr, and a Calico network needs one",
                "Delete it and make it anew with a cidr.",
            )
        own, _ = self.macs_of(vm, network)
        template: dict[str, str | None] = {IP_ADDRS: json.dumps([str(network.address(number))])}
        if not own:
            template[HW_ADDR] = mac or None
        wish = with_name(vm, network, self._left(vm, network, facts))
        patch = PatchBuilder.of_uid(vm.uid)
        patch.set_keys(vm.raw, TEMPLATE_ANNOTATIONS, template)
        patch.set_keys(vm.raw, ANNOTATIONS, {self.wish: wish})
        if not patch.writes:
            return ()
        says = f"give {network.address(number)} to {vm.ref}"
        return (Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject),)

    def _left(self, vm: Vm, network: Network, facts: Facts) -> tuple[str, ...]:
        """The networks that a VM asks for and leaves by coming to this one: it can be on one Calico network only."""
        names = {name: parse_network_name(name, vm.namespace) for name in other_names(vm, network)}
        reads = {name: Read(NETWORKWIZARD, *where) for name, where in names.items()}
        facts.ask(*reads.values())
        plugins = {name: {dig(obj, "spec", "plugin") for obj in facts.ask(read)} for name, read in reads.items()}
        return tuple(
            name
            for name, found in plugins.items()
            if self.plugin in found or not (found or facts.why_unknown(reads[name]))
        )

    def hot_plug(self, vm: Vm, facts: Facts) -> HotPlug:
        """See Backend."""
        return HotPlug("it has no interface of its own")

    def loosen(self, vm: Vm, network: Network, facts: Facts, live: bool = False) -> tuple[Change, ...]:
        """See Backend."""
        pins = pinned(vm.template_annotations)
        rest = [str(address) for address in pins if address not in network]
        mine = len(rest) < len(pins)
        wished = names_it(vm, network)
        if not mine and not wished:
            return ()
        patch = PatchBuilder.of_uid(vm.uid)
        if mine and rest:
            patch.set_in(vm.raw, (*TEMPLATE_ANNOTATIONS, IP_ADDRS), json.dumps(rest))
        elif mine:
            patch.unset_in(vm.raw, (*TEMPLATE_ANNOTATIONS, IP_ADDRS))
            patch.unset_in(vm.raw, (*TEMPLATE_ANNOTATIONS, HW_ADDR))
        if wished:
            patch.set_keys(vm.raw, ANNOTATIONS, without_name(vm, network))
        says = f"take {vm.ref} off network {network.full_name}"
        return (Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject),)

    def let_go(self, network: Network, number: int, namespace: str, name: str, facts: Facts) -> LetGo:
        """See Backend."""
        api = api_for_reading(facts)
        held, why = ipam.held_by_vm(api, namespace, name, facts)
        if why:
            return LetGo(obstacle=f"whether Calico still holds it is unknown: {why}")
        mine = [h for h in held if h.number == number and h.version == network.version]
        if not mine:
            repaired = ipam.repair(api, namespace, name, facts, f"{namespace}/{name}")
            return LetGo() if ipam.why_not_allowed(repaired, facts) else LetGo(repaired)
        released = ipam.release(api, mine, facts, f"{namespace}/{name}")
        forbidden = ipam.why_not_allowed(released, facts)
        if running := ipam.runs(namespace, name, facts):
            return LetGo(obstacle=running, forbidden=forbidden)
        if forbidden:
            why = f"Calico holds it until an administrator runs `kubectl yoshi ips gc`: {forbidden}"
            return LetGo(obstacle=why, forbidden=forbidden)
        return LetGo(released)

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """See Backend."""
        interface = vm.pod_interface or {}
        return str(interface.get("macAddress") or ""), str(vm.template_annotations.get(HW_ADDR, ""))

    def concerns(self, vm: Vm, network: Network, number: int, facts: Facts, nic: Nic = ANY_NIC) -> tuple[str, ...]:
        """See Backend."""
        api = api_for_reading(facts)
        facts.ask(*self.settings(facts))
        interface = vm.pod_interface
        if interface is None:
            return (f"{vm.ref} has no interface on the pod network: the address has no effect",)
        found = []
        if "masquerade" in interface:
            inside = ip_network(
                str(vm.pod_network.get("pod", {}).get("vmNetworkCIDR") or MASQUERADE_CIDR), strict=False
            )
            if network.cidr is not None and inside.version == network.version and inside.overlaps(network.cidr):
                found.append(f"{vm.ref}: masquerade uses {inside} inside the guest, which overlaps {network.cidr}")
        elif network.version == 6:
            found.append(f"{vm.ref}: bridge binding gives the guest no IPv6 address")
        version = calico_version(api, facts)
        too_long = not ipam.handle_name(vm.namespace, vm.name)
        if too_long and version is not None and version >= KEEPS_VM_ADDRESSES and ipam.keeps_addresses(api, facts):
            found.append(
                f"{vm.ref} may not start: Calico's CNI plugin fails where the names of a VM and its namespace have "
                f"more than {ipam.LONGEST_NAMES} characters together, and these have "
                f"{len(vm.namespace) + len(vm.name)}"
            )
        if any(dig(settings, "spec", "strictAffinity") for settings in facts.ask(Read(api.config, name="default"))):
            found.append(
                f"{api.config.kind.lower()}/default has strictAffinity: {vm.ref} may start only on the node that owns "
                "the address's block"
            )
        return tuple(found)

    def immobile(self, vm: Vm, network: Network, facts: Facts) -> tuple[str, ...]:
        """See Backend. What it needs: docs/calico.md."""
        interface = vm.pod_interface
        asks = network.options.get("liveMigration") or ALLOW_MIGRATION in vm.template_annotations
        if interface is None or not (asks or vm.eviction_strategy in MIGRATING):
            return ()
        api = api_for_reading(facts)
        facts.ask(*self.settings(facts))
        found = []
        if overlay := pools.in_the_way_of_migration(network):
            found.append(f"network {network.full_name} has {overlay} (made without --live-migration)")
        if "masquerade" not in interface and ALLOW_MIGRATION not in vm.template_annotations:
            found.append(f"bridge binding without annotation {ALLOW_MIGRATION}")
        version = calico_version(api, facts)
        if version is not None and version < KEEPS_VM_ADDRESSES:
            found.append(f"Calico v{version[0]}.{version[1]} keeps no VM's address (from v3.32 on)")
        elif not ipam.keeps_addresses(api, facts):
            found.append(f"{api.config.kind.lower()}/default has kubeVirtVMAddressPersistence: Disabled")
        return tuple(found)

    def strays(self, network: Network, recorded: Recorded, facts: Facts) -> Plan:
        """See Backend."""
        api = api_for_reading(facts)
        facts.ask(Read(api.block))
        if why := facts.why_unknown(Read(api.block)):
            return Plan(notes=(f"what Calico keeps for VMs that are gone cannot be told: {why}",))
        held = [h for h in ipam.holdings_in(network.everything, network.version, api, facts) if h.name and h.handle]
        reads = {h: (Read(VM, h.namespace, h.name), Read(VMI, h.namespace, h.name)) for h in held}
        facts.ask(*(read for pair in reads.values() for read in pair))
        gone = [h for h, pair in reads.items() if not facts.ask(*pair) and not facts.why_unknown(*pair)]
        facts.ask(*(read for h in gone for read in ipam.handle_reads(api, h.namespace, h.name)))
        stopped = [h for h in gone if not ipam.runs(h.namespace, h.name, facts)]
        released = ipam.release(api, stopped, facts) if stopped else Plan()
        if why := ipam.why_not_allowed(released, facts):
            return Plan(notes=(f"what Calico keeps for VMs that are gone stays: {why}",))
        return released

    def troubles(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Trouble, ...]:
        """See Backend."""
        return handles.troubles(network, namespaces, facts)

    def repairs(self, network: Network, namespace: str | None, facts: Facts) -> Plan:
        """See Backend."""
        return handles.repairs(network, namespace, facts)


def _held(holding: ipam.Holding, facts: Facts) -> Use:
    """A use by Calico's books: of the VM that they name, else of the one whose launcher pod they name, else of the pod
    itself."""
    if holding.released_at:
        why = f"it cools down in Calico, which released it at {holding.released_at}"
        return Use(holding.number, How.HELD, holding.block, cools_down=why)
    namespace, name = holding.namespace, holding.name
    pod = None if name else facts.one(POD, holding.pod[1], holding.pod[0])
    if pod is not None and labels_of(pod).get("kubevirt.io") == "virt-launcher":
        namespace, name = holding.pod[0], instance_name_of_pod(pod)
    ref = POD.ref(holding.pod[1], holding.pod[0]) if holding.pod[1] and not name else holding.block
    return Use(holding.number, How.HELD, ref, namespace, name, holding.vm_uid)
