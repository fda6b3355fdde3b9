"""Writes that do not stick: a round plans exactly what the round before has carried out.

The API server has answered every one of those writes, and the objects do not say what was written: the server does not
keep a field, or somebody sets it back. To write it again would not end.

What may repeat rightly is not judged: waiting, calls of subresources and deletions, which take their time; writes that
were refused or not answered; patches that only test. Where somebody else has written to the object in between, it may
have been a race, and the same plan may come a few times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.cluster.carrying_out import Outcome
from kubectl_yoshi.cluster.errors import NotKept
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.errors import first_few
from kubectl_yoshi.model.objects import ObjectRef, resource_version_of

TIMES_BESIDE_OTHERS = 8
"""How often in a row the same plan may be carried out while others write to its objects: two deletions of a network
that mark it three times each (plan.networks.MARKS), and some more."""
FEW = 3
"""So many fields are named."""

_JUDGED = (Verb.CREATE, Verb.PATCH, Verb.REPLACE)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True)
class Round:
    """A round all of whose changes were answered.

    Attributes:
        written: what was written, see _written; None where the plan may repeat rightly.
        versions: the resourceVersion of each object in the last answer.
        times: how many rounds in a row have written this.
    """

    written: Any = None
    versions: Mapping[ObjectRef, str] = field(default_factory=dict)
    times: int = 0

    def then(self, plan: Plan, outcome: Outcome) -> Round:
        """Return the next round, from its plan and what became of it."""
        written = _written(plan)
        answered = all(answer is not None for _, answer in outcome.done)
        if written is None or outcome.failed or outcome.skipped or not answered:
            return Round()
        versions = {change.ref: resource_version_of(answer or {}) for change, answer in outcome.done}
        return Round(written, versions, self.times + 1 if written == self.written else 1)

    def not_kept(self, plan: Plan) -> list[tuple[Change, NotKept]]:
        """Return the writes of a plan that this round has carried out already, each with the error that says so.

        Args:
            plan: of what was read after this round.
        """
        if self.written is None or _written(plan) != self.written:
            return []
        repeated = [change for change in plan if not change.only_tests]
        alone = all(self._is_as_answered(change) for change in repeated)
        if not alone and self.times < TIMES_BESIDE_OTHERS:
            return []
        return [(change, _error(change, alone)) for change in repeated]

    def _is_as_answered(self, change: Change) -> bool:
        """Whether nobody has written to an object since this round did."""
        return change.before is not None and resource_version_of(change.before) == self.versions.get(change.ref)


def _written(plan: Plan) -> Any:
    """What a plan writes, the same for plans that write the same: without what they test, and without times; None where
    it may be carried out again rightly, or writes nothing."""
    changes = list(plan)
    if any(change.verb not in _JUDGED for change in changes) or all(change.only_tests for change in changes):
        return None
    return [
        (change.verb, change.ref, change.subresource, _without_times(_without_tests(change.body))) for change in changes
    ]


def _without_tests(body: Any) -> Any:
    return [op for op in body if op["op"] != "test"] if isinstance(body, list) else body


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return _TIME.sub("", value) if isinstance(value, str) else value


def _error(change: Change, alone: bool) -> NotKept:
    ref = change.ref
    where = f" -n {ref.namespace}" if ref.namespace else ""
    look = f"kubectl get {ref.resource.full_name} {ref.name}{where} -o yaml --show-managed-fields"
    if change.verb is Verb.CREATE:
        return NotKept(f"{ref} is removed as often as it is made", f"See which controller does it: {look}")
    ops = _without_tests(change.body) if isinstance(change.body, list) else ()
    what = first_few([*dict.fromkeys(_field_of(op["path"]) for op in ops)], FEW) or "what is written"
    if not alone:
        return NotKept(f"{ref}: {what} is set back as often as it is written", f"See which controller does it: {look}")
    return NotKept(
        f"{ref}: the API server does not keep {what}", f"See whether a webhook or an older CRD drops it: {look}"
    )


def _field_of(path: str) -> str:
    """A JSON Pointer as people write it: "spec.disabled", "metadata.annotations[example.com/a]"."""
    words = [word.replace("~1", "/").replace("~0", "~") for word in path.split("/")[1:]]
    plain = [word if word.isalnum() and not word.isdecimal() else f"[{word}]" for word in words if word != "-"]
    return ".".join(plain).replace(".[", "[")
