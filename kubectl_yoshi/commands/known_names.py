"""The names that a word of the command line may be, from the cluster or the kubeconfig.

Each kind imports what it needs when it is asked for: a second is the limit, and most kinds need little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cluster.naming import NAMESPACE, names_in_kubeconfig, names_of, observed
from kubectl_yoshi.commands.names import NETWORK, Names
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.words import Line
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.objects import Resource

if TYPE_CHECKING:
    from kubectl_yoshi.model.network import Network

Source = Callable[[Line, click.Parameter, Session], Mapping[str, str]]


def known_names(kind: Names, line: Line, param: click.Parameter, session: Session) -> Mapping[str, str]:
    """Names of a kind -> a few words about each ("" for none), among them all that the typed word is a beginning of.

    Raises:
        YoshiError, OSError, ValueError: they cannot be found out.
    """
    return _SOURCES[kind](line, param, session)


def _networks(line: Line, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.model.network import NETWORKWIZARD

    return _objects(line, session, NETWORKWIZARD, "Plugin", "CIDR")


def _vms(line: Line, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.model.vm import VM

    return _objects(line, session, VM, "Status")


def _objects(line: Line, session: Session, resource: Resource, *columns: str) -> Mapping[str, str]:
    """Objects of the line's namespace, or of the one before "/"."""
    elsewhere, slash, _ = line.typed.rpartition("/")
    found = names_of(session.api, resource, elsewhere or session.namespace, columns)
    return {f"{elsewhere}{slash}{name}": about for name, about in found.items()}


def _namespaces(_line: Line, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    return names_of(session.api, NAMESPACE, None)


def _in_kubeconfig(section: str) -> Source:
    def find(line: Line, _param: click.Parameter, _session: Session) -> Mapping[str, str]:
        return dict.fromkeys(names_in_kubeconfig(line.flags.get("kubeconfig", ""), section), "")

    return find


def _free_addresses(line: Line, param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.plan.suggestions import free_addresses

    public = str(param.name).startswith("public")

    def ask(facts: Facts) -> dict[str, str]:
        networks = _meant(line, "public_network" if public else "network", session, facts)
        if public:
            networks = [network for network in networks if not _is_on_template(network)]
        return {
            address: "" if len(networks) == 1 else network.name
            for network in networks
            for address in free_addresses(network, line.typed, facts)
        }

    return observed(ask, session.api)


def _held_addresses(line: Line, _param: click.Parameter, session: Session) -> Mapping[str, str]:
    from kubectl_yoshi.plan.suggestions import held_addresses

    return observed(lambda facts: held_addresses(_meant(line, "network", session, facts), facts), session.api)


def _meant(line: Line, param: str, session: Session, facts: Facts) -> list[Network]:
    """The network that the line names, else all of its namespace."""
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.books import networks_asked

    named = line.given.get(param, [])
    one = parse_network_name(NETWORK.convert(named[-1], None, None), session.namespace) if named else None
    return networks_asked(one, session.namespace, facts)[0]


def _is_on_template(network: Network) -> bool:
    from kubectl_yoshi.backends.registry import BACKENDS

    return network.plugin not in BACKENDS or BACKENDS[network.plugin].on_template


_SOURCES: Mapping[Names, Source] = {
    Names.NETWORK: _networks,
    Names.VM: _vms,
    Names.NAMESPACE: _namespaces,
    Names.CONTEXT: _in_kubeconfig("contexts"),
    Names.CLUSTER: _in_kubeconfig("clusters"),
    Names.USER: _in_kubeconfig("users"),
    Names.FREE_ADDRESS: _free_addresses,
    Names.HELD_ADDRESS: _held_addresses,
}
