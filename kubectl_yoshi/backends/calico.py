"""Private networks on Calico: an IPPool per network, and a pin on each VM's template.

The pin is the annotation cni.projectcalico.org/ipAddrs, which KubeVirt hands to the launcher pod and Calico's CNI
plugin obeys (https://docs.tigera.io/calico/latest/networking/ipam/use-specific-ip). It reaches a running VM only by
a restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

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
from kubectl_yoshi.model.addresses import Address, Intervals, address_of
from kubectl_yoshi.model.backend import How, LetGo, Recorded, Use, Wishes
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import Json, annotations_of, dig, name_of, namespace_of
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
    owner_uid,
    pods_of,
)

IP_ADDRS = "cni.projectcalico.org/ipAddrs"
HW_ADDR = "cni.projectcalico.org/hwAddr"
POD_IPS = "cni.projectcalico.org/podIPs"
ALLOW_MIGRATION = "kubevirt.io/allow-pod-bridge-network-live-migration"
TEMPLATE_ANNOTATIONS = ("spec", "template", "metadata", "annotations")

MASQUERADE_CIDR = "10.0.2.0/24"
KEEPS_VM_ADDRESSES = (3, 32)
"""From this version on Calico itself keeps a VM's address in a handle."""


class Calico:
    """The back-end for spec.plugin: calico."""

    plugin = "calico"
    wish = f"{GROUP}/networkName"
    on_template = True
    by_default = True

    def wishes(self, vm: Vm) -> Wishes:
        """See Backend."""
        name = vm.annotations.get(self.wish, "").strip()
        return Wishes((name,) if name else ())

    def missing(self, served: Served) -> str:
        """See Backend."""
        return "" if is_installed(served) else f"Calico's IPPools (ippools.{V3} or ippools.{V1})"

    def obstacles(self, network: Network, facts: Facts) -> tuple[str, ...]:
        """See Backend."""
        if network.cidr is None:
            raise UsageMistake(
                f"network {network.full_name}: a Calico network needs a cidr", "Give it one, such as 10.133.0.0/16."
            )
        pools.pool_spec(network, manual=True)
        return pools.obstacles(network, facts)

    def build(self, network: Network, facts: Facts) -> Plan:
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
            return (("IPPool", f"{pools.pool_name(network)} (missing)"),)
        spec = pool.get("spec") or {}
        return (
            ("IPPool", f"{name_of(pool)} ({api.pool.api_version})"),
            ("VXLAN", str(spec.get("vxlanMode", "Never"))),
            ("IPIP", str(spec.get("ipipMode", "Never"))),
            ("NAT Outgoing", str(bool(spec.get("natOutgoing"))).lower()),
            ("Block Size", str(spec.get("blockSize", ""))),
            ("Assignment", str(spec.get("assignmentMode", "Automatic"))),
        )

    def demolish(self, network: Network, facts: Facts) -> Plan:
        """See Backend."""
        return pools.demolish(network, facts)

    def leftovers(self, live: Sequence[Network], facts: Facts) -> Plan:
        """See Backend."""
        return pools.leftovers(live, facts) if is_installed(facts.served) else Plan()

    # -- VMs -----------------------------------------------------------------------------------------------------

    def uses(self, network: Network, vms: Sequence[Vm], numbers: Intervals, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        api = api_for_reading(facts)
        wanted = [*instance_reads(vms), *(r for vm in vms for r in ipam.handle_reads(api, vm.namespace, vm.name))]
        wanted += self._block_reads(network, numbers, api, facts)
        facts.ask(*wanted)
        found: list[Use] = []
        held: set[tuple[int, str]] = set()
        for vm in vms:
            found += _wanted_by(vm, network)
            instance = facts.one(VMI, vm.name, vm.namespace)  # maybe of an earlier VM of that name
            if instance is not None and dig(instance, "status", "phase") not in ("Succeeded", "Failed"):
                found += _run_by_instance(instance, network)
            found += [u for pod in pods_of(vm.namespace, vm.name, facts) for u in _run_by_pod(pod, network)]
            for holding in ipam.held_by_vm(api, vm.namespace, vm.name, facts)[0]:
                if holding.version == network.version and holding.number in network.everything:
                    found.append(_held(holding))
                    held.add((holding.number, holding.handle))
        for holding in ipam.holdings_in(numbers, network.version, api, facts):
            if (holding.number, holding.handle) not in held:
                found.append(_held(holding))
        return tuple(found)

    def _block_reads(self, network: Network, numbers: Intervals, api: CalicoApi, facts: Facts) -> list[Read]:
        if not numbers or network.cidr is None:
            return []
        if numbers.size > 64 * 32:
            return [Read(api.block)]
        size = pools.block_size(network)
        blocks = {ipam.block_of(number, network.version, size) for number in numbers}
        return [Read(api.block, name=ipam.block_name(block)) for block in blocks]

    def survey(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        api = api_for_reading(facts)
        where: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_reads = [Read(VM, namespace) for namespace in where]
        vmi_reads = [Read(VMI, namespace) for namespace in where]
        pod_reads = [Read(POD, namespace, label_selector=LAUNCHER) for namespace in where]
        facts.ask(*vm_reads, *vmi_reads, *pod_reads, Read(api.block))
        found: list[Use] = []
        for obj in facts.ask(*vm_reads):
            found += _wanted_by(Vm(obj), network)
        for vmi in facts.ask(*vmi_reads):
            if dig(vmi, "status", "phase") not in ("Succeeded", "Failed"):
                found += _run_by_instance(vmi, network)
        for pod in facts.ask(*pod_reads):
            if not is_over(pod):
                found += _run_by_pod(pod, network)
        found += [_held(h) for h in ipam.holdings_in(network.everything, network.version, api, facts)]
        return tuple(found)

    def elsewhere(self, vm: Vm, network: Network, facts: Facts) -> str:
        """See Backend."""
        for address in pinned(vm.template_annotations):
            if address not in network:
                wish = vm.annotations.get(self.wish)
                if not wish or wish in (network.full_name, network.called_from(vm.namespace)):
                    return f"{address} ({IP_ADDRS} in its template)"
                return f"{address} on network {wish}"
        return ""

    def prepare(self, vm: Vm, network: Network, number: int, facts: Facts) -> LetGo:
        """See Backend."""
        api = api_for_reading(facts)
        held, why = ipam.held_by_vm(api, vm.namespace, vm.name, facts)
        if why:
            return LetGo(Plan(notes=(f"whether Calico holds other addresses for VMs is unknown: {why}",)))
        others = [h for h in held if (h.number, h.version) != (number, network.version)]
        if not others or not _keeps_addresses(api, facts):
            return LetGo(ipam.mend(api, vm.namespace, vm.name, facts, vm.subject))
        address = address_of(others[0].number, others[0].version)
        if running := ipam.runs(vm.namespace, vm.name, facts):
            return LetGo(
                obstacle=f"Calico holds {address} for VM {vm.subject} and would give it that one again ({running})"
            )
        return LetGo(ipam.release(api, others, facts, vm.subject))

    def fasten(
        self, vm: Vm, network: Network, number: int, mac: str, facts: Facts, ports: Sequence[Port] = ()
    ) -> tuple[Change, ...]:
        """See Backend."""
        if network.cidr is None:
            raise Refused(
                f"network {network.full_name} has no cidr, and a Calico network needs one",
                "Delete it and make it anew with a cidr.",
            )
        pin = json.dumps([str(network.address(number))])
        own, _ = self.macs_of(vm, network)
        patch = PatchBuilder().test(("metadata", "uid"), vm.uid)
        template = dict(vm.template_annotations)
        template[IP_ADDRS] = pin
        if mac and not own:
            template[HW_ADDR] = mac
        elif not own:
            template.pop(HW_ADDR, None)
        wish = network.called_from(vm.namespace)
        if template == vm.template_annotations and vm.annotations.get(self.wish) == wish:
            return ()
        _set_map(patch, vm.raw, TEMPLATE_ANNOTATIONS, template)
        patch.set_in(vm.raw, ("metadata", "annotations", self.wish), wish)
        says = f"give {network.address(number)} to {vm.ref}"
        return (Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject),)

    def establish(self, vm: Vm, network: Network, number: int, ports: Sequence[Port], facts: Facts) -> Plan:
        """See Backend. The pod is all that it needs."""
        if ports:
            raise Refused(f"network {network.full_name} is private: ports are opened on public addresses only")
        return Plan()

    def open_on(self, vm: Vm, network: Network, facts: Facts) -> tuple[Port, ...]:
        """See Backend."""
        return ()

    def awaited(self, vm: Vm, network: Network, number: int, facts: Facts) -> tuple[Change, ...]:
        """See Backend."""
        return ()

    def loosen(self, vm: Vm, network: Network, facts: Facts) -> tuple[Change, ...]:
        """See Backend."""
        pins = pinned(vm.template_annotations)
        rest = [str(address) for address in pins if address not in network]
        mine = len(rest) < len(pins)
        wished = vm.annotations.get(self.wish) in (network.full_name, network.called_from(vm.namespace))
        if not mine and not wished:
            return ()
        patch = PatchBuilder().test(("metadata", "uid"), vm.uid)
        if mine and rest:
            patch.set_in(vm.raw, (*TEMPLATE_ANNOTATIONS, IP_ADDRS), json.dumps(rest))
        elif mine:
            patch.unset_in(vm.raw, (*TEMPLATE_ANNOTATIONS, IP_ADDRS))
            patch.unset_in(vm.raw, (*TEMPLATE_ANNOTATIONS, HW_ADDR))
        if wished:
            patch.unset_in(vm.raw, ("metadata", "annotations", self.wish))
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
            return LetGo()
        if running := ipam.runs(namespace, name, facts):
            return LetGo(obstacle=running)
        return LetGo(ipam.release(api, mine, facts, f"{namespace}/{name}"))

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """See Backend."""
        interface = vm.pod_interface or {}
        return str(interface.get("macAddress") or ""), str(vm.template_annotations.get(HW_ADDR, ""))

    def concerns(self, vm: Vm, network: Network, number: int, facts: Facts) -> tuple[str, ...]:
        """See Backend."""
        api = api_for_reading(facts)
        config = Read(api.config, name="default")
        facts.ask(config, Read(api.information, name="default"))
        version = calico_version(api, facts)
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
        elif ALLOW_MIGRATION not in vm.template_annotations:
            found.append(f"{vm.ref} cannot be live-migrated: bridge binding without annotation {ALLOW_MIGRATION}")
        if version is not None and version < KEEPS_VM_ADDRESSES:
            found.append(
                f"VMs with fixed addresses cannot be live-migrated on Calico v{version[0]}.{version[1]} (from v3.32 on)"
            )
        if any(dig(settings, "spec", "strictAffinity") for settings in facts.ask(config)):
            found.append(
                f"{api.config.kind.lower()}/default has strictAffinity: {vm.ref} may start only on the node that owns "
                "the address's block"
            )
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
        return ipam.release(api, stopped, facts) if stopped else Plan()


def pinned(annotations: object) -> tuple[Address, ...]:
    """The addresses of an ipAddrs annotation; () where there is none or it is not what Calico reads."""
    text = annotations.get(IP_ADDRS) if hasattr(annotations, "get") else None
    try:
        values = json.loads(text or "[]")
        return tuple(ip_address(value) for value in values)
    except (ValueError, TypeError):
        return ()


def _keeps_addresses(api: CalicoApi, facts: Facts) -> bool:
    config = facts.ask(Read(api.config, name="default"))
    return not config or dig(config[0], "spec", "kubeVirtVMAddressPersistence") != "Disabled"


def _set_map(patch: PatchBuilder, obj: Json, path: tuple[str, ...], wanted: dict[str, str]) -> None:
    """Sets and removes single keys of a map, each tested, so that keys of others may change meanwhile."""
    present = dig(obj, *path, default=None)
    if present is None:
        patch.set_in(obj, path, wanted)
        return
    for key, value in wanted.items():
        if present.get(key) != value:
            patch.set_in(obj, (*path, key), value)
    for key in present:
        if key not in wanted:
            patch.unset_in(obj, (*path, key))


def _within(network: Network, texts: Iterable[str]) -> set[int]:
    numbers = set()
    for text in texts:
        try:
            address = ip_address(str(text).partition("/")[0])
        except ValueError:
            continue
        if address in network:
            numbers.add(int(address))
    return numbers


def _wanted_by(vm: Vm, network: Network) -> list[Use]:
    return [
        Use(int(address), How.WANTED, vm.ref, vm.namespace, vm.name, vm.uid)
        for address in pinned(vm.template_annotations)
        if address in network
    ]


def _run_by_instance(vmi: Json, network: Network) -> list[Use]:
    """What a VMI really has; what it is pinned to only until that is known, since a handle is stronger than a pin."""
    texts: list[str] = []
    for interface in dig(vmi, "status", "interfaces", default=[]):
        texts += [interface.get("ipAddress") or "", *(interface.get("ipAddresses") or ())]
    if not any(texts):
        texts = [str(address) for address in pinned(annotations_of(vmi))]
    namespace, name = namespace_of(vmi), name_of(vmi)
    return [
        Use(number, How.RUNNING, VMI.ref(name, namespace), namespace, name, owner_uid(vmi))
        for number in sorted(_within(network, texts))
    ]


def _run_by_pod(pod: Json, network: Network) -> list[Use]:
    """As `_run_by_instance`."""
    annotations = annotations_of(pod)
    texts = annotations.get(POD_IPS, "").split(",")
    texts += [ip.get("ip") or "" for ip in dig(pod, "status", "podIPs", default=[])]
    if not any(texts):
        texts = [str(address) for address in pinned(annotations)]
    namespace, name = namespace_of(pod), instance_name_of_pod(pod)
    return [
        Use(number, How.RUNNING, POD.ref(name_of(pod), namespace), namespace, name)
        for number in sorted(_within(network, texts))
    ]


def _held(holding: ipam.Holding) -> Use:
    return Use(holding.number, How.HELD, holding.block, holding.namespace, holding.name, holding.vm_uid)
