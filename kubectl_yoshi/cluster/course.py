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

from kubectl_yoshi.cluster.carrying_out import Outcome
from kubectl_yoshi.cluster.errors import Ambiguous, ServerError
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.plan.effects import Look

UNCLEAR = Ambiguous | ServerError
"""A time-out or failure of the API server leaves open whether the write was done."""
NAMED = 3
"""How many changes an error names."""


class Fate(enum.Enum):
    """What is known of a change that was sent."""

    DONE = "done"
    NOTHING = "nothing"  # there was nothing to send, or it was so already
    FAILED = "failed"  # the server has answered, but only that it failed
    UNANSWERED = "unanswered"  # it may even be done later
    SEEN = "seen"  # it was one of the last two, and its object was seen to be so


OPEN = (Fate.FAILED, Fate.UNANSWERED)


@dataclass
class Sent:
    """A change, what the server answered, and what is known of its fate."""

    change: Change
    answer: Json | None
    fate: Fate


@dataclass
class Course:
    """The changes of a run.

    Attributes:
        sent: those that were done or may have been, in order.
        turned: subject -> how many these were when it was refused; what came later takes them back.
    """

    sent: list[Sent] = field(default_factory=list)
    turned: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """What became of a plan."""
        for change, answer in outcome.done:
            self.sent.append(Sent(change, answer, Fate.NOTHING if answer is None else Fate.DONE))
        for change, error in outcome.failed:
            if isinstance(error, UNCLEAR):
                fate = Fate.FAILED if isinstance(error, ServerError) else Fate.UNANSWERED
                self.sent.append(Sent(change, None, fate))

    def look(self, plan: Plan, facts: Facts, failed: Iterable[str]) -> tuple[Change, ...]:
        """Sees by newer facts what was done, which is given, and whose changes are taken back from here on."""
        unclear = [sent for sent in self.sent if sent.fate in OPEN]
        look = Look(facts) if unclear else None
        seen = [sent for sent in unclear if look and look.in_effect(sent.change)]
        for sent in seen:
            sent.fate = Fate.SEEN
        refused = {*plan.refusals, *failed}
        self.turned = {subject: self.turned.get(subject, len(self.sent)) for subject in refused}
        return tuple(sent.change for sent in seen)

    def of(self, *fates: Fate) -> tuple[Change, ...]:
        """The changes with such a fate."""
        return tuple(sent.change for sent in self.sent if sent.fate in fates)

    @property
    def done(self) -> tuple[tuple[Change, Json | None], ...]:
        """Everything that is so now, with what the server answered; what was seen only, once."""
        answered = [sent for sent in self.sent if sent.fate in (Fate.DONE, Fate.NOTHING)]
        known = {sent.change.says for sent in answered}
        seen = {change.says: change for change in self.of(Fate.SEEN) if change.says not in known}
        return (*((sent.change, sent.answer) for sent in answered), *((change, None) for change in seen.values()))

    def so_far(self) -> str:
        """One line on what was changed, for an error that ends the run; "" where nothing was."""
        made = {change.ref for change in self.of(Fate.DONE, Fate.SEEN) if change.verb is Verb.CREATE}
        gone = {change.ref for change in self.of(Fate.DONE, Fate.SEEN) if change.verb is Verb.DELETE}
        stands = [change for change in self.of(Fate.DONE, Fate.SEEN) if change.ref not in made & gone]
        return _sentences(stands, self.of(*OPEN))

    def explained(
        self, refusals: Mapping[str, YoshiError], facts: Facts, told: Collection[str] = ()
    ) -> dict[str, YoshiError]:
        """The refusals, each telling what was changed for its subject all the same and still stands.

        Args:
            refusals: by subject.
            facts: what was read last.
            told: subjects of which it is told otherwise what became of them. What was changed for others, every refusal
                tells: a network that could not be deleted, what was taken from its VMs.
        """
        if not refusals or not self.sent:
            return dict(refusals)
        seen = Look(facts)
        by_subject: dict[str, list[tuple[int, Sent]]] = defaultdict(list)
        for place, sent in enumerate(self.sent):
            by_subject[sent.change.subject].append((place, sent))
        explained = {}
        for_all = {"", *by_subject} - {*refusals, *told} | {""}
        for subject, error in refusals.items():
            theirs = sorted((one for key in {subject, *for_all} for one in by_subject[key]), key=lambda one: one[0])
            until = self.turned.get(subject, len(self.sent))
            explained[subject] = _explained(error, [sent for place, sent in theirs if place < until], seen)
        return explained


def _explained(error: YoshiError, course: Iterable[Sent], seen: Look) -> YoshiError:
    stands, perhaps = [], []
    for sent in course:
        effect = seen.in_effect(sent.change)
        if sent.fate in (Fate.DONE, Fate.SEEN) and effect is not False:
            stands.append(sent.change)
        elif sent.fate is Fate.UNANSWERED or (sent.fate is Fate.FAILED and effect is None):
            perhaps.append(sent.change)
    explained = copy.copy(error)
    explained.so_far = _sentences(stands, perhaps)
    return explained


def _sentences(done: Collection[Change], unclear: Collection[Change]) -> str:
    foremost = sorted(done, key=lambda change: change.verb is not Verb.CALL)  # what was stopped is never "1 more"
    made = dict.fromkeys(_words(change) for change in foremost if not change.only_tests)
    perhaps = dict.fromkeys(words for change in unclear if (words := _words(change)) not in made)
    told = [
        f"{what}: {'; '.join([*words][:NAMED])}{f'; and {len(words) - NAMED} more' if len(words) > NAMED else ''}."
        for what, words in (("Done before that", made), ("May have been done, or may be yet", perhaps))
        if words
    ]
    return " ".join(told)


def _words(change: Change) -> str:
    return change.says or f"{change.verb.value} {change.ref}"
