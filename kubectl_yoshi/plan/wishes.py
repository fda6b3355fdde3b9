"""What the annotations of VMs ask for: which network, and maybe which address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import parse_network_name
from kubectl_yoshi.model.objects import Name, dig
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attachments import AttachRequest
from kubectl_yoshi.plan.books import known_networks, network_read
from kubectl_yoshi.plan.finding import candidates


@dataclass(frozen=True)
class Wish:
    """A VM's wish to be on a network.

    Attributes:
        vm, network: who, and where.
        address: the one named; None for any.
        plugin: the back-end that it was asked of.
    """

    vm: Name
    network: Name
    address: Address | None
    plugin: str


def wishes_of(vm: Vm, backends: Mapping[str, Backend], facts: Facts) -> list[Wish]:
    """What a VM's annotations ask for, each network once.

    Raises:
        NeedMore: more must be read first.
        UsageMistake: an annotation cannot be read.
        Refused: no network is known that has the address named.
    """
    wishes: dict[Name, Wish] = {}
    for backend in backends.values():
        asked = backend.wishes(vm)
        if not asked:
            continue
        networks = [parse_network_name(text, vm.namespace) for text in asked.networks]
        named: dict[Name, Address] = {}
        for address in asked.addresses:
            network = _network_of(address, networks, backend, vm, facts)
            if named.setdefault(network, address) != address:
                raise Refused(
                    f"VM {vm.subject} asks for {named[network]} and {address} of network {'/'.join(network)}",
                    "A VM has at most one address of a network: name one of them.",
                )
        for network in dict.fromkeys([*networks, *named]):
            wish = Wish((vm.namespace, vm.name), network, named.get(network), backend.plugin)
            if network not in wishes or _is_made_with(network, backend.plugin, facts):
                wishes[network] = wish  # two back-ends may read one annotation: the network's own one it is
    return list(wishes.values())


def _is_made_with(network: Name, plugin: str, facts: Facts) -> bool:
    return any(dig(obj, "spec", "plugin") == plugin for obj in facts.ask(network_read(*network)))


def _network_of(address: Address, networks: list[Name], backend: Backend, vm: Vm, facts: Facts) -> Name:
    """The network that an address is asked of: one of those named, else the one of this back-end that has it."""
    mine = [n for n in known_networks(vm.namespace, facts) if n.plugin == backend.plugin]
    if networks:
        mine = [n for n in mine if (n.namespace, n.name) in networks]
        if not mine:
            return networks[0]  # that it cannot be found is for the planner to say
    having = candidates(address, mine, vm.namespace)
    if len(having) == 1 or (having and networks):
        return having[0].namespace, having[0].name
    if networks:
        return networks[0]
    several = f"networks {', '.join(n.full_name for n in having)} may all have {address}"
    raise Refused(
        f"VM {vm.subject} asks for {address}: {several if having else f'no {backend.plugin} network has it'}",
        f"Name the network on the VM with the annotation {backend.wish}.",
    )


def attach_requests(wishes: Iterable[Wish], restart: bool) -> list[AttachRequest]:
    """The wishes as requests: all VMs that want any address of a network at once, those that name one by themselves."""
    together: dict[tuple[Name, str], list[Name]] = {}
    alone: list[AttachRequest] = []
    for wish in wishes:
        if wish.address is None:
            together.setdefault((wish.network, wish.plugin), []).append(wish.vm)
        else:
            request = AttachRequest(
                wish.network, (wish.vm,), wish.address, restart=restart, plugin=wish.plugin, foreseen=True
            )
            alone.append(request)
    several = [
        AttachRequest(network, tuple(sorted(vms)), restart=restart, plugin=plugin, foreseen=True)
        for (network, plugin), vms in together.items()
    ]
    return [*sorted(alone, key=lambda request: request.vms), *several]
