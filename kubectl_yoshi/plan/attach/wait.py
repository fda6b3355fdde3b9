"""Find the VMs that do not run with their assigned addresses yet, for `--wait`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import Backend, UsageKind
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed
from kubectl_yoshi.model.objects import dig, metadata
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, VMI, Vm, find_instance, instances_unreadable_reason
from kubectl_yoshi.plan.network_lookup import get_backend, load_network
from kubectl_yoshi.plan.restart import NOT_RESTARTED_STRATEGIES


def find_pending_vms(
    network_name: tuple[str, str],
    results: Mapping[str, str],
    started: Collection[str],
    backends: Mapping[str, Backend],
    snapshot: Snapshot,
) -> tuple[str, ...]:
    """Return the VMs that should run with their addresses and do not.

    A VM that is halted, or stopped with a run strategy under which it does not start by itself, is not waited for. No
    VM is waited for if the network's addresses are not part of the VM: it has them whether it runs or not.

    Args:
        network_name: the network's namespace and name.
        results: "namespace/name" of each VM -> its address.
        started: those of the VMs that were started or restarted, and should run in any case.
        backends: by plugin.

    Returns:
        "namespace/name" of each, as in `results`.

    Raises:
        PreconditionFailed: a VM no longer exists, or its instances cannot be read.
    """
    network = load_network(*network_name, snapshot)
    backend = get_backend(network, backends)
    if not backend.pins_vm_template:
        return ()
    queries = {owner: _vm_query(owner) for owner in results}
    snapshot.lookup(*queries.values())
    vms: dict[str, Vm] = {}
    for owner, query in queries.items():
        if reason := snapshot.unreadable_reason(query):
            raise PreconditionFailed(f"cannot check whether VM {owner} runs: {reason}", ASK_ADMIN_HINT)
        found = snapshot.lookup(query)
        if not found or Vm(found[0]).is_deleting:
            raise PreconditionFailed(
                f"VM {owner} was deleted before it ran with {results[owner]}",
                "`kubectl yoshi ips gc` releases its address.",
            )
        vms[owner] = Vm(found[0])
    runs_with = {
        (use.namespace, use.name, use.number)
        for use in backend.address_uses(network, [*vms.values()], Intervals(), snapshot)
        if use.kind is UsageKind.RUNNING and use.ref.resource == VMI
    }
    pending = []
    for owner, vm in vms.items():
        if reason := instances_unreadable_reason(vm.namespace, snapshot):
            raise PreconditionFailed(f"cannot check whether VM {owner} runs: {reason}", ASK_ADMIN_HINT)
        instance = find_instance(vm, snapshot)
        if instance is None:
            is_pending = owner in started or vm.run_strategy not in ("Halted", *NOT_RESTARTED_STRATEGIES)
        else:
            is_running = dig(instance, "status", "phase") == "Running" and not metadata(instance).get(
                "deletionTimestamp"
            )
            has_address = (vm.namespace, vm.name, int(parse_address(results[owner]))) in runs_with
            is_pending = vm.run_strategy != "Halted" and not (is_running and has_address)
        if is_pending:
            pending.append(owner)
    return tuple(pending)


def _vm_query(owner: str) -> Query:
    namespace, _, name = owner.partition("/")
    return Query(VM, namespace, name)
