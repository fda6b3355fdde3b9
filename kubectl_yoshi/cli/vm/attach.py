"""`kubectl yoshi vm attach`: assign VMs an address of each network that the command names, each in a run of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import raise_errors
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.help_format import option_group
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    filename_option,
    output_option,
    selector_option,
    take_reservation_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.param_types import FREE_ADDRESS, NETWORK_ADDRESS, NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import ATTACHMENT
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.engine.read import Planner
    from kubectl_yoshi.model.objects import NamespacedName
    from kubectl_yoshi.plan.attach.planner import AttachRequest


PUBLIC = "public"

address_option = option_group("Addresses")
layer2_option = option_group("Layer 2")


@dataclass(frozen=True)
class AttachOptions:
    """The flags of `vm attach`."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    networks: tuple[str, ...]
    ip: str | None
    public_network: str | None
    public_ip: str | None
    port: tuple[str, ...]
    mac: str
    interface_name: str
    interface_model: str
    cloud_init: bool
    hotplug: bool
    replace: bool
    take_reservation: bool
    restart: bool
    wait: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if not self.networks and not self.is_public:
            raise usage_error("name the network with --network, --public-network or --public-ip")
        if not self.networks and self.nic_flags:
            raise usage_error(
                "--interface-name, --interface-model, … are for a Layer 2 network: name it with --network"
            )
        if not self.networks and self.mac != "auto":
            raise usage_error("--mac is for an interface: name a private or Layer 2 network with --network")
        if self.hotplug and self.restart:
            raise usage_error("--hotplug and --restart exclude each other", "Choose one.")
        if self.take_reservation and not (self.ip or self.public_ip or any("=" in text for text in self.networks)):
            raise usage_error("--take-reservation is for one address", "Name it with --ip or --public-ip.")
        if self.ip and self.public_ip and not self.networks:
            raise usage_error("--ip and --public-ip both name the public address", "Give one of them.")
        if self.ip and (len(self.networks) > 1 or any("=" in text for text in self.networks)):
            raise usage_error(
                "--ip is for a single --network without an address",
                "Give each network its address: --network blue=10.20.0.5.",
            )

    @property
    def nic_flags(self) -> list[str]:
        """The flags for interfaces of Layer 2 networks that are set."""
        flags = {
            "--interface-name": self.interface_name,
            "--interface-model": self.interface_model,
            "--cloud-init": self.cloud_init,
            "--hotplug": self.hotplug,
        }
        return [flag for flag, value in flags.items() if value]

    @property
    def is_public(self) -> bool:
        """Whether a public address is requested."""
        return self.public_network is not None or self.public_ip is not None


