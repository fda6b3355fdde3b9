"""The state of a cluster in a few figures: versions, networks, VMs, addresses, admission policies and findings.

What cannot be read is None here, never 0, and its reason is in `ClusterStatus.unreadable`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from kubectl_yoshi import __version__
from kubectl_yoshi.backends.calico import api as calico_api
from kubectl_yoshi.backends.kubevirt import KUBEVIRT
from kubectl_yoshi.backends.metallb import frr
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import NAD
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Severity
from kubectl_yoshi.diagnosis.rule import Diagnosis, Rule
from kubectl_yoshi.diagnosis.run import diagnose
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.allocations import NETWORK, RESERVATION, allocations_outside_cidr, compute_counters, is_large
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD, PART_OF_LABEL, VERSION_ANNOTATION, Network, get_readiness
from kubectl_yoshi.model.objects import CRD, POLICY, POLICY_BINDING, Json, NamespacedName, annotations_of, dig, name_of
from kubectl_yoshi.model.policy_mode import PolicyMode, mode_of
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VM, VMI
from kubectl_yoshi.plan.records import blocks_query

_POLICIES = Query(POLICY, label_selector="=".join(PART_OF_LABEL))
_BINDINGS = Query(POLICY_BINDING)
_MODE_WORDS = {PolicyMode.ENFORCE: "enforced", PolicyMode.AUDIT: "audit", PolicyMode.OFF: "off"}
_OWN_CRD = Query(CRD, name=NETWORKWIZARD.full_name)


@dataclass(frozen=True)
class Component:
    """A program with its version.

    Attributes:
        name: as printed.
        installed: whether the cluster has it; None if that is unknown.
        version: such as "v3.32.1"; "" if it is unknown.
        detail: what else distinguishes the installation, such as the API that is used; "" for nothing.
        reason: why something about it is unknown; "" if nothing is.
    """

    name: str
    installed: bool | None = True
    version: str = ""
    detail: str = ""
    reason: str = ""


@dataclass(frozen=True)
class MissingPermission:
    """What the user may not do.

    Attributes:
        permission: such as "may not create networkwizards.plumber.k8s.pf9.io in namespace prod".
        commands: the commands that need it.
    """

    permission: str
    commands: str


@dataclass(frozen=True)
class NetworkStatus:
    """A network and its counters.

    Attributes:
        range: its CIDR, with the first and last address that may be assigned if these are restricted; "" for a
            network without a CIDR.
        ready: the status of its condition Ready: "True", "False" or "Unknown".
        reason: why it is not ready, or why its allocations cannot be read; "" for neither.
        used: the number of allocations to VMs; None if they cannot be read.
        reserved: the number of reservations, with the addresses of the network itself; None if they cannot be read.
        free: the number of addresses that can still be assigned; None if that is unknown, or without a CIDR.
        use_percent: see compute_counters; None like `free`.
    """

    name: NamespacedName
    plugin: str
    range: str
    ready: str
    reason: str
    used: int | None
    reserved: int | None
    free: int | None
    use_percent: int | None


@dataclass(frozen=True)
class VmCounts:
    """Numbers of VMs in the scope.

    Attributes:
        total: all.
        with_address: those that hold an address of a network.
        restart_needed: those that run without the latest changes of their template.
    """

    total: int
    with_address: int
    restart_needed: int

    @property
    def without_address(self) -> int:
        """Return the number of those that hold no address."""
        return self.total - self.with_address


@dataclass(frozen=True)
class PolicyStatus:
    """A ValidatingAdmissionPolicy of this program.

    Attributes:
        mode: "enforced" if a binding denies, "audit" if bindings only warn or audit, else "off".
    """

    name: str
    mode: str


@dataclass(frozen=True)
class ClusterStatus:
    """See the module.

    Attributes:
        components: with their versions, this program first.
        missing_permissions: what the user may not do.
        networks: None if they cannot be read.
        invalid_networks: a sentence for each network whose spec is invalid.
        vms: None if they, or the networks, cannot be read.
        addresses: the number of addresses by state; None if the networks cannot be read.
        policies: None if they cannot be read.
        diagnosis: what the rules found in one read; None if nothing can be checked.
        unreadable: why something is unknown, each reason once.
    """

    components: tuple[Component, ...]
    missing_permissions: tuple[MissingPermission, ...]
    networks: tuple[NetworkStatus, ...] | None
    invalid_networks: tuple[str, ...]
    vms: VmCounts | None
    addresses: Mapping[AddressState, int] | None
    policies: tuple[PolicyStatus, ...] | None
    diagnosis: Diagnosis | None
    unreadable: tuple[str, ...]

    @property
    def unconfirmed(self) -> int:
        """Return how many findings a second read must confirm, see Rule.is_volatile."""
        return sum(1 for finding in self.diagnosis.findings if finding.rule.is_volatile) if self.diagnosis else 0

    @property
    def pending(self) -> str:
        """Return what `status --wait` still waits for, in a line; "" if networks are ready and there are no errors."""
        if self.networks is None or self.diagnosis is None:
            return f"networks cannot be read: {'; '.join(self.unreadable)}"
        if self.invalid_networks:
            return self.invalid_networks[0]
        for network in self.networks:
            if network.ready != "True":
                return f"network {'/'.join(network.name)} is not ready{f': {network.reason}' if network.reason else ''}"
        errors = self.diagnosis.count(Severity.ERROR)
        return f"{errors} {'error' if errors == 1 else 'errors'} found; see `kubectl yoshi doctor`" if errors else ""


def compute_status(facts: Facts, rules: Iterable[Rule]) -> ClusterStatus:
    """Return the status of the scope of the facts.

    Args:
        facts: which must have the version of the API server.
        rules: whose findings are counted.

    Raises:
        YoshiError: the CRDs of this program are not installed, or nothing can be read.
    """
    _read_ahead(facts)
    components = tuple(part(facts) for part in _COMPONENTS)
    permissions = _missing_permissions(facts)
    policies = _policies(facts)
    reasons: list[str] = []
    networks = vms = addresses = diagnosis = None
    invalid: tuple[str, ...] = ()
    try:
        networks, invalid = tuple(_network_status(network, facts) for network in facts.networks), facts.invalid_networks
        addresses = Counter(row.state for rows in facts.rows.values() for row in rows)
        diagnosis = diagnose(facts, rules)
        vms = _count_vms(facts)
    except PreconditionFailed as error:
        reasons.append(error.in_one_line)
    except CannotCheckError as error:
        reasons.append(error.reason)
    reasons = [*(component.reason for component in components), *facts.snapshot.unreadable_reasons(), *reasons]
    unreadable = tuple(dict.fromkeys(filter(None, reasons)))
    return ClusterStatus(components, permissions, networks, invalid, vms, addresses, policies, diagnosis, unreadable)


def _read_ahead(facts: Facts) -> None:
    """Read what the parts of the status need, as much as possible at the same time."""
    namespace = facts.scope.namespace
    facts.snapshot.prefetch(
        Query(NETWORKWIZARD, namespace),
        Query(VM),
        Query(VMI),
        Query(POD, label_selector=LAUNCHER_SELECTOR),
        Query(KUBEVIRT),
        _OWN_CRD,
        *_permission_queries(facts),
    )
    parts: tuple[Callable[[Facts], object], ...] = (_calico, _metallb, _policies, _read_rows)
    facts.snapshot.parallel(partial(part, facts) for part in parts)


def _read_rows(facts: Facts) -> None:
    try:
        _ = facts.rows
    except PreconditionFailed:  # the networks cannot be read
        return


# -- components --------------------------------------------------------------------------------------------------


def _client(facts: Facts) -> Component:
    return Component("kubectl-yoshi", version=f"v{__version__}")


def _crds(facts: Facts) -> Component:
    for crd in facts.snapshot.lookup(_OWN_CRD):
        version = annotations_of(crd).get(VERSION_ANNOTATION, "")
        return Component("CRDs", version=f"v{version}") if version else Component("CRDs", detail="by another program")
    return Component("CRDs", reason=facts.snapshot.unreadable_reason(_OWN_CRD))


def _api_server(facts: Facts) -> Component:
    return Component("Kubernetes", version=facts.server_version)


def _kubevirt(facts: Facts) -> Component:
    if not facts.is_served(VM):
        return Component("KubeVirt", installed=False)
    versions = [
        str(dig(obj, "status", "observedKubeVirtVersion", default="")) for obj in facts.snapshot.lookup(Query(KUBEVIRT))
    ]
    return Component("KubeVirt", True, "".join(versions[:1]), "", facts.snapshot.unreadable_reason(Query(KUBEVIRT)))


def _calico(facts: Facts) -> Component:
    """Return Calico with the API that this program writes to."""
    snapshot = facts.snapshot
    if not calico_api.is_installed(facts.served):
        return Component("Calico", installed=False)
    reason = ""
    try:
        api = calico_api.get_write_api(snapshot)
        detail = api.pool.api_version + (", by its API server" if api is calico_api.AGGREGATED else "")
    except PreconditionFailed as error:
        api, detail, reason = calico_api.get_read_api(snapshot), "", error.in_one_line
    query = Query(api.information, name="default")
    versions = [str(dig(obj, "spec", "calicoVersion", default="")) for obj in snapshot.lookup(query)]
    return Component("Calico", True, "".join(versions), detail, reason or snapshot.unreadable_reason(query))


def _metallb(facts: Facts) -> Component:
    """Return MetalLB; its BGP implementation is known only if it is frr-k8s."""
    if not metallb.is_installed(facts.served):
        return Component("MetalLB", installed=False)
    controller = metallb.find_controller(facts.snapshot)
    version = controller[1] if controller else ""
    mode = "frr-k8s" if facts.is_served(frr.NODE_STATE) else ""
    return Component("MetalLB", True, version, mode, facts.snapshot.unreadable_reason(*metallb.CONTROLLER_QUERIES))


def _multus(facts: Facts) -> Component:
    return Component("Multus", installed=facts.is_served(NAD))


_COMPONENTS: tuple[Callable[[Facts], Component], ...] = (
    _client, _crds, _api_server, _kubevirt, _calico, _metallb, _multus,
)  # fmt: skip


# -- permissions -------------------------------------------------------------------------------------------------


def _permission_queries(facts: Facts) -> dict[Query, str]:
    """Return one access review for each group of commands, and the commands: the first write that may be refused."""
    namespace = facts.scope.namespace
    return {
        Query(VM, namespace, verb="patch"): "vm attach, vm detach",
        Query(NETWORKWIZARD, namespace, verb="create"): "network create",
        Query(CRD, verb="create"): "install",
    }


def _missing_permissions(facts: Facts) -> tuple[MissingPermission, ...]:
    found = ((facts.snapshot.forbidden_reason(query), text) for query, text in _permission_queries(facts).items())
    return tuple(MissingPermission(permission, commands) for permission, commands in found if permission)


# -- networks, VMs, policies and findings ------------------------------------------------------------------------


def _network_status(network: Network, facts: Facts) -> NetworkStatus:
    ready, reason = get_readiness(network.raw), str(dig(network.raw, "status", "reason", default=""))
    allocations = facts.allocations(network).records()
    unreadable = facts.snapshot.unreadable_reason(blocks_query(None)) if is_large(network) else ""
    used = reserved = None
    counters: Mapping[str, int] = {}
    if not unreadable:
        reserved = sum(1 for record in allocations.values() if record.kind in (RESERVATION, NETWORK))
        used = len(allocations) - reserved
        counters = compute_counters(network, len(allocations), len(allocations_outside_cidr(network)))
    return NetworkStatus(
        (network.namespace, network.name),
        network.plugin,
        _range(network),
        ready,
        unreadable or ("" if ready == "True" else reason),
        used,
        reserved,
        counters.get("free"),
        counters.get("usePercent"),
    )


def _range(network: Network) -> str:
    first, last = (str(dig(network.raw, "spec", key, default="")) for key in ("range_start", "range_end"))
    restriction = f" ({first or 'start'}-{last or 'end'})" if first or last else ""
    return f"{network.cidr}{restriction}" if network.cidr else ""


def _count_vms(facts: Facts) -> VmCounts:
    """Return the numbers of VMs.

    Raises:
        CannotCheckError: VMs cannot be read.
    """
    in_scope = {(vm.namespace, vm.name) for vm in facts.vms if facts.scope.namespace in (None, vm.namespace)}
    with_address = {(vm.namespace, vm.name) for vm, _ in facts.attachments}
    restart_needed = {
        vm for rows in facts.rows.values() for row in rows if row.state is AddressState.RESTART_NEEDED for vm in row.vms
    }
    return VmCounts(len(in_scope), len(in_scope & with_address), len(in_scope & restart_needed))


def _policies(facts: Facts) -> tuple[PolicyStatus, ...] | None:
    """Return the admission policies of this program; None if they cannot be read."""
    if not facts.is_served(POLICY):
        return ()
    snapshot = facts.snapshot
    snapshot.prefetch(_POLICIES, _BINDINGS)
    if snapshot.unreadable_reason(_POLICIES, _BINDINGS):
        return None
    bindings: dict[str, list[Json]] = {}
    for binding in snapshot.lookup(_BINDINGS):
        bindings.setdefault(str(dig(binding, "spec", "policyName")), []).append(binding)
    return tuple(
        PolicyStatus(name_of(policy), _MODE_WORDS[mode_of(bindings.get(name_of(policy), ()))])
        for policy in snapshot.lookup(_POLICIES)
    )
