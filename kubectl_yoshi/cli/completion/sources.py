"""The names that completion offers, from the cluster or the kubeconfig.

Each kind imports what it needs when it is looked up: the time limit is one second, and most kinds need little. Names
are listed as a Table without its objects
(https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables), from the API server's
cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from click.shell_completion import CompletionItem

from kubectl_yoshi.cli.param_types import NameKind
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.client import AS_TABLE, Api
from kubectl_yoshi.kube.kubeconfig import list_kubeconfig_files
from kubectl_yoshi.model.objects import NAMESPACE, Resource, dig
from kubectl_yoshi.model.snapshot import Snapshot

if TYPE_CHECKING:
    from kubectl_yoshi.model.network import Network


@dataclass(frozen=True)
class NameRequest:
    """A word to complete.

    Attributes:
        session: with the kubectl flags of the command line.
        ctx: the command, with the preceding parameters.
        param: the flag or argument whose value the word is.
        incomplete: the prefix.
    """

    session: Session
    ctx: click.Context
    param: click.Parameter
    incomplete: str


_ORDERED_KINDS = (NameKind.FREE_ADDRESS, NameKind.HELD_ADDRESS, NameKind.TRACED)

NameSource = Callable[[NameRequest], Mapping[str, str]]
"""Return names with their descriptions ("" for none), including all names with the prefix."""


def list_known_names(kind: NameKind, request: NameRequest) -> list[CompletionItem]:
    """Return the names of a kind with the prefix, without those that are on the command line already.

    Raises:
        YoshiError, OSError, ValueError: the names cannot be read.
    """
    given = request.ctx.params.get(str(request.param.name)) or ()
    if kind is NameKind.NETWORK_ADDRESS:
        given = tuple(text.partition("=")[0] for text in given)
    return [
        CompletionItem(name, help=description, keep_order="=" in name or kind in _ORDERED_KINDS)
        for name, description in _NAME_SOURCES[kind](request).items()
        if name.startswith(request.incomplete) and name not in given
    ]


def _networks(request: NameRequest) -> Mapping[str, str]:
    from kubectl_yoshi.model.network import NETWORKWIZARD

    return _objects(request, NETWORKWIZARD, "Plugin", "CIDR")


def _networks_or_addresses(request: NameRequest) -> Mapping[str, str]:
    """Return networks; after "NAME=", the free addresses of that network."""
    from kubectl_yoshi.cli.completion.addresses import list_free_addresses
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.network_lookup import load_network

    name, equals, typed = request.incomplete.partition("=")
    if not equals:
        return _networks(request)
    snapshot = new_snapshot(request.session.api, discover=False)
    network = load_network(*parse_network_name(name, request.session.namespace), snapshot)
    return {f"{name}={address}": "" for address in list_free_addresses(network, typed, snapshot)}


def _vms(request: NameRequest) -> Mapping[str, str]:
    from kubectl_yoshi.model.vm import VM

    return _objects(request, VM, "Status")


def _objects(request: NameRequest, resource: Resource, *columns: str) -> Mapping[str, str]:
    """Return the objects of the namespace before "/" (default: of the session's)."""
    namespace, slash, _ = request.incomplete.rpartition("/")
    found = _list_names(request.session.api, resource, namespace or request.session.namespace, columns)
    return {f"{namespace}{slash}{name}": description for name, description in found.items()}


def _namespaces(request: NameRequest) -> Mapping[str, str]:
    return _list_names(request.session.api, NAMESPACE, None)


def _in_kubeconfig(section: str) -> NameSource:
    def find(request: NameRequest) -> Mapping[str, str]:
        return dict.fromkeys(_list_kubeconfig_names(request.session.flags.get("kubeconfig", ""), section), "")

    return find


def _free_addresses(request: NameRequest) -> Mapping[str, str]:
    from kubectl_yoshi.cli.completion.addresses import list_free_addresses

    public = str(request.param.name).startswith("public")

    snapshot = new_snapshot(request.session.api, discover=False)
    networks = _select_networks(request, "public_network" if public else "network", snapshot)
    if public:
        networks = [network for network in networks if not _pins_vm_template(network)]
    return {
        address: "" if len(networks) == 1 else network.name
        for network in networks
        for address in list_free_addresses(network, request.incomplete, snapshot)
    }


def _held_addresses(request: NameRequest) -> Mapping[str, str]:
    from kubectl_yoshi.cli.completion.addresses import list_held_addresses

    snapshot = new_snapshot(request.session.api, discover=False)
    return list_held_addresses(_select_networks(request, "network", snapshot), snapshot)


def _traced(request: NameRequest) -> Mapping[str, str]:
    """Return VMs and held addresses; after "vm/" and "svc/", the VMs and the Services."""
    from kubectl_yoshi.backends.public.services import SERVICE
    from kubectl_yoshi.model.vm import VM

    kind, slash, typed = request.incomplete.partition("/")
    resource = {"vm": VM, "svc": SERVICE}.get(kind)
    if slash and resource is not None:
        found = _objects(replace(request, incomplete=typed), resource)
        return {f"{kind}/{name}": description for name, description in found.items()}
    vms = {f"vm/{name}": status for name, status in _objects(replace(request, incomplete=""), VM, "Status").items()}
    return {**vms, **_held_addresses(request)}


def _select_networks(request: NameRequest, param: str, snapshot: Snapshot) -> list[Network]:
    """Return the network that the command line names, else all networks of its namespace."""
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.network_lookup import list_requested_networks

    name = request.ctx.params.get(param) or next(iter(request.ctx.params.get(f"{param}s") or ()), None)
    namespace = request.session.namespace
    return list_requested_networks(parse_network_name(name, namespace) if name else None, namespace, snapshot)[0]


def _pins_vm_template(network: Network) -> bool:
    from kubectl_yoshi.backends.registry import BACKENDS

    return network.plugin not in BACKENDS or BACKENDS[network.plugin].pins_vm_template


def _list_names(api: Api, resource: Resource, namespace: str | None, columns: Sequence[str] = ()) -> dict[str, str]:
    """Return the name of each object of a resource with the text of these columns, as far as its table has them.

    Raises:
        ClusterError: the objects cannot be listed.
    """
    path = quote(resource.path(namespace), safe="/")
    table = api.raw(f"{path}?resourceVersion=0&includeObject=None", accept=AS_TABLE)
    titles = [str(column.get("name")) for column in table.get("columnDefinitions") or []]
    descriptions = {}
    for row in table.get("rows") or []:
        cells = dict(zip(titles, row["cells"], strict=False))
        descriptions[str(cells["Name"])] = " ".join(str(cells[title]) for title in columns if cells.get(title))
    return descriptions


def _list_kubeconfig_names(kubeconfig: str, section: str) -> list[str]:
    """Return the names in a section of the kubeconfig files, without duplicates.

    Args:
        kubeconfig: the value of --kubeconfig, or "".
        section: "contexts", "clusters" or "users".

    Raises:
        KubeconfigError: the file that --kubeconfig names does not exist.
        OSError, ValueError, yaml.YAMLError: a file cannot be read.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = (yaml.load(Path(file).read_text(encoding="utf-8"), loader) for file in list_kubeconfig_files(kubeconfig))
    return list(dict.fromkeys(_iter_names(files, section)))


def _iter_names(files: Iterator[Any], section: str) -> Iterator[str]:
    for file in files:
        for entry in dig(file, section, default=[]):
            if isinstance(entry, dict) and entry.get("name"):
                yield str(entry["name"])


_NAME_SOURCES: Mapping[NameKind, NameSource] = {
    NameKind.NETWORK: _networks,
    NameKind.NETWORK_ADDRESS: _networks_or_addresses,
    NameKind.VM: _vms,
    NameKind.NAMESPACE: _namespaces,
    NameKind.CONTEXT: _in_kubeconfig("contexts"),
    NameKind.CLUSTER: _in_kubeconfig("clusters"),
    NameKind.USER: _in_kubeconfig("users"),
    NameKind.FREE_ADDRESS: _free_addresses,
    NameKind.HELD_ADDRESS: _held_addresses,
    NameKind.TRACED: _traced,
}