@command(
    "attach",
    examples="""
    # Assign a free address
    kubectl yoshi vm attach web-1 --network blue

    # Assign this address, and restart the VM if it runs, so that it uses the address
    kubectl yoshi vm attach web-1 --network blue --ip 10.133.0.10 --restart

    # Attach all VMs with a label
    kubectl yoshi vm attach -l app=db --network blue

    # Assign a private and a public address, the public one with two ports
    kubectl yoshi vm attach web-1 --network blue --public-network internet --port 22/tcp,443/tcp

    # Assign addresses of several networks of any kind, one of them a given address
    kubectl yoshi vm attach web-1 --network blue=10.133.0.10 --network lab --network internet

    # Add an interface on a Layer 2 network
    kubectl yoshi vm attach web-1 --network lab --interface-name data --interface-model virtio

    # Assign a public address from the provider
    kubectl yoshi vm attach web-1 --public-ip 1.2.3.4
    """,
)
@click.argument("names", nargs=-1, type=VM_NAME, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@address_option(
    "--network",
    "networks",
    multiple=True,
    type=NETWORK_ADDRESS,
    metavar="NAME[=IP]",
    help="A network of any kind, and the address (default the one reserved for the VM, or a free one): NAME, or "
    "NAMESPACE/NAME; repeatable.",
)
@address_option("--ip", type=FREE_ADDRESS, metavar="IP", help="The address, for a single --network.")
@address_option(
    "--public-network",
    type=NETWORK_NAME,
    metavar="NAME",
    help="The network of a public address, alone or together with --network.",
)
@address_option(
    "--public-ip", type=FREE_ADDRESS, metavar="IP", help="The public address; --public-network is optional then."
)
@address_option("--port", multiple=True, metavar="PORTS", help="Ports of the public address (default 22,80,443/tcp).")
@address_option(
    "--mac", default="auto", metavar="auto|none|MAC", help="The MAC address of the interface (default auto)."
)
@take_reservation_option
@layer2_option(
    "--interface-name", default="", metavar="NAME", help="The name of the interface (default the network's)."
)
@layer2_option(
    "--interface-model", default="", metavar="MODEL", help="The interface's model, such as virtio or e1000e."
)
@layer2_option("--cloud-init", is_flag=True, help="Write the address into the VM's cloud-init network data.")
@layer2_option("--hotplug", is_flag=True, help="Hot-plug the interface into a running VM, if KubeVirt can.")
@click.option("--replace", is_flag=True, help="Change the address or network that the VM already has.")
@click.option("--restart", is_flag=True, help="Restart a running VM, so that it uses the address.")
@wait_option("VMs that run, or are started, run with their addresses, and public addresses are reachable")
@timeout_option()
@dry_run_option
@output_option(ATTACHMENT)
@as_options(AttachOptions)
def attach(session: Session, options: AttachOptions) -> None:
    """Attach VMs to networks and assign each a permanent address."""
    from kubectl_yoshi.cli.vm.execute import VmPart, execute_parts, network_label
    from kubectl_yoshi.cli.vm_args import resolve_vms
    from kubectl_yoshi.model.address_state import AddressState

    vms = resolve_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    requests = _requests(session, options, vms)
    parts: list[VmPart] = []
    for request in requests:
        template = f"attached to {network_label(request.network, session)}: {{answer}}"
        parts.append(VmPart(request.network, partial(_attach_planner, request), template, AddressState.BOUND))
    run_results = execute_parts(session, options, vms, parts, "attaching")
    _restart_remaining(session, options, requests, run_results)
    if options.wait and options.dry_run == "none":
        for request, done in zip(requests, run_results, strict=False):  # no results under `diff`
            _wait_and_release(session, options, request, done)


def _requests(session: Session, options: AttachOptions, vms: tuple[NamespacedName, ...]) -> list[AttachRequest]:
    """Return the request for each network, with the flags that apply to its kind.

    Raises:
        UsageError: a flag applies to none of the networks, or it is unclear to which.
        PreconditionFailed: one of several networks cannot be read.
    """
    from kubectl_yoshi.cli.vm_args import parse_mac
    from kubectl_yoshi.model.ports import parse_ports
    from kubectl_yoshi.model.vm import Nic

    ports = parse_ports(options.port) if options.port else ()
    mac = parse_mac(options.mac)
    nic = Nic(options.interface_name, options.interface_model, options.cloud_init, options.hotplug)
    requests = [*_named_networks(session, options, vms), *_public_network(session, options, vms)]
    _check_different(requests)
    if len(options.networks) > 1:
        kinds = _sort_by_kind(session, requests)
    else:  # not read here: the planner refuses flags that are not for the network
        named = tuple(request.network for request in requests[: len(options.networks)])
        kinds = _NetworksByKind(public=(requests[-1].network,), pinned=named, layer2=named)
    if ports:
        kinds.require("--port", kinds.public, "public")
    if options.nic_flags:
        kinds.require(options.nic_flags[0], kinds.layer2, "Layer 2", single=bool(options.interface_name))
    if mac is not None:
        kinds.require("--mac", kinds.pinned, "private or Layer 2", single=True)
    requests = [
        replace(
            request,
            mac=mac if request.network in kinds.pinned else None,
            nic=nic if request.network in kinds.layer2 else request.nic,
            ports=ports if request.network in kinds.public else (),
            take_reservation=options.take_reservation and request.address is not None,
        )
        for request in requests
    ]
    return _with_one_restart(requests, kinds) if options.restart and len(kinds.pinned) > 1 else requests


def _with_one_restart(requests: Sequence[AttachRequest], kinds: _NetworksByKind) -> list[AttachRequest]:
    """Return the requests in an order, and with flags, in which a VM is restarted once, with all its addresses.

    The private network is the last of those that need a restart: its address may be released only while the VM is
    stopped.
    """
    layer2 = [request for request in requests if request.network in kinds.layer2]
    private = [request for request in requests if request.network in {*kinds.pinned} - {*kinds.layer2}]
    public = [request for request in requests if request.network not in kinds.pinned]
    *earlier, last = [*layer2, *private]
    return [*(replace(request, restart=False, restart_later=True) for request in earlier), last, *public]


def _named_networks(
    session: Session, options: AttachOptions, vms: tuple[NamespacedName, ...]
) -> Iterator[AttachRequest]:
    """Yield the requests of --network, without the flags that depend on the kind of the network."""
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.attach.planner import AttachRequest

    for text in options.networks:
        name, equals, address_text = text.partition("=")
        address = parse_address(address_text, f"--network {name}: address") if equals else None
        if options.ip:
            address = parse_address(options.ip, "--ip")
        if address:
            _check_single_vm("--ip" if options.ip else f"--network {text}", vms)
        yield AttachRequest(
            parse_network_name(name, session.namespace), vms, address,
            replace=options.replace, restart=options.restart, wait=options.wait,
        )  # fmt: skip


def _public_network(
    session: Session, options: AttachOptions, vms: tuple[NamespacedName, ...]
) -> Iterator[AttachRequest]:
    """Yield the request of --public-network and --public-ip, if there is one."""
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.attach.planner import AttachRequest
    from kubectl_yoshi.plan.network_lookup import find_network_of

    if not options.is_public:
        return
    flag, text = ("--ip", options.ip) if options.ip and not options.networks else ("--public-ip", options.public_ip)
    address = parse_address(text, flag) if text else None
    if address:
        _check_single_vm(flag, vms)
    if options.public_network is not None:
        name = parse_network_name(options.public_network, session.namespace)
    else:
        assert address is not None
        network = find_network_of(address, vms[0][0], new_snapshot(session.api), plugin=PUBLIC)
        name = (network.namespace, network.name)
    yield AttachRequest(name, vms, address, replace=options.replace, plugin=PUBLIC, wait=options.wait)


def _check_single_vm(flag: str, vms: tuple[NamespacedName, ...]) -> None:
    if len(vms) > 1:
        raise usage_error(f"{flag} is for one VM", f"{len(vms)} VMs cannot share one address.")


def _check_different(requests: Sequence[AttachRequest]) -> None:
    names = [request.network for request in requests]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise usage_error(f"network {'/'.join(name)} is named twice", "A VM has at most one address of a network.")


@dataclass(frozen=True)
class _NetworksByKind:
    """The networks of a command, by what a VM gets on them.

    Attributes:
        public: an address that is reachable from outside.
        pinned: an interface, or the address of its pod.
        layer2: those of `pinned` with an interface of their own.
    """

    public: tuple[NamespacedName, ...]
    pinned: tuple[NamespacedName, ...]
    layer2: tuple[NamespacedName, ...]

    def require(self, flag: str, networks: tuple[NamespacedName, ...], kind: str, single: bool = False) -> None:
        """Check that there are networks to which a flag applies.

        Args:
            flag: the flag.
            networks: those to which it applies.
            kind: their kind, as printed.
            single: it can apply to one network only.

        Raises:
            UsageError: there is none, or there are several.
        """
        if not networks:
            raise usage_error(f"{flag} is for {kind} networks, and none of these networks is one")
        if single and len(networks) > 1:
            names = ", ".join(map("/".join, networks))
            raise usage_error(f"{flag} is for one network, and may apply to {names}", "Attach the VM to one at a time.")


def _sort_by_kind(session: Session, requests: Sequence[AttachRequest]) -> _NetworksByKind:
    """Read the networks, and sort them by kind.

    Raises:
        UsageError: a VM cannot be on all of them.
        PreconditionFailed: one of them does not exist or cannot be read.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.plan.network_lookup import get_backend, load_network, network_query

    snapshot = new_snapshot(session.api)
    snapshot.prefetch(*(network_query(*request.network) for request in requests))
    backends = {
        request.network: get_backend(load_network(*request.network, snapshot), BACKENDS) for request in requests
    }
    private = [name for name, backend in backends.items() if backend.pins_vm_template and not backend.has_interface]
    if len(private) > 1:
        raise usage_error(
            f"a VM can be on one private network, not on {' and '.join(map('/'.join, private))}",
            "Public and Layer 2 networks can be added to it.",
        )
    return _NetworksByKind(
        tuple(name for name, backend in backends.items() if not backend.pins_vm_template),
        tuple(name for name, backend in backends.items() if backend.pins_vm_template),
        tuple(name for name, backend in backends.items() if backend.has_interface),
    )


def _attach_planner(request: AttachRequest, vms: tuple[NamespacedName, ...]) -> Planner:
    from kubectl_yoshi.plan.attach.planner import plan_attach

    return partial(plan_attach, replace(request, vms=vms))


def _restart_remaining(
    session: Session, options: AttachOptions, requests: Sequence[AttachRequest], run_results: Sequence[RunResult]
) -> None:
    """Restart the VMs that still run without one of their addresses: the last network needed no restart."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions, run
    from kubectl_yoshi.engine.wait import waiters
    from kubectl_yoshi.plan.restart import starts_vm

    restarted = {change.owner for result in run_results for change, _ in result.executed if starts_vm(change)}
    run_options = RunOptions(waiters=waiters(limit_seconds=options.timeout))
    for request, result in zip(requests, run_results, strict=False):  # no results of a dry run
        remaining = tuple(vm for vm in request.vms if "/".join(vm) in result.results.keys() - restarted)
        if request.restart_later and remaining:
            planner = _attach_planner(replace(request, restart=True, restart_later=False), remaining)
            done = run(planner, session.api, BACKENDS, run_options)
            raise_errors(session, done)
            restarted |= {change.owner for change, _ in done.executed if starts_vm(change)}


def _wait_and_release(session: Session, options: AttachOptions, request: AttachRequest, result: RunResult) -> None:
    """Wait until the VMs run with their addresses, then release those that only their old instances used."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cli.vm_args import wait_for_addresses
    from kubectl_yoshi.engine.loop import run
    from kubectl_yoshi.plan.attach.planner import plan_attach

    wait_for_addresses(session, request.network, result, options.timeout)
    later = run(partial(plan_attach, request), session.api, BACKENDS)
    for note in later.lines:
        if note not in result.lines:
            session.note(f"note: {note}")
    raise_errors(session, later)
