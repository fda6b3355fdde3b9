"""What a run has sent and what is known of it: so that whatever it says in the end is true.

A write may be answered, refused, or neither: then it may have been done, at once or later. What is so is seen when the
object is looked at once more.
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
"""A time-out or failure of the API server leaves open whether the write was done."""
NAMED = 3
"""How many changes an error names."""


class WriteOutcome(enum.Enum):
    """What is known of a change that was sent."""

    DONE = "done"
    NO_OP = "nothing"  # there was nothing to send, or it was so already
    FAILED = "failed"  # the server has answered, but only that it failed
    UNANSWERED = "unanswered"  # it may even be done later
    OBSERVED = "seen"  # it was one of the last two, and its object was seen to be so


UNRESOLVED = (WriteOutcome.FAILED, WriteOutcome.UNANSWERED)


@dataclass
class JournalEntry:
    """A change, what the server answered, and what is known of its fate."""

    change: Change
    answer: Json | None
    outcome: WriteOutcome


@dataclass
class WriteJournal:
    """The changes of a run.

    Attributes:
        sent: those that were done or may have been, in order.
        rollback_start: subject -> how many these were when it was refused; what came later takes them back.
    """

    entries: list[JournalEntry] = field(default_factory=list)
    rollback_start: dict[str, int] = field(default_factory=dict)

    def add(self, result: ApplyResult) -> None:
        """What became of a plan."""
        for change, answer in result.executed:
            self.entries.append(
                JournalEntry(change, answer, WriteOutcome.NO_OP if answer is None else WriteOutcome.DONE)
            )
        for change, error in result.failed:
            if isinstance(error, AMBIGUOUS_ERRORS):
                outcome = WriteOutcome.FAILED if isinstance(error, ServerError) else WriteOutcome.UNANSWERED
                self.entries.append(JournalEntry(change, None, outcome))

    def resolve(self, plan: Plan, snapshot: Snapshot, failed: Iterable[str]) -> tuple[Change, ...]:
        """Sees by a newer snapshot what was done, which is given, and whose changes are taken back from here on."""
        ambiguous = [sent for sent in self.entries if sent.outcome in UNRESOLVED]
        look = ObservedObjects(snapshot) if ambiguous else None
        seen = [sent for sent in ambiguous if look and look.is_in_effect(sent.change)]
        for sent in seen:
            sent.outcome = WriteOutcome.OBSERVED
        failed_owners = {*plan.errors, *failed}
        self.rollback_start = {owner: self.rollback_start.get(owner, len(self.entries)) for owner in failed_owners}
        return tuple(sent.change for sent in seen)

    def changes_with(self, *outcomes: WriteOutcome) -> tuple[Change, ...]:
        """The changes with such a fate."""
        return tuple(sent.change for sent in self.entries if sent.outcome in outcomes)

    @property
    def done(self) -> tuple[tuple[Change, Json | None], ...]:
        """Everything that is so now, with what the server answered; what was seen only, once."""
        answered = [sent for sent in self.entries if sent.outcome in (WriteOutcome.DONE, WriteOutcome.NO_OP)]
        known = {sent.change.summary for sent in answered}
        seen = {
            change.summary: change for change in self.changes_with(WriteOutcome.OBSERVED) if change.summary not in known
        }
        return (*((sent.change, sent.answer) for sent in answered), *((change, None) for change in seen.values()))

    def changes_so_far(self) -> str:
        """One line on what was changed, for an error that ends the run; "" where nothing was."""
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
        """The refusals, each telling what was changed for its subject all the same and still stands.

        Args:
            errors: by subject.
            snapshot: what was read last.
            reported: subjects of which it is told otherwise what became of them. What was changed for others, every
                refusal
                tells: a network that could not be deleted, what was taken from its VMs.
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
    ordered = sorted(done, key=lambda change: change.verb is not Verb.CALL)  # what was stopped is never "1 more"
    made = dict.fromkeys(_describe_change(change) for change in ordered if not change.is_test_only)
    uncertain = dict.fromkeys(words for change in ambiguous if (words := _describe_change(change)) not in made)
    sentences = [
        f"{label}: {'; '.join([*words][:NAMED])}{f'; and {len(words) - NAMED} more' if len(words) > NAMED else ''}."
        for label, words in (("Done before that", made), ("May have been done, or may be yet", uncertain))
        if words
    ]
    return " ".join(sentences)


def _describe_change(change: Change) -> str:
    return change.summary or f"{change.verb.value} {change.ref}"


class ObservedObjects:
    """What was read, by object, to tell whether changes are in effect whose response never came."""

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
        """Whether the object is as a change makes it (by this change or another); None where that cannot be told."""
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
    """Whether an operation of a JSON Patch has nothing left to change; None where that cannot be told, as of what is
    removed from a list: by its place, and another may be there now."""
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
    if op["path"].startswith("/spec"):  # as it may be shown; elsewhere, an empty map of records is not the same as none
        return matches(op["value"], actual, name=last)
    return _contains(actual, op["value"])


def _contains(actual: Any, value: Any) -> bool:
    """Whether a value is there; of a map, all that was written, whatever else has come into it."""
    if isinstance(actual, dict) and isinstance(value, dict):
        return all(key in actual and _contains(actual[key], item) for key, item in value.items())
    return same_json(actual, value)
