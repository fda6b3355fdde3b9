"""The names that a word of the command line may be, from the cluster or the kubeconfig.

Each kind imports what it needs when it is asked for: a second is the limit, and most kinds need little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.command_line import CommandLine
from kubectl_yoshi.cli.param_types import NETWORK_NAME, NameKind
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.naming import NAMESPACE, compute_without_discovery, list_kubeconfig_names, list_names
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.snapshot import Snapshot

if TYPE_CHECKING:
    from kubectl_yoshi.model.network import Network

NameSource = Callable[[CommandLine, click.Parameter, Session], Mapping[str, str]]


def list_known_names(kind: NameKind, line: CommandLine, param: click.Parameter, session: Session) -> Mapping[str, str]:
    """Names of a kind -> a few words about each ("" for none), among them all that the typed word is a beginning of.

    Raises:
        YoshiError, OSError, ValueError: they cannot be found out.
    """
    return _NAME_SOURCES[kind](line, param, session)


def _networks(line: CommandLine, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.model.network import NETWORKWIZARD

    return _objects(line, session, NETWORKWIZARD, "Plugin", "CIDR")


def _vms(line: CommandLine, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.model.vm import VM

    return _objects(line, session, VM, "Status")


def _objects(line: CommandLine, session: Session, resource: Resource, *columns: str) -> Mapping[str, str]:
    """Objects of the line's namespace, or of the one before "/"."""
    namespace, slash, _ = line.typed.rpartition("/")
    found = list_names(session.api, resource, namespace or session.namespace, columns)
    return {f"{namespace}{slash}{name}": description for name, description in found.items()}


def _namespaces(_line: CommandLine, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    return list_names(session.api, NAMESPACE, None)


def _in_kubeconfig(section: str) -> NameSource:
    def find(line: CommandLine, _param: click.Parameter, _session: Session) -> Mapping[str, str]:
        return dict.fromkeys(list_kubeconfig_names(line.flags.get("kubeconfig", ""), section), "")

    return find


def _free_addresses(line: CommandLine, param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.plan.suggestions import list_free_addresses

    public = str(param.name).startswith("public")

    def compute(snapshot: Snapshot) -> dict[str, str]:
        networks = _select_networks(line, "public_network" if public else "network", session, snapshot)
        if public:
            networks = [network for network in networks if not _pins_vm_template(network)]
        return {
            address: "" if len(networks) == 1 else network.name
            for network in networks
            for address in list_free_addresses(network, line.typed, snapshot)
        }

    return compute_without_discovery(compute, session.api)


def _held_addresses(line: CommandLine, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.plan.suggestions import list_held_addresses

    return compute_without_discovery(
        lambda snapshot: list_held_addresses(_select_networks(line, "network", session, snapshot), snapshot),
        session.api,
    )


def _select_networks(line: CommandLine, param: str, session: Session, snapshot: Snapshot) -> list[Network]:
    """The network that the line names, else all of its namespace."""
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.network_lookup import list_requested_networks

    names = line.values.get(param, [])
    network_name = parse_network_name(NETWORK_NAME.convert(names[-1], None, None), session.namespace) if names else None
    return list_requested_networks(network_name, session.namespace, snapshot)[0]


def _pins_vm_template(network: Network) -> bool:
    from kubectl_yoshi.backends.registry import BACKENDS

    return network.plugin not in BACKENDS or BACKENDS[network.plugin].pins_vm_template


_NAME_SOURCES: Mapping[NameKind, NameSource] = {
    NameKind.NETWORK: _networks,
    NameKind.VM: _vms,
    NameKind.NAMESPACE: _namespaces,
    NameKind.CONTEXT: _in_kubeconfig("contexts"),
    NameKind.CLUSTER: _in_kubeconfig("clusters"),
    NameKind.USER: _in_kubeconfig("users"),
    NameKind.FREE_ADDRESS: _free_addresses,
    NameKind.HELD_ADDRESS: _held_addresses,
}
