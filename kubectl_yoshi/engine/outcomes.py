"""What a run has sent and what is known of the outcome, so that its final report is correct.

A write is applied, refused, or gets no usable response; then it may have been applied, or may be later. Reading the
object again shows the outcome.
"""

from __future__ import annotations

import copy
import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.engine.apply import ApplyResult
from kubectl_yoshi.kube.errors import AmbiguousWriteError, ServerError
from kubectl_yoshi.model.errors import OutdatedError, YoshiError
from kubectl_yoshi.model.jsonpatch import same_json
from kubectl_yoshi.model.matching import matches
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, name_of, namespace_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Snapshot, Unreadable
from kubectl_yoshi.plan.records import COUNTER_PATHS

AMBIGUOUS_ERRORS = AmbiguousWriteError | ServerError
"""After a timeout or failure of the API server it is unknown whether the write was applied."""
NAMED = 3
"""Maximum number of changes that an error names."""


class WriteOutcome(enum.Enum):
    """The known outcome of a change that was sent."""

    DONE = "done"
    NO_OP = "nothing"  # there was nothing to send, or it was in effect already
    FAILED = "failed"  # the server answered with a 5xx error
    UNANSWERED = "unanswered"  # it may still be applied later
    OBSERVED = "seen"  # it was one of the last two, and its object shows the change


UNRESOLVED = (WriteOutcome.FAILED, WriteOutcome.UNANSWERED)


@dataclass
class JournalEntry:
    """A change, the server's response, and the known outcome."""

    change: Change
    answer: Json | None
    outcome: WriteOutcome


@dataclass
class WriteJournal:
    """The changes of a run.

    Attributes:
        entries: those that are or may be applied, in order.
        rollback_start: owner -> the number of entries when it was refused; later ones belong to the rollback.
    """

    entries: list[JournalEntry] = field(default_factory=list)
    rollback_start: dict[str, int] = field(default_factory=dict)

    def add(self, result: ApplyResult) -> None:
        """Add the result of a plan."""
        for change, answer in result.executed:
            self.entries.append(
                JournalEntry(change, answer, WriteOutcome.NO_OP if answer is None else WriteOutcome.DONE)
            )
        for change, error in result.failed:
            if isinstance(error, AMBIGUOUS_ERRORS):
                outcome = WriteOutcome.FAILED if isinstance(error, ServerError) else WriteOutcome.UNANSWERED
                self.entries.append(JournalEntry(change, None, outcome))

    def resolve(self, plan: Plan, snapshot: Snapshot, failed: Iterable[str]) -> tuple[Change, ...]:
        """Determine from a newer snapshot which ambiguous changes were applied, and return them.

        Also record from which entry on the changes of failed owners belong to their rollback.

        Args:
            plan: the plan made from the snapshot; its errors are failed owners too.
            failed: owners that failed before.
        """
        ambiguous = [sent for sent in self.entries if sent.outcome in UNRESOLVED]
        look = ObservedObjects(snapshot) if ambiguous else None
        seen = [sent for sent in ambiguous if look and look.is_in_effect(sent.change)]
        for sent in seen:
            sent.outcome = WriteOutcome.OBSERVED
        failed_owners = {*plan.errors, *failed}
        self.rollback_start = {owner: self.rollback_start.get(owner, len(self.entries)) for owner in failed_owners}
        return tuple(sent.change for sent in seen)

    def changes_with(self, *outcomes: WriteOutcome) -> tuple[Change, ...]:
        """Return the changes with one of these outcomes."""
        return tuple(sent.change for sent in self.entries if sent.outcome in outcomes)

    @property
    def done(self) -> tuple[tuple[Change, Json | None], ...]:
        """Return every change in effect, with the server's response; those that were only observed, once each."""
        answered = [sent for sent in self.entries if sent.outcome in (WriteOutcome.DONE, WriteOutcome.NO_OP)]
        known = {sent.change.summary for sent in answered}
        seen = {
            change.summary: change for change in self.changes_with(WriteOutcome.OBSERVED) if change.summary not in known
        }
        return (*((sent.change, sent.answer) for sent in answered), *((change, None) for change in seen.values()))

    def changes_so_far(self) -> str:
        """Return one line on what was changed, for an error that ends the run; "" if nothing was changed."""
        created = {
            change.ref
            for change in self.changes_with(WriteOutcome.DONE, WriteOutcome.OBSERVED)
            if change.verb is Verb.CREATE
        }
        deleted = {
            change.ref
            for change in self.changes_with(WriteOutcome.DONE, WriteOutcome.OBSERVED)
            if change.verb is Verb.DELETE
        }
        effective = [
            change
            for change in self.changes_with(WriteOutcome.DONE, WriteOutcome.OBSERVED)
            if change.ref not in created & deleted
        ]
        return _format_changes(effective, self.changes_with(*UNRESOLVED))

    def explain_errors(
        self, errors: Mapping[str, YoshiError], snapshot: Snapshot, reported: Collection[str] = ()
    ) -> dict[str, YoshiError]:
        """Return the errors, each with the changes for its owner that are still in effect.

        Args:
            errors: by owner.
            snapshot: the latest one.
            reported: owners whose outcome is reported otherwise. Changes for all other owners are added to every error:
                if a network could not be deleted, what was removed from its VMs.
        """
        if not errors or not self.entries:
            return dict(errors)
        seen = ObservedObjects(snapshot)
        by_owner: dict[str, list[tuple[int, JournalEntry]]] = defaultdict(list)
        for index, sent in enumerate(self.entries):
            by_owner[sent.change.owner].append((index, sent))
        explained = {}
        shared = {"", *by_owner} - {*errors, *reported} | {""}
        for owner, error in errors.items():
            entries = sorted((entry for key in {owner, *shared} for entry in by_owner[key]), key=lambda entry: entry[0])
            limit = self.rollback_start.get(owner, len(self.entries))
            explained[owner] = _explain_error(error, [sent for index, sent in entries if index < limit], seen)
        return explained


