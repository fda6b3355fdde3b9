"""Public networks: addresses that the world can reach, each on a Service of its VM's own, announced from its node.

Who announces is a matter of `spec.public.announce`: MetalLB on the nodes' LAN, MetalLB by BGP, or Calico by BGP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

from kubectl_yoshi.backends import calico_api, kubevirt, metallb, public_calico, public_metallb
from kubectl_yoshi.backends import public_carriers as carriers
from kubectl_yoshi.backends import public_services as services
from kubectl_yoshi.backends import public_wishes as wishes
from kubectl_yoshi.backends.marks import gone_of
from kubectl_yoshi.backends.public_announcer import Announcer
from kubectl_yoshi.backends.public_calico import CalicoBgp
from kubectl_yoshi.backends.public_metallb import MetalLb
from kubectl_yoshi.backends.public_services import SERVICE
from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.backend import HotPlug, How, LetGo, Obstacle, Recorded, Trouble, Use, Wishes
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.ledger import Record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.nic import ANY_NIC, Nic
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, metadata, name_of, namespace_of
from kubectl_yoshi.model.ports import DEFAULT_PORTS, Port
from kubectl_yoshi.model.vm import VM, VMI, Vm, instance_of, vms_read

ANNOUNCERS: Mapping[str, Announcer] = {
    announcer.name: announcer
    for announcer in (
        MetalLb("metallb-l2", metallb.L2_ADVERTISEMENT, metallb.L2_STATUS),
        MetalLb("metallb-bgp", metallb.BGP_ADVERTISEMENT, metallb.BGP_STATUS),
        CalicoBgp(),
    )
}


def announcer_of(network: Network, served: Served) -> Announcer:
    """What announces a network: what it says, else MetalLB on the LAN without bgpConfig, and with it Calico where it is
    the cluster's network, MetalLB elsewhere."""
    asked = network.options.get("announce")
    if asked in ANNOUNCERS:
        return ANNOUNCERS[str(asked)]
    if network.bgp is None:
        return ANNOUNCERS["metallb-l2"]
    return ANNOUNCERS["metallb-bgp" if ANNOUNCERS["calico-bgp"].missing(served) else "calico-bgp"]


