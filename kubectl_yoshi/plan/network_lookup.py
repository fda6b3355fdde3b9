"""Look up networks, by name or by address, and the backend of a network; check that a network can assign addresses.

These checks are here, since `attach` needs them, `plan.network` imports `attach`, and `plan.records` has another
subject.

A network with the annotation REQUIRES_ANNOTATION for a later version than this one is left alone: a command that names
it is refused, and one for all networks skips it. That version may have allocations in other objects, where this one
would not find them.

Where a VM or a command names a public address and no network, it is the network whose CIDR has it, else the one that
has recorded it, else the only public network without a CIDR, else the only one with a CIDR, of the VM's namespace
before others; where several are left, the error lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubectl_yoshi import __version__
from kubectl_yoshi.model.addresses import Address, Cidr, overlap
from kubectl_yoshi.model.allocations import allocations_outside_cidr
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, UnreadableError, UsageError
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_minimal_network, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, NamespacedName, dig
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import Vm

LIST_NETWORKS_HINT = "See `kubectl yoshi network list`, or with -A if you have permission"
BEING_DELETED_HINT = (
    "To keep it, create it again with `kubectl yoshi network create`; to remove it, use `kubectl yoshi network delete`."
)


def network_query(namespace: str, name: str) -> Query:
    """Return the query for one NetworkWizard."""
    return Query(NETWORKWIZARD, namespace, name)


def networks_requested_by(vm: Vm, backend: Backend) -> tuple[NamespacedName, ...]:
    """Return the networks that a VM requests from a backend, each once; () if its annotations are invalid."""
    try:
        names = backend.requested_networks(vm).networks
        return tuple(dict.fromkeys(parse_network_name(text, vm.namespace) for text in names))
    except UsageError:  # `sync` reports what is wrong with them
        return ()


def load_network(namespace: str, name: str, snapshot: Snapshot) -> Network:
    """Return the network of that name.

    Raises:
        PreconditionFailed: it does not exist, or it requires a newer version.
        UnreadableError: it cannot be read.
        UsageError: its spec is invalid.
    """
    query = network_query(namespace, name)
    found = snapshot.lookup(query)
    if not found:
        reason = snapshot.unreadable_reason(query)
        if reason:
            raise UnreadableError(
                f'network "{name}" in namespace "{namespace}" cannot be read: {reason}', ASK_ADMIN_HINT
            )
        raise not_found_error(namespace, name)
    network = parse_network(found[0])
    check_version_supported(network)
    return network


def not_found_error(namespace: str, name: str) -> PreconditionFailed:
    """Return the error for a network that does not exist."""
    return PreconditionFailed(
        f'network "{name}" not found in namespace "{namespace}"',
        f"{LIST_NETWORKS_HINT}; name a network of another namespace as NAMESPACE/NAME.",
    )


def check_version_supported(network: Network) -> None:
    """Check that this version understands the network's allocations.

    Raises:
        PreconditionFailed: a newer version has written them in a form that this version would misread.
    """
    if required_version := network.requires:
        raise PreconditionFailed(
            f"network {network.full_name} requires kubectl yoshi {required_version} or later, and this is "
            f"{__version__}",
            f"Use kubectl yoshi {required_version} or later: this version could assign an address twice.",
        )


def unsupported_reason(network: Network) -> str:
    """Return why this version must not change a network's allocations; "" if it may."""
    try:
        check_version_supported(network)
    except PreconditionFailed as refused:
        return refused.message
    return ""


def list_networks(namespace: str, snapshot: Snapshot, include_invalid: bool = False) -> list[Network]:
    """Return every network that can be read: of all namespaces, or at least of this one.

    Networks with an invalid spec are omitted, or with `include_invalid` returned as far as they can be parsed (see
    parse_minimal_network).
    """
    all_namespaces = Query(NETWORKWIZARD)
    found = snapshot.lookup(all_namespaces)
    if snapshot.unreadable_reason(all_namespaces):
        found = snapshot.lookup(Query(NETWORKWIZARD, namespace))
    return parse_networks(found, include_invalid)


def list_requested_networks(
    single: tuple[str, str] | None, namespace: str | None, snapshot: Snapshot, fallback_namespace: str = ""
) -> tuple[list[Network], list[str]]:
    """Return the networks that a command lists, and the problems of those that cannot be used.

    Args:
        single: namespace and name of a single network; None for all.
        namespace: only those of this namespace; None for all namespaces.
        fallback_namespace: the namespace to list if networks of all namespaces cannot be read.

    Raises:
        PreconditionFailed: the single network does not exist, or networks cannot be listed.
    """
    if single is not None:
        return [load_network(*single, snapshot)], []
    query = Query(NETWORKWIZARD, namespace)
    found = snapshot.lookup(query)
    if snapshot.unreadable_reason(query) and namespace is None and fallback_namespace:
        query = Query(NETWORKWIZARD, fallback_namespace)
        found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(
            f"networks cannot be listed: {reason}", f"Choose a namespace that you can access with -n. {ASK_ADMIN_HINT}"
        )
    networks, broken = [], []
    for obj in found:
        try:
            network = parse_network(obj)
        except UsageError as error:
            broken.append(error.message)
            continue
        if reason := unsupported_reason(network):
            broken.append(reason)
        else:
            networks.append(network)
    return networks, broken


def parse_networks(objects: Iterable[Json], include_invalid: bool = False) -> list[Network]:
    """Parse these NetworkWizards; see list_networks."""
    networks = []
    for obj in objects:
        try:
            networks.append(parse_network(obj))
        except UsageError:
            if include_invalid:
                networks.append(parse_minimal_network(obj))
    return networks


