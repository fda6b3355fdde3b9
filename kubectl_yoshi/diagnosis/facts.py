"""The facts that rules check: what was read from the cluster, parsed and joined once.

Every list is read once, whatever the size of the cluster, and only if a rule needs it: a cluster without public
networks is never asked for MetalLB's objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any, TypeVar

from kubectl_yoshi.diagnosis.finding import CannotCheckError
from kubectl_yoshi.model.allocations import Allocations
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.network import NETWORKWIZARD, PART_OF_LABEL, Network
from kubectl_yoshi.model.objects import (
    POLICY,
    POLICY_BINDING,
    Json,
    NamespacedName,
    Resource,
    name_of,
    namespace_of,
)
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VM, VMI, Vm, find_instance, list_launcher_pods
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.inventory import InventoryRow, build_inventory
from kubectl_yoshi.plan.network_lookup import (
    list_requested_networks,
    network_query,
    networks_requested_by,
    parse_networks,
)
from kubectl_yoshi.plan.records import load_allocations

Value = TypeVar("Value")

LABEL_SELECTORS: Mapping[Resource, str] = {
    POD: LAUNCHER_SELECTOR,
    POLICY: "=".join(PART_OF_LABEL),
    POLICY_BINDING: "=".join(PART_OF_LABEL),
}
"""Resources of which only the objects with these labels are of interest."""


@dataclass(frozen=True)
class Scope:
    """What a diagnosis is about.

    Attributes:
        namespace: the namespace of VMs and networks; None for all.
        network: only findings about this one; None for all.
        vms: only findings about these; empty for all.
    """

    namespace: str | None = None
    network: NamespacedName | None = None
    vms: frozenset[NamespacedName] = frozenset()


@dataclass(frozen=True)
class Connection:
    """A VM that holds an address of a network, or requests one.

    Attributes:
        vm, network: the VM and the network.
        row: the address; None if the VM has none yet.
    """

    vm: Vm
    network: Network
    row: InventoryRow | None = None


class Facts:
    """See the module.

    Args:
        ctx: the snapshot, the backends and the time.
        scope: what the diagnosis is about.
        server_version: the version of the API server, such as "v1.36.3"; "" if unknown.
    """

    def __init__(self, ctx: PlanContext, scope: Scope, server_version: str = "") -> None:
        self.ctx = ctx
        self.scope = scope
        self.server_version = server_version
        self._derived: dict[Callable[[Facts], Any], Any] = {}
        self._allocations: dict[NamespacedName, Allocations] = {}

    @property
    def snapshot(self) -> Snapshot:
        """Return what was read, for the functions of other packages."""
        return self.ctx.snapshot

    @property
    def served(self) -> ServedApis:
        """Return the APIs that the API server serves."""
        return self.ctx.snapshot.served

    @property
    def backends(self) -> Mapping[str, Backend]:
        """Return the backends by plugin."""
        return self.ctx.backends

    @property
    def now(self) -> datetime:
        """Return the time of the diagnosis."""
        return self.ctx.run.now

    def derived(self, function: Callable[[Facts], Value]) -> Value:
        """Return the result of a function of these facts, computed once.

        The function is the cache key, so it must be a named one.

        Raises:
            CannotCheckError: raised by the function; it is called again the next time.
        """
        if function not in self._derived:
            self._derived[function] = function(self)
        value: Value = self._derived[function]
        return value

    # -- objects -------------------------------------------------------------------------------------------------

    def objects(self, resource: Resource) -> list[Json]:
        """Return the objects of a resource in all namespaces, or else in the namespace of the scope.

        Returns:
            () for a resource that is not served: the product is not installed.

        Raises:
            CannotCheckError: they cannot be read.
        """
        return self.snapshot.lookup(self.require(resource))

    def require(self, resource: Resource) -> Query:
        """Read the objects of a resource, for look-ups by name in the snapshot, and return the query that finds them.

        Raises:
            CannotCheckError: they cannot be read.
        """
        query = self._query(resource)
        self.snapshot.prefetch(query)
        if self.snapshot.unreadable_reason(query) and resource.namespaced and self.scope.namespace is not None:
            query = self._query(resource, self.scope.namespace)
            self.snapshot.prefetch(query)
        if reason := self.snapshot.unreadable_reason(query):
            raise CannotCheckError(reason)
        return query

    def product_objects(self, resource: Resource) -> list[Json]:
        """Return the objects of a resource whose namespace is that of their product, such as MetalLB's pools.

        Raises:
            CannotCheckError: they cannot be read in all namespaces.
        """
        query = Query(resource)
        found = self.snapshot.lookup(query)
        if reason := self.snapshot.unreadable_reason(query):
            raise CannotCheckError(reason)
        return found

    @staticmethod
    def _query(resource: Resource, namespace: str | None = None) -> Query:
        return Query(resource, namespace, label_selector=LABEL_SELECTORS.get(resource, ""))

    def find(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """Return one of `objects`; None if it does not exist.

        Raises:
            CannotCheckError: they cannot be read.
        """
        self.require(resource)
        return self.snapshot.get_object(resource, name, namespace)

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json | None:
        """Return one object by a request of its own; None if it does not exist, or its resource is not served.

        Raises:
            CannotCheckError: it cannot be read.
        """
        query = Query(resource, namespace, name)
        found = self.snapshot.lookup(query)
        if reason := self.snapshot.unreadable_reason(query):
            raise CannotCheckError(reason)
        return found[0] if found else None

    def is_served(self, resource: Resource) -> bool:
        """Return whether the API server serves a resource, in any version."""
        return resource.full_name in self.served.resources

    # -- networks ------------------------------------------------------------------------------------------------

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """Return the networks of the scope, with a known plugin: the named one, or those of the namespace or of all.

        Networks of other namespaces that VMs of the namespace request are among them.

        Raises:
            PreconditionFailed: the named network does not exist, or networks cannot be listed.
        """
        return tuple(network for network in self._networks_and_errors[0] if network.plugin in self.backends)

    @property
    def network_objects(self) -> list[Json]:
        """Return the NetworkWizards of the scope as read, also those with an invalid spec.

        Raises:
            PreconditionFailed: the named network does not exist, or networks cannot be listed.
        """
        _ = self.networks
        scope = self.scope
        return self.snapshot.lookup(network_query(*scope.network) if scope.network else _networks_of(scope.namespace))

    @cached_property
    def invalid_networks(self) -> tuple[str, ...]:
        """Return a sentence for each network of the scope whose spec is invalid.

        Raises:
            PreconditionFailed: networks cannot be listed.
        """
        return self._networks_and_errors[1]

    @cached_property
    def _networks_and_errors(self) -> tuple[tuple[Network, ...], tuple[str, ...]]:
        scope = self.scope
        network_queries = () if scope.network else (_networks_of(scope.namespace),)
        self.snapshot.prefetch(*network_queries, *(self._query(resource) for resource in (VM, VMI, POD)))
        networks, errors = list_requested_networks(scope.network, scope.namespace, self.snapshot)
        if scope.network is None and scope.namespace is not None:
            queries = [network_query(*name) for name in self._networks_requested_elsewhere(scope.namespace)]
            networks += parse_networks(self.snapshot.lookup(*queries))
        return tuple(networks), tuple(errors)

    def _networks_requested_elsewhere(self, namespace: str) -> tuple[NamespacedName, ...]:
        """Return the networks of other namespaces that VMs of a namespace request."""
        try:
            vms = [vm for vm in self.vms if vm.namespace == namespace]
        except CannotCheckError:
            return ()
        names = (networks_requested_by(vm, backend) for vm in vms for backend in self.backends.values())
        return tuple(dict.fromkeys(name for found in names for name in found if name[0] != namespace))

    def backend(self, network: Network) -> Backend:
        """Return the backend of a network."""
        return self.backends[network.plugin]

    def allocations(self, network: Network) -> Allocations:
        """Return the allocations of a network, from all of its shards; they are loaded once."""
        name = (network.namespace, network.name)
        if name not in self._allocations:
            self._allocations[name] = load_allocations(network, self.snapshot, all_namespaces=True)
        return self._allocations[name]

    @cached_property
    def rows(self) -> Mapping[NamespacedName, tuple[InventoryRow, ...]]:
        """Return for each network the addresses that are recorded or used, with their states (see build_inventory).

        Raises:
            PreconditionFailed: networks cannot be listed.
        """
        return self._rows_and_reasons[0]

    @cached_property
    def hidden_from_rows(self) -> tuple[str, ...]:
        """Return why the rows may lack uses, or the states of some are unknown; () if everything could be read."""
        return self._rows_and_reasons[1]

    @cached_property
    def _rows_and_reasons(self) -> tuple[Mapping[NamespacedName, tuple[InventoryRow, ...]], tuple[str, ...]]:
        networks, snapshot = self.networks, self.snapshot
        snapshot.prefetch(Query(VM), Query(VMI))
        is_exact = not snapshot.unreadable_reason(Query(VM))
        known = {*snapshot.unreadable_queries()} - {Query(VM), Query(VMI), self._query(POD)}
        found = snapshot.parallel(
            partial(build_inventory, network, self.ctx, self.scope.namespace is None, is_exact) for network in networks
        )
        reasons = (reason for query, reason in snapshot.unreadable_queries().items() if query not in known)
        rows = {(n.namespace, n.name): rows for n, rows in zip(networks, found, strict=True)}
        return rows, tuple(dict.fromkeys(reasons))

    # -- VMs -----------------------------------------------------------------------------------------------------

    @cached_property
    def vms(self) -> tuple[Vm, ...]:
        """Return all readable VMs, also those outside the scope.

        Raises:
            CannotCheckError: they cannot be read.
        """
        return tuple(map(Vm, self.objects(VM)))

    def vm(self, name: NamespacedName) -> Vm | None:
        """Return a VM by namespace and name; None if it does not exist.

        Raises:
            CannotCheckError: VMs cannot be read.
        """
        found = self.find(VM, name[1], name[0])
        return Vm(found) if found else None

    def instance(self, vm: Vm) -> Json | None:
        """Return the VM's VMI that has not ended; None if there is none.

        Raises:
            CannotCheckError: VMIs cannot be read.
        """
        self.require(VMI)
        return find_instance(vm, self.snapshot)

    def pods(self, vm: Vm) -> list[Json]:
        """Return the VM's launcher pods that have not ended.

        Raises:
            CannotCheckError: pods cannot be read.
        """
        self.require(POD)
        return list_launcher_pods(vm.namespace, vm.name, self.snapshot)

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """Return each VM with each of its networks: first those that hold an address, then those that request one.

        Raises:
            CannotCheckError: VMs cannot be read.
        """
        found = [Connection(vm, row.network, row) for vm, row in self.attachments]
        known = {(one.vm.full_name, one.network.full_name) for one in found}
        networks = {(network.namespace, network.name): network for network in self.networks}
        for vm in self.vms:
            for plugin, backend in self.backends.items():
                for name in networks_requested_by(vm, backend):
                    network = networks.get(name)
                    if network is not None and network.plugin == plugin:
                        key = (vm.full_name, network.full_name)
                        found += [Connection(vm, network)] if key not in known else []
                        known.add(key)
        return tuple(found)

    @cached_property
    def attachments(self) -> tuple[tuple[Vm, InventoryRow], ...]:
        """Return each existing VM that holds an address, with the address.

        Raises:
            CannotCheckError: VMs cannot be read.
        """
        vms = {(vm.namespace, vm.name): vm for vm in self.vms}
        return tuple(
            (vms[(row.record.namespace, row.record.name)], row)
            for rows in self.rows.values()
            for row in rows
            if row.record is not None and row.vm is not None and (row.record.namespace, row.record.name) in vms
        )


def full_name(obj: Json) -> NamespacedName:
    """Return the namespace and name of an object."""
    return namespace_of(obj), name_of(obj)


def _networks_of(namespace: str | None) -> Query:
    return Query(NETWORKWIZARD, namespace)
