"""Writes without effect: a round plans exactly what the round before has carried out.

The API server has answered every one of those writes, and the objects do not say what was written: the server does not
keep a field, or another writer sets it back. To write it again would not end. What is written is compared, not what is
tested, and times do not count. If no other writer has written to those objects meanwhile, by their resourceVersions,
the run reports at once that the API server does not keep the field; otherwise it may be a race, and after
MAX_REPEATS_WITH_OTHER_WRITERS such rounds it reports that the field is set back. It is a failure like any other: the
planner gets it and rolls back what the run had done, and `sync` goes on to the next network.

What may repeat rightly is not checked: waiting, calls of subresources and deletions, which take their time; writes that
were refused or not answered; patches that only test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.engine.apply import ApplyResult
from kubectl_yoshi.kube.errors import WriteLostError
from kubectl_yoshi.model.errors import first_few
from kubectl_yoshi.model.objects import ObjectRef, resource_version_of
from kubectl_yoshi.model.plan import Change, Plan, Verb

MAX_REPEATS_WITH_OTHER_WRITERS = 8
"""How often in a row the same plan may be applied while other clients write to its objects.

Two deletions of a network mark it three times each (plan.network.deletion.MAX_DELETION_MARKS); the rest is margin.
"""
MAX_NAMED_FIELDS = 3
"""Maximum number of fields that an error names."""

_CHECKED_VERBS = (Verb.CREATE, Verb.PATCH, Verb.REPLACE)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True)
class AppliedRound:
    """A round in which every change was answered with success.

    Attributes:
        written: what was written, see _written_content; None if the plan may repeat legitimately.
        versions: the resourceVersion of each object in the last response.
        repeat_count: the number of consecutive rounds that have written this.
    """

    written: Any = None
    versions: Mapping[ObjectRef, str] = field(default_factory=dict)
    repeat_count: int = 0

    def next_round(self, plan: Plan, result: ApplyResult) -> AppliedRound:
        """Return the next round, from its plan and the result of applying it."""
        written = _written_content(plan)
        answered = all(answer is not None for _, answer in result.executed)
        if written is None or result.failed or result.skipped or not answered:
            return AppliedRound()
        versions = {change.ref: resource_version_of(answer or {}) for change, answer in result.executed}
        return AppliedRound(written, versions, self.repeat_count + 1 if written == self.written else 1)

    def lost_writes(self, plan: Plan) -> list[tuple[Change, WriteLostError]]:
        """Return the writes of a plan that this round has already applied, each with an error that reports this.

        Args:
            plan: made from what was read after this round.
        """
        if self.written is None or _written_content(plan) != self.written:
            return []
        repeated = [change for change in plan if not change.is_test_only]
        is_sole_writer = all(self._is_unmodified(change) for change in repeated)
        if not is_sole_writer and self.repeat_count < MAX_REPEATS_WITH_OTHER_WRITERS:
            return []
        return [(change, _lost_write_error(change, is_sole_writer)) for change in repeated]

    def _is_unmodified(self, change: Change) -> bool:
        """Return whether no other client has written to an object since this round did."""
        return change.before is not None and resource_version_of(change.before) == self.versions.get(change.ref)


def _written_content(plan: Plan) -> Any:
    """Return what a plan writes, in a form that is equal for plans that write the same.

    It has neither tests nor times. Returns None if the plan may repeat legitimately, or writes nothing.
    """
    changes = list(plan)
    if any(change.verb not in _CHECKED_VERBS for change in changes) or all(change.is_test_only for change in changes):
        return None
    return [
        (change.verb, change.ref, change.subresource, _without_timestamps(_without_tests(change.body)))
        for change in changes
    ]


def _without_tests(body: Any) -> Any:
    return [op for op in body if op["op"] != "test"] if isinstance(body, list) else body


def _without_timestamps(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_timestamps(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_timestamps(item) for item in value]
    return _TIMESTAMP.sub("", value) if isinstance(value, str) else value


def _lost_write_error(change: Change, is_sole_writer: bool) -> WriteLostError:
    ref = change.ref
    namespace_flag = f" -n {ref.namespace}" if ref.namespace else ""
    command = f"kubectl get {ref.resource.full_name} {ref.name}{namespace_flag} -o yaml --show-managed-fields"
    if change.verb is Verb.CREATE:
        return WriteLostError(
            f"{ref} is deleted as often as it is created", f"Find the controller that does it: {command}"
        )
    ops = _without_tests(change.body) if isinstance(change.body, list) else ()
    fields = (
        first_few([*dict.fromkeys(_format_path(op["path"]) for op in ops)], MAX_NAMED_FIELDS) or "the written fields"
    )
    if not is_sole_writer:
        return WriteLostError(
            f"{ref}: {fields} is reverted as often as it is written", f"Find the controller that does it: {command}"
        )
    return WriteLostError(
        f"{ref}: the API server does not store {fields}", f"Check whether a webhook or an older CRD drops it: {command}"
    )


def _format_path(path: str) -> str:
    """Format a JSON Pointer for messages: "spec.disabled", "metadata.annotations[example.com/a]"."""
    words = [word.replace("~1", "/").replace("~0", "~") for word in path.split("/")[1:]]
    parts = [word if word.isalnum() and not word.isdecimal() else f"[{word}]" for word in words if word != "-"]
    return ".".join(parts).replace(".[", "[")
