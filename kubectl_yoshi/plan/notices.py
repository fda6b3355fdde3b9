"""Telling the owner of a VM what could not be done for it: an Event on the VM.

Fields: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ (the core group's form of it,
which `kubectl describe` shows). The same Event is counted up at most once in REPEAT_SECONDS.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import Refused, UsageMistake, YoshiError
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.kinds import EVENT
from kubectl_yoshi.model.objects import LONGEST_NAME, Json, Name, dig, short_hash, uid_of
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt, age_in_seconds

COMPONENT = "kubectl-yoshi"
REFUSED = "AddressRefused"
FAILED = "AddressFailed"
REPEAT_SECONDS = 600.0
LONGEST_MESSAGE = 1024  # the API server's limit


def plan_notices(errors: Mapping[Name, YoshiError], facts: Facts, attempt: Attempt) -> Plan:
    """An Event for each VM that still exists.

    Args:
        errors: what could not be done, by the VM's namespace and name.
        facts: what was read.
        attempt: see Attempt.

    Raises:
        NeedMore: more must be read first.
    """
    reads = {name: Read(VM, *name) for name in errors}
    facts.ask(*reads.values())
    changes: list[Change] = []
    for name, error in errors.items():
        found = facts.ask(reads[name])
        if found and "/".join(name) not in attempt.failed and (change := _notice(Vm(found[0]), error, facts, attempt)):
            changes.append(change)
    return Plan((tuple(changes),) if changes else (), refusals=attempt.failed)


def _notice(vm: Vm, error: YoshiError, facts: Facts, attempt: Attempt) -> Change | None:
    reason = REFUSED if isinstance(error, Refused | UsageMistake) else FAILED
    message = error.message if len(error.message) <= LONGEST_MESSAGE else error.message[: LONGEST_MESSAGE - 1] + "…"
    digest = short_hash((vm.uid, reason, message), 16)
    ref = EVENT.ref(f"{vm.name[: LONGEST_NAME - 17].rstrip('-.')}.{digest}", vm.namespace)
    if any(change.ref == ref for change in attempt.done):
        return None
    found = facts.ask(Read(EVENT, vm.namespace, ref.name))
    if not found:
        body = _event(vm, ref.name, reason, message, attempt.stamp)
        says = f"note on {vm.ref}: {message}"
        return Change(Verb.CREATE, ref, says, body=body, subject=vm.subject, tolerate_existing=True)
    event = found[0]
    if age_in_seconds(str(dig(event, "lastTimestamp", default="")), attempt.now) < REPEAT_SECONDS:
        return None
    count = int(dig(event, "count", default=1))
    patch = PatchBuilder.of_uid(uid_of(event)).test(("count",), dig(event, "count"))
    patch.add(("count",), count + 1).add(("lastTimestamp",), attempt.stamp)
    says = f"note on {vm.ref} once more: {message}"
    return Change(Verb.PATCH, ref, says, patch.ops, before=event, subject=vm.subject)


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
