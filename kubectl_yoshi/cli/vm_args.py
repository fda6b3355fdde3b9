"""The VMs that a command names, and waiting until they run with their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.manifests import read_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.objects import Json, name_of, namespace_of
from kubectl_yoshi.model.vm import VM

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult


VM_KINDS = ("vm", "vms", "virtualmachine", "virtualmachines", "virtualmachine.kubevirt.io")
NAME_PATTERN = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"


def resolve_vms(
    session: Session, names: Iterable[str], selector: str, filenames: tuple[str, ...], all_namespaces: bool
) -> tuple[tuple[str, str], ...]:
    """Return the namespace and name of each VM, without duplicates.

    They come from names (NAME, NAMESPACE/NAME or vm/NAME), from the selector, or from files.

    Raises:
        UsageError: no VM is named, or VMs are named in two ways.
        PreconditionFailed: no VM matches the selector.
    """
    names = tuple(names)
    if sum((bool(names), bool(selector), bool(filenames))) != 1:
        raise usage_error("name the VMs, or give -l SELECTOR, or -f FILE", "One of the three.")
    if names:
        return tuple(dict.fromkeys(parse_vm_name(name, session) for name in names))
    if selector:
        found = session.api.list(VM, None if all_namespaces else session.namespace, label_selector=selector)
        if not found:
            where = "any namespace" if all_namespaces else f'namespace "{session.namespace}"'
            raise PreconditionFailed(
                f'no VM in {where} has labels "{selector}"', "See `kubectl get virtualmachines --show-labels`."
            )
        return tuple((namespace_of(obj), name_of(obj)) for obj in found)
    return tuple(dict.fromkeys((namespace_of(obj), name_of(obj)) for obj in read_vm_manifests(session, filenames)))


def read_vm_manifests(session: Session, filenames: tuple[str, ...]) -> list[Json]:
    """Return the VirtualMachines in files, each with its namespace, which is that of the session by default.

    Raises:
        UsageError: a file cannot be read, or contains another object.
    """
    objects = read_objects(filenames)
    for obj in objects:
        if obj.get("kind") != VM.kind:
            raise usage_error(
                f"{obj.get('kind')} {name_of(obj)!r} in the file is not a VirtualMachine",
                f"-f takes kind {VM.kind} of {VM.api_version} only.",
            )
    default = {"namespace": session.namespace} if any(not namespace_of(obj) for obj in objects) else {}
    return [{**obj, "metadata": {**default, **obj["metadata"]}} for obj in objects]


def parse_vm_name(text: str, session: Session) -> tuple[str, str]:
    """Return namespace and name of a VM, written as NAME, NAMESPACE/NAME or vm/NAME.

    Raises:
        UsageError: the text has neither form.
    """
    kind, slash, rest = text.partition("/")
    if slash and kind.lower() in VM_KINDS:
        text = rest
    namespace, slash, name = text.partition("/")
    pair = (namespace, name) if slash else (session.namespace, text)
    if not all(re.fullmatch(NAME_PATTERN, part) for part in pair):
        raise usage_error(f'"{text}" is not the name of a VM', "Write NAME, or NAMESPACE/NAME.")
    return pair


def parse_reserve_for(text: str, namespace: str) -> str:
    """Parse for whom an address is reserved into the form of Allocation.reserved_for.

    Args:
        text: "vm/NAME", "vm/NAMESPACE/NAME" or "namespace/NAME".
        namespace: that of a VM for which none is given.

    Raises:
        UsageError: it has none of these forms.
    """
    from kubectl_yoshi.model.allocations import reserved_for_vm

    kind, _, rest = text.partition("/")
    names = rest.split("/")
    if all(re.fullmatch(NAME_PATTERN, name) for name in names):
        if kind in VM_KINDS and len(names) <= 2:
            return reserved_for_vm(*names) if len(names) == 2 else reserved_for_vm(namespace, names[0])
        if kind in ("ns", "namespace", "namespaces") and len(names) == 1:
            return f"namespace/{names[0]}"
    raise usage_error(
        f'"{text}" is neither a VM nor a namespace', "Write vm/NAME, vm/NAMESPACE/NAME or namespace/NAME."
    )


def parse_mac(text: str, what: str = "--mac") -> str | None:
    """Parse a MAC address in any notation: None for "auto", "" for "none", else a unicast address with colons.

    Args:
        text: the argument.
        what: its name in messages.

    Raises:
        UsageError: it is not a unicast MAC address.
    """
    if text == "auto":
        return None
    if text == "none":
        return ""
    import netaddr

    try:
        mac = netaddr.EUI(text, version=48, dialect=netaddr.mac_unix_expanded)
    except (netaddr.AddrFormatError, ValueError) as error:
        raise usage_error(f'{what} "{text}" is not a MAC address', "Write one like 02:00:00:ab:cd:ef.") from error
    if not int(mac):
        raise usage_error(f'{what} "{text}" is all zero', "Write one like 02:00:00:ab:cd:ef.")
    if mac.words[0] & 1:
        raise usage_error(f'{what} "{text}" is a multicast address', "The first octet must be even.")
    return str(mac)


def wait_for_addresses(session: Session, network: tuple[str, str], result: RunResult, timeout: float | None) -> None:
    """Wait until every VM that runs, or was started, runs with its address.

    Raises:
        TimedOutError: a VM does not within the timeout.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.wait import wait_until_running
    from kubectl_yoshi.output.progress import progress
    from kubectl_yoshi.plan.attach.wait import find_pending_vms
    from kubectl_yoshi.plan.restart import starts_vm

    started = {change.owner for change, _ in result.executed if starts_vm(change)}
    compute = partial(find_pending_vms, network, result.results, started, BACKENDS)
    with progress("waiting", len(result.results), session.err) as line:
        wait_until_running(session.api, compute, result.results, timeout, line.step)