def _explain_error(error: YoshiError, entries: Iterable[JournalEntry], seen: ObservedObjects) -> YoshiError:
    effective, uncertain = [], []
    for sent in entries:
        effect = seen.is_in_effect(sent.change)
        if sent.outcome in (WriteOutcome.DONE, WriteOutcome.OBSERVED) and effect is not False:
            effective.append(sent.change)
        elif sent.outcome is WriteOutcome.UNANSWERED or (sent.outcome is WriteOutcome.FAILED and effect is None):
            uncertain.append(sent.change)
    explained = copy.copy(error)
    explained.changes_so_far = _format_changes(effective, uncertain)
    return explained


def _format_changes(done: Collection[Change], ambiguous: Collection[Change]) -> str:
    ordered = sorted(done, key=lambda change: change.verb is not Verb.CALL)  # a stopped VM is never among the "1 more"
    made = dict.fromkeys(_describe_change(change) for change in ordered if not change.is_test_only)
    uncertain = dict.fromkeys(words for change in ambiguous if (words := _describe_change(change)) not in made)
    sentences = [
        f"{label}: {'; '.join([*words][:NAMED])}{f'; and {len(words) - NAMED} more' if len(words) > NAMED else ''}."
        for label, words in (("Done before the error", made), ("Outcome unknown", uncertain))
        if words
    ]
    return " ".join(sentences)


def _describe_change(change: Change) -> str:
    return change.summary or f"{change.verb.value} {change.ref}"


class ObservedObjects:
    """The objects of a snapshot, to determine whether changes without a response are in effect."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._found: dict[ObjectRef, Json | None] = {}
        self._listed: set[tuple[Resource, str | None]] = set()
        for query, answer in sorted(snapshot.results.items(), key=lambda item: item[0].read_number):
            if isinstance(answer, Unreadable) or query.verb:
                continue
            if query.name:
                self._found[query.resource.ref(query.name, query.namespace)] = None
            elif not query.label_selector:
                self._listed.add((query.resource, query.namespace))
            for obj in answer:
                self._found[query.resource.ref(name_of(obj), namespace_of(obj) or None)] = obj

    def is_in_effect(self, change: Change) -> bool | None:
        """Return whether the object shows a change, whichever write made it; None if that is unknown."""
        ref = change.ref
        listed = {(ref.resource, ref.namespace), (ref.resource, None)} & self._listed
        if ref not in self._found and not listed:
            return None
        obj = self._found.get(ref)
        if change.verb is Verb.CREATE:
            return obj is not None
        if change.verb is Verb.DELETE:
            return obj is None or bool(change.uid and uid_of(obj) != change.uid)
        if change.verb is Verb.PATCH and isinstance(change.body, list):
            if obj is None:
                return False
            applied = [_is_applied(op, obj) for op in change.body if op["path"] not in COUNTER_PATHS]
            return False if False in applied else None if None in applied else True
        if change.edit is not None and obj is not None:
            try:
                return change.edit(obj) is obj
            except OutdatedError:
                return False
        return None


def _is_applied(op: Json, obj: Json) -> bool | None:
    """Return whether an operation of a JSON Patch has nothing left to change; None if that cannot be determined.

    This is the case for a removal from a list: it names an index, which another item may have now.
    """
    if op["op"] == "test":
        return True
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
    node: Any = obj
    for key in parents:
        if isinstance(node, list):
            return None
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, list):
        return op["value"] in node if op["op"] == "add" else None
    actual = node.get(last) if isinstance(node, dict) else None
    if op["op"] == "remove":
        return actual is None
    # A spec may have been defaulted or normalized; elsewhere, an empty map of records differs from none.
    if op["path"].startswith("/spec"):
        return matches(op["value"], actual, name=last)
    return _contains(actual, op["value"])


def _contains(actual: Any, value: Any) -> bool:
    """Return whether a value is present; a map may have additional keys."""
    if isinstance(actual, dict) and isinstance(value, dict):
        return all(key in actual and _contains(actual[key], item) for key, item in value.items())
    return same_json(actual, value)