def find_network_of(address: Address, namespace: str, snapshot: Snapshot, plugin: str = "") -> Network:
    """Return the network of an address; see `find_candidate_networks`.

    Args:
        namespace: its networks take precedence over those of other namespaces, if any of them may take the address.
        plugin: only networks of this plugin; "" for any.

    Raises:
        PreconditionFailed: there is none, or several may have it.
    """
    networks = [n for n in list_networks(namespace, snapshot) if not plugin or n.plugin == plugin]
    matches = find_candidate_networks(address, networks, namespace)
    kind = f"{plugin} network" if plugin else "network"
    if not matches:
        raise PreconditionFailed(
            f"{address} is in no {kind} that you can access",
            "A public network takes any address of its family: `kubectl yoshi network create NAME --plugin public`."
            if plugin
            else f"{LIST_NETWORKS_HINT}.",
        )
    if len(matches) > 1:
        names = ", ".join(network.full_name for network in matches)
        raise PreconditionFailed(f"{address} may belong to several networks: {names}", "Specify the network.")
    return matches[0]


def find_candidate_networks(address: Address, networks: Sequence[Network], namespace: str) -> list[Network]:
    """Return the networks that an address may belong to.

    That is the network whose CIDR contains it, else the one that holds it, else those that accept any address. Of
    these, networks without a CIDR take precedence, then networks of the namespace.
    """
    matches = [network for network in networks if address in network]
    matches = matches or [network for network in networks if address in allocations_outside_cidr(network)]
    if matches:
        return matches
    eligible = [network for network in networks if network.accepts_outside_cidr and network.can_hold(address)]
    eligible = [network for network in eligible if network.cidr is None] or eligible
    return [network for network in eligible if network.namespace == namespace] or eligible


def find_network_of_cidr(cidr: Cidr, networks: Sequence[Network]) -> Network:
    """Return the network whose CIDR has a CIDR or is in it, else the one that holds addresses of it outside its own.

    Raises:
        PreconditionFailed: there is none, or several.
    """
    matches = [network for network in networks if overlap(network.cidr, cidr)]
    if not matches:
        matches = [n for n in networks if any(address in cidr for address in allocations_outside_cidr(n))]
    if not matches:
        raise PreconditionFailed(f"{cidr} is in no network that you can access", f"{LIST_NETWORKS_HINT}.")
    if len(matches) > 1:
        names = ", ".join(network.full_name for network in matches)
        raise PreconditionFailed(f"{cidr} may belong to several networks: {names}", "Specify the network.")
    return matches[0]


def check_part_of_network(cidr: Cidr, network: Network) -> None:
    """Check that a network can have addresses of a CIDR.

    Raises:
        PreconditionFailed: it cannot.
    """
    if network.cidr is None or overlap(network.cidr, cidr):
        return
    if not network.accepts_outside_cidr or network.version != cidr.version:
        raise PreconditionFailed(
            f"{cidr} is not a part of network {network.full_name} ({network.cidr})", f"{LIST_NETWORKS_HINT}."
        )


def get_backend(network: Network, backends: Mapping[str, Backend]) -> Backend:
    """Return the backend of a network.

    Raises:
        PreconditionFailed: there is no backend for its plugin.
    """
    try:
        return backends[network.plugin]
    except KeyError:
        known = f"Known plugins: {', '.join(sorted(backends))}."
        if not network.plugin:
            fix = f"Set spec.plugin: kubectl edit networkwizard {network.name} -n {network.namespace}"
            raise PreconditionFailed(f"network {network.full_name} has no plugin", f"{known} {fix}") from None
        raise PreconditionFailed(
            f'network {network.full_name} has plugin "{network.plugin}", which this program does not support', known
        ) from None


def check_backend_available(network: Network, backend: Backend, snapshot: Snapshot) -> None:
    """Raise PreconditionFailed if the cluster lacks the APIs of the network's backend."""
    if missing_apis := backend.missing_apis(snapshot.served):
        raise PreconditionFailed(
            f"network {network.full_name} needs {backend.plugin}, which is not installed: looked for {missing_apis}",
            "Install it first, or choose another network or --plugin.",
        )


def being_deleted_error(network: Network) -> PreconditionFailed:
    """Return the error for an assignment from a network that is being deleted."""
    return PreconditionFailed(f"network {network.full_name} is being deleted", BEING_DELETED_HINT)


def not_ready_error(network: Network) -> PreconditionFailed | None:
    """Return the error for an assignment to new VMs from a network that is not ready; None if it is ready or new."""
    if dig(network.raw, "status", "created") is not False:
        return None
    reason = dig(network.raw, "status", "reason") or "it could not be created"
    return PreconditionFailed(
        f"network {network.full_name} is not ready: {reason}",
        f"See `kubectl yoshi network describe {network.name} -n {network.namespace}`; once that is fixed, "
        f"`kubectl yoshi sync -n {network.namespace}` reconciles it.",
    )


def check_initialized(network: Network) -> None:
    """Raise PreconditionFailed if the existing users of the network's addresses are not recorded yet."""
    if not network.is_initialized:
        if network.is_deleting:
            raise being_deleted_error(network)
        if error := not_ready_error(network):
            raise error
        raise PreconditionFailed(
            f"network {network.full_name} assigns no addresses yet: it is not initialized, or its status was lost",
            f"`kubectl yoshi sync -n {network.namespace}` initializes it. After a restore, run "
            f"`kubectl yoshi ips rebuild --network {network.full_name}` first.",
        )
