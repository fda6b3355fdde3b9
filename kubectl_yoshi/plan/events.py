"""Report to the owner of a VM what failed for it: an Event on the VM.

Fields: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ (in the form of the core group,
which `kubectl describe` shows). The count of an Event is incremented at most once in REPEAT_SECONDS.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.errors import PreconditionFailed, UsageError, YoshiError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.objects import EVENT, MAX_NAME_LENGTH, Json, NamespacedName, dig, short_hash, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.context import PlanContext, age_in_seconds

COMPONENT = "kubectl-yoshi"
REASON_REFUSED = "AddressRefused"
REASON_FAILED = "AddressFailed"
REPEAT_SECONDS = 600.0
MAX_MESSAGE_LENGTH = 1024  # the API server's limit


def plan_events(errors: Mapping[NamespacedName, YoshiError], ctx: PlanContext) -> Plan:
    """Plan an Event for each VM that still exists.

    Args:
        errors: namespace and name of the VM -> what failed.
    """
    queries = {name: Query(VM, *name) for name in errors}
    ctx.snapshot.lookup(*queries.values())
    changes: list[Change] = []
    for name, error in errors.items():
        found = ctx.snapshot.lookup(queries[name])
        if found and "/".join(name) not in ctx.run.failed and (change := _event_change(Vm(found[0]), error, ctx)):
            changes.append(change)
    return Plan((tuple(changes),) if changes else (), errors=ctx.run.failed)


def _event_change(vm: Vm, error: YoshiError, ctx: PlanContext) -> Change | None:
    reason = REASON_REFUSED if isinstance(error, PreconditionFailed | UsageError) else REASON_FAILED
    message = (
        error.message if len(error.message) <= MAX_MESSAGE_LENGTH else error.message[: MAX_MESSAGE_LENGTH - 1] + "…"
    )
    digest = short_hash((vm.uid, reason, message), 16)
    ref = EVENT.ref(f"{vm.name[: MAX_NAME_LENGTH - 17].rstrip('-.')}.{digest}", vm.namespace)
    if any(change.ref == ref for change in ctx.run.done):
        return None
    found = ctx.snapshot.lookup(Query(EVENT, vm.namespace, ref.name))
    if not found:
        body = _event(vm, ref.name, reason, message, ctx.run.timestamp)
        summary = f"create an Event on {vm.ref}: {message}"
        return Change(Verb.CREATE, ref, summary, body=body, owner=vm.full_name, ignore_already_exists=True)
    event = found[0]
    if age_in_seconds(str(dig(event, "lastTimestamp", default="")), ctx.run.now) < REPEAT_SECONDS:
        return None
    count = int(dig(event, "count", default=1))
    patch = PatchBuilder.for_uid(uid_of(event)).test(("count",), dig(event, "count"))
    patch.add(("count",), count + 1).add(("lastTimestamp",), ctx.run.timestamp)
    summary = f"repeat the Event on {vm.ref}: {message}"
    return Change(Verb.PATCH, ref, summary, patch.ops, before=event, owner=vm.full_name)


def _event(vm: Vm, name: str, reason: str, message: str, now: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": vm.namespace},
        "involvedObject": {
            "apiVersion": VM.api_version,
            "kind": VM.kind,
            "namespace": vm.namespace,
            "name": vm.name,
            "uid": vm.uid,
        },
        "reason": reason,
        "message": message,
        "type": "Warning",
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
    }