class Public:
    """The back-end for spec.plugin: public."""

    plugin = "public"
    wish = wishes.PUBLIC_NETWORK
    on_template = False
    has_interface = False
    keeps_addresses = False
    by_default = False

    def wishes(self, vm: Vm) -> Wishes:
        """See Backend."""
        return wishes.wishes_of(vm)

    def missing(self, served: Served) -> str:
        """See Backend."""
        whys = [announcer.missing(served) for announcer in ANNOUNCERS.values()]
        return "" if "" in whys else " and ".join(dict.fromkeys(whys))

    # -- networks ------------------------------------------------------------------------------------------------

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """See Backend."""
        announcer = announcer_of(network, facts.served)
        if missing := announcer.missing(facts.served):
            return (Obstacle(f"{announcer.name} announces it, and this cluster lacks {missing}"),)
        overlapping = public_calico.overlapping_pools(network, facts) if calico_api.is_installed(facts.served) else []
        return (
            *map(Obstacle, _contradictions(network, announcer)),
            *announcer.obstacles(network, facts),
            *map(Obstacle, overlapping),
        )

    def taken_unasked(self, network: Network, facts: Facts) -> tuple[str, ...]:
        """See Backend. Who announces, and the numbers that the routers are told."""
        announcer = announcer_of(network, facts.served)
        found = []
        if not network.options.get("announce"):
            others = [a.name for a in ANNOUNCERS.values() if a is not announcer and _could_announce(a, network, facts)]
            instead = f" ({' or '.join(others)} could be named instead)" if others else ""
            found.append(f"announced by {announcer.name}{instead}")
        if network.bgp is not None:
            written = dig(network.raw, "spec", "bgpConfig", default={})
            if written.get("myASN") is None:
                found.append(f"this cluster's ASN {network.bgp.my_asn}")
            if written.get("remoteASN") is None:
                found.append(f"the routers' ASN {network.bgp.remote_asn}")
        return tuple(found)

    def own_use(self, network: Network) -> str | None:
        """See Backend."""
        return None

    def build(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """See Backend."""
        announcer = announcer_of(network, facts.served)
        plan = announcer.build(network, facts)
        return plan if plan or not network.is_edited else _left_by_another(network, announcer, facts)

    def problem(self, network: Network, facts: Facts) -> str:
        """See Backend."""
        return announcer_of(network, facts.served).problem(network, facts)

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """See Backend."""
        announcer = announcer_of(network, facts.served)
        return (("Announced By", announcer.name), *announcer.describe(network, facts))

    def demolish(self, network: Network, facts: Facts, later: bool = False) -> Plan:
        """See Backend."""
        read = services.network_read(network)
        left = [service for service in facts.ask(read) if not metadata(service).get("deletionTimestamp")]
        if why := facts.why_unknown(read):
            raise Refused(
                f"whether Services have addresses of network {network.full_name} cannot be told: {why}",
                "Ask an administrator for this right, or to delete the network.",
            )
        if left and not later:
            ref = SERVICE.ref(name_of(left[0]), namespace_of(left[0]))
            raise Refused(
                f"{ref} still has an address of network {network.full_name}",
                "Detach its VM; if the VM is gone, Kubernetes deletes the Service in a moment.",
            )
        announcer = announcer_of(network, facts.served)
        plan = Plan() if announcer.missing(facts.served) else announcer.demolish(network, facts)
        for taker in _takers(facts.served):  # what announced it before, should somebody have changed that
            try:
                other = taker.take_away({network.uid}, facts)
            except Refused as refused:
                other = Plan(notes=(refused.message,))
            plan = plan + (other if any(change not in tuple(plan) for change in other) else Plan())
        return plan

    def leftovers(self, live: Sequence[Network], namespace: str | None, facts: Facts) -> Plan:
        """See Backend."""
        made_for = [(s, services.users_of(s)) for s in facts.ask(Read(SERVICE, label_selector=metallb.NETWORK_LABEL))]
        gone = gone_of({uid: name for _, users in made_for for uid, name in users.items()}, live, namespace)
        orphans = [service for service, users in made_for if users.keys() & gone]
        plan = Plan((tuple(services.deletion(service, "") for service in orphans),) if orphans else ())
        for taker in _takers(facts.served):
            gone = gone_of(taker.users(facts), live, namespace)
            plan = plan + (taker.take_away(gone, facts) if gone else Plan())
        return plan

    # -- VMs -----------------------------------------------------------------------------------------------------

    def uses(self, network: Network, vms: Sequence[Vm], numbers: Intervals, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        facts.ask(*(services.service_read(vm, network) for vm in vms))
        found: list[Use] = []
        own: set[tuple[str, str]] = set()
        for vm in vms:
            found += [_of_vm(int(a), How.WANTED, vm) for a in wishes.wished_of(vm, network)]
            service = services.find_service(vm, network, facts)
            if service is not None:
                own.add((namespace_of(service), name_of(service)))
                found += _of_service(service, "", "")
        unsure = numbers - Intervals.of_numbers(use.number for use in found if use.ref.resource == SERVICE)
        others = [
            service
            for service in (facts.ask(Read(SERVICE)) if unsure else ())
            if (namespace_of(service), name_of(service)) not in own
            and any(int(address) in unsure for address in services.addresses_of_any(service))
        ]
        near = carriers.vms_near(others, vms, facts)
        for service in others:
            found += [use for use in _of_any(service, network, near) if use.number in unsure]
        return tuple(found)

    def settings(self, facts: Facts) -> tuple[Read, ...]:
        """See Backend."""
        return ()

    def survey(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        where: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_reads = [Read(VM, namespace) for namespace in where]
        service_reads = [Read(SERVICE, namespace) for namespace in where]
        facts.ask(*vm_reads, *service_reads, *(Read(VMI, namespace) for namespace in where))
        found: list[Use] = []
        for vm in vms_read(vm_reads, facts):
            found += [_of_vm(int(a), How.WANTED, vm) for a in wishes.wished_of(vm, network)]
        wished = {use.number for use in found}
        near = carriers.by_namespace(facts.ask(*vm_reads))
        announcer = announcer_of(network, facts.served)
        for service in facts.ask(*service_reads):
            if services.is_of(service, network):
                by, node = announcer.announced(service, _vmi_of(service, facts), facts)
                found += _of_service(service, by, node)
            else:
                some = _of_any(service, network, near.get(namespace_of(service), ()))
                found += [use for use in some if use.number in network.everything or use.number in wished]
        return tuple(found)

    def told_by(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """See Backend."""
        wished = self.wishes(vm)
        return wished.addresses if len(wished.networks) == 1 else ()

    def carried(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        return carriers.carried(network, namespaces, facts)

    def elsewhere(self, vm: Vm, network: Network, facts: Facts) -> str:
        """See Backend. A VM may have an address of every public network."""
        return ""

    def prepare(self, vm: Vm, network: Network, number: int, facts: Facts) -> LetGo:
        """See Backend."""
        return LetGo()

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
        service = services.find_service(vm, network, facts)
        address = network.address(number)
        former = services.address_of_service(service) if service else None
        changed = wishes.annotations_with(vm, network, address, former, ports)
        says = f"note on {vm.ref} that it has {address}"
        return _annotated(vm, changed, says)

    def establish(self, vm: Vm, network: Network, number: int, ports: Sequence[Port], facts: Facts) -> Plan:
        """See Backend."""
        address = network.address(number)
        announcer = announcer_of(network, facts.served)
        service = services.find_service(vm, network, facts)
        ref = services.service_ref(vm, network)
        asked = tuple(ports) or wishes.ports_of(vm)
        selector = kubevirt.pod_selector(vm, facts)
        shape = announcer.shape(network, address)
        wanted = services.new_service(vm, network, address, shape, selector, asked)
        if service is not None and metadata(service).get("deletionTimestamp"):
            wait = Change(
                Verb.WAIT, ref, f"wait until {ref} is gone", before=service, subject=vm.subject, wait_for="deleted"
            )
            return in_order(wait)
        if service is None and carriers.find_carrier(vm, address, facts) is not None:
            return Plan()
        if service is not None and services.must_be_made_anew(service, wanted):
            return in_order(services.deletion(service, vm.subject))
        plan = announcer.permit(network, address, facts, vm.subject)
        if service is None:
            says = f"make {ref} with {address}"
            make = Change(Verb.CREATE, ref, says, wanted, subject=vm.subject, if_refused=shape.if_refused)
            plan = plan + in_order(make)
        elif ops := services.mended(service, wanted, asked, kubevirt.selectors(vm)):
            says = f"make {ref} carry {address}"
            plan = plan + in_order(Change(Verb.PATCH, ref, says, ops, before=service, subject=vm.subject))
        return plan + announcer.announce(network, address, ref, service, facts, vm.subject)

    def open_on(self, vm: Vm, network: Network, facts: Facts) -> tuple[Port, ...]:
        """See Backend."""
        if annotated := wishes.ports_of(vm):
            return annotated
        service = services.find_service(vm, network, facts)
        ports = services.ports_of_service(service) if service else ()
        return () if set(ports) == set(DEFAULT_PORTS) else ports

    def awaited(self, vm: Vm, network: Network, number: int, facts: Facts) -> tuple[Change, ...]:
        """See Backend."""
        announcer = announcer_of(network, facts.served)
        service = services.find_service(vm, network, facts)
        carrier = carriers.find_carrier(vm, network.address(number), facts) if service is None else None
        if carrier is not None and carriers.has(carrier, network.address(number)):
            return ()
        if carrier is not None:
            ref = SERVICE.ref(name_of(carrier), namespace_of(carrier))
            return announcer.awaited(network.address(number), ref, carrier, vm.subject)
        return announcer.awaited(network.address(number), services.service_ref(vm, network), service, vm.subject)

    def hot_plug(self, vm: Vm, facts: Facts) -> HotPlug:
        """See Backend."""
        return HotPlug("it has no interface of its own")

    def loosen(self, vm: Vm, network: Network, facts: Facts, live: bool = False) -> tuple[Change, ...]:
        """See Backend."""
        service = services.find_service(vm, network, facts)
        former = services.address_of_service(service) if service else None
        changed = wishes.annotations_without(vm, network, former)
        taken = _annotated(vm, changed, f"take {vm.ref} off network {network.full_name}")
        return (*taken, *((services.deletion(service, vm.subject),) if service else ()))

    def let_go(self, network: Network, number: int, namespace: str, name: str, facts: Facts) -> LetGo:
        """See Backend."""
        announcer = announcer_of(network, facts.served)
        if announcer.missing(facts.served):
            return LetGo()
        try:
            return LetGo(announcer.withdraw(network, network.address(number), facts, f"{namespace}/{name}"))
        except Refused as refused:
            return LetGo(obstacle=refused.message)

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """See Backend."""
        return "", ""

    def concerns(self, vm: Vm, network: Network, number: int, facts: Facts, nic: Nic = ANY_NIC) -> tuple[str, ...]:
        """See Backend."""
        found = announcer_of(network, facts.served).concerns(network, network.address(number), facts)
        if vm.pod_interface is None:
            return (*found, f"{vm.ref} has no interface on the pod network: nothing that is sent to it arrives")
        return found

    def immobile(self, vm: Vm, network: Network, facts: Facts) -> tuple[str, ...]:
        """See Backend. The Service follows the VM."""
        return ()

    def troubles(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Trouble, ...]:
        """See Backend."""
        return ()

    def repairs(self, network: Network, namespace: str | None, facts: Facts) -> Plan:
        """See Backend."""
        return Plan()

    def strays(self, network: Network, recorded: Recorded, facts: Facts) -> Plan:
        """See Backend. What announces an address goes with its record; but a run that was slow or killed may make the
        Service when the record was given back already, and one may be left without its VM (--cascade=orphan)."""
        read = services.network_read(network)
        plan = Plan()
        there = facts.ask(read)
        for service in there:
            namespace, name, uid = services.owner_of(service)
            address = services.address_of_service(service)
            if not name and address is not None:
                plan = plan.beside(self._ownerless(service, address, there, network, recorded, facts))
                continue
            vms = facts.ask(Read(VM, namespace, name)) if uid and address else []
            if address is None or not vms or address in wishes.wished_of(Vm(vms[0]), network):
                continue
            record = recorded().get(int(address))
            if record is None:
                plan = plan.beside(self.let_go(network, int(address), namespace, name, facts).plan)
            if record is None or record.uid != uid:
                plan = plan.beside(in_order(services.deletion(service, "")))
        return plan

    def _ownerless(
        self,
        service: Json,
        address: Address,
        there: Sequence[Json],
        network: Network,
        recorded: Recorded,
        facts: Facts,
    ) -> Plan:
        """Takes away a Service without a VM; not while it may be that of the VM that has its address."""
        gone = in_order(services.deletion(service, ""))
        record = recorded().get(int(address))
        if record is None:
            return self.let_go(network, int(address), namespace_of(service), "", facts).plan.beside(gone)
        read = Read(VM, record.namespace, record.name)
        alive = any(Vm(obj).uid == record.uid for obj in facts.ask(read)) or facts.why_unknown(read)
        owned = (one for one in there if services.owner_of(one)[1])
        has_another = any(services.address_of_service(one) == address for one in owned)
        return gone if has_another or not alive else Plan()


def _contradictions(network: Network, announcer: Announcer) -> list[str]:
    asked = network.options.get("announce")
    found = []
    if asked is not None and asked not in ANNOUNCERS:
        found.append(f'announce "{asked}" is unknown: choose one of {", ".join(ANNOUNCERS)}')
    if announcer.name.endswith("bgp") and network.bgp is None:
        found.append(f"{announcer.name} needs a bgpConfig (--peer, --my-asn, --remote-asn)")
    if announcer.name == "metallb-l2" and network.bgp is not None:
        found.append("metallb-l2 announces on the LAN and has no use for a bgpConfig: leave one of them out")
    if network.options.get("via") == "external-ips" and announcer.name != "calico-bgp":
        found.append(f"via external-ips is for calico-bgp, and {announcer.name} announces this network")
    if network.options.get("interfaces") and announcer.name != "metallb-l2":
        found.append(f"interfaces are for metallb-l2, and {announcer.name} announces this network")
    return found


def _left_by_another(network: Network, announcer: Announcer, facts: Facts) -> Plan:
    """What takes away what announced a network before somebody changed that, once none of its Services needs it."""
    read = services.network_read(network)
    found = facts.ask(read)
    if facts.why_unknown(read):
        return Plan()
    plan = Plan()
    for taker in _takers(facts.served):
        is_its_own = (taker is public_calico) == (announcer.name == "calico-bgp")
        if is_its_own or any(taker.announces(service) for service in found):
            continue
        try:
            plan = plan + taker.take_away({network.uid}, facts)
        except Refused:  # it cannot be told now: the next run looks again
            continue
    return plan


def _could_announce(announcer: Announcer, network: Network, facts: Facts) -> bool:
    """Whether a network could be announced in another way than the one chosen, as it is."""
    return not announcer.missing(facts.served) and not _contradictions(network, announcer)


def _takers(served: Served) -> list[ModuleType]:
    """The modules that know what was made with MetalLB and Calico, those of the two that are there."""
    found: list[ModuleType] = [public_metallb] if metallb.is_installed(served) else []
    return [*found, public_calico] if not ANNOUNCERS["calico-bgp"].missing(served) else found


def _annotated(vm: Vm, changed: Mapping[str, str | None], says: str) -> tuple[Change, ...]:
    if not changed:
        return ()
    patch = PatchBuilder.of_uid(vm.uid)
    added = {key: value for key, value in changed.items() if value is not None}
    if not vm.annotations and added:
        patch.set_in(vm.raw, ANNOTATIONS, added)
    for key, value in changed.items():
        if value is None:
            patch.unset_in(vm.raw, (*ANNOTATIONS, key))
        elif vm.annotations:
            patch.set_in(vm.raw, (*ANNOTATIONS, key), value)
    return (Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject),)


def _of_vm(number: int, how: How, vm: Vm) -> Use:
    return Use(number, how, vm.ref, vm.namespace, vm.name, vm.uid)


def _of_service(service: Json, by: str, node: str) -> list[Use]:
    """What one of our Services shows: that its VM wants the address, and that it has it."""
    address = services.address_of_service(service)
    if address is None:
        return []
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    owner = services.owner_of(service)
    if not owner[1]:  # its VM was deleted without it (--cascade=orphan): `strays` takes it away
        return [Use(int(address), How.HELD, ref)]
    found = [Use(int(address), How.WANTED, ref, *owner)]
    if carriers.has(service, address):
        found.append(Use(int(address), How.SERVED, ref, *owner, by, node))
    elif by:
        found[0] = Use(int(address), How.WANTED, ref, *owner, by)
    return found


def _of_any(service: Json, network: Network, vms: Iterable[Vm]) -> list[Use]:
    """The addresses that a Service has which is not one of this VM's, or of this network's; see uses_of."""
    if not services.is_ours(service):
        return carriers.uses_of(service, network, vms)
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    owner = services.owner_of(service) if services.is_of(service, network) else ("", "", "")
    how = How.WANTED if owner[1] else How.HELD
    wanted = (a for a in services.addresses_of_any(service) if network.cidr is None or a.version == network.version)
    return [Use(int(address), how, ref, *owner) for address in wanted]


def _vmi_of(service: Json, facts: Facts) -> Json | None:
    namespace, name, uid = services.owner_of(service)
    vm = facts.one(VM, name, namespace)
    if vm is None or (uid and Vm(vm).uid != uid):
        return None
    return instance_of(Vm(vm), facts)
