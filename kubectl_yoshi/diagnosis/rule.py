"""Rules, their findings, and the result of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import Observation, Severity
from kubectl_yoshi.model.objects import ObjectRef

CODE_PREFIX = "YOSHI-"

Check = Callable[[Facts], Iterator[Observation]]
"""Yields what is wrong. Raises CannotCheckError, also after some observations, if it cannot check the rest."""


@dataclass(frozen=True)
class Rule:
    """A check with a code that never changes its meaning.

    Attributes:
        number: four digits; the first is the family.
        severity: the severity of all of its findings.
        title: what is wrong, as a phrase.
        check: the function; its docstring explains the cause and the remedy, for the documentation.
        is_volatile: it depends on facts that change for a moment, such as the interfaces in a VMI's status while the
            guest agent reconnects: a finding is reported only if a second read confirms it.
    """

    number: str
    severity: Severity
    title: str
    check: Check
    is_volatile: bool = False

    @property
    def code(self) -> str:
        """Return the code as printed, such as "YOSHI-1101"."""
        return CODE_PREFIX + self.number

    @property
    def documentation(self) -> str:
        """Return the path of its page in the documentation."""
        return f"docs/rules/{self.code}.md"

    @property
    def explanation(self) -> str:
        """Return the docstring of the check, in Markdown."""
        return inspect.cleandoc(self.check.__doc__ or "")


def rule(number: str, severity: Severity, title: str, *, is_volatile: bool = False) -> Callable[[Check], Rule]:
    """Return a decorator that makes a check a Rule."""
    return lambda check: Rule(number, severity, title, check, is_volatile)


@dataclass(frozen=True)
class Finding:
    """An observation of a rule."""

    rule: Rule
    observation: Observation

    @property
    def identity(self) -> tuple[str, ObjectRef, str]:
        """Return what makes it the same finding in a second read: the rule, the object and the address."""
        return self.rule.number, self.observation.ref, self.observation.address


@dataclass(frozen=True)
class Unchecked:
    """A rule that could not check everything, and why."""

    rule: Rule
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """The result of rules.

    Attributes:
        findings: the most serious first.
        unchecked: what could not be checked.
        rules: the number of rules that ran.
    """

    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    rules: int

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(1 for finding in self.findings if finding.rule.severity is severity)
