"""A session of a command on a small cluster, whose user answers every question with yes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import click

from kubectl_yoshi.commands.session import Session
from tests.unit.plan.world import World


class Played(Session):
    """See the module.

    Attributes:
        asked: the questions that were answered with yes.
    """

    def __init__(self, world: World, namespace: str = "prod") -> None:
        flags = {"namespace": namespace}
        super().__init__(flags, out=io.StringIO(), err=io.StringIO(), api=world.api)  # type: ignore[arg-type]
        self.asked: list[str] = []

    def confirm(self, question: str, yes: bool) -> None:
        """As Session has it."""
        self.asked.append(question)

    @property
    def told(self) -> list[str]:
        """The lines on stdout."""
        return self.out.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]

    @property
    def said(self) -> list[str]:
        """The lines on stderr."""
        return self.err.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def ends(run: Callable[[], Any]) -> int:
    """The exit code of a command that raises no error."""
    with click.Context(click.Command("network")):
        try:
            run()
        except click.exceptions.Exit as leaving:
            return leaving.exit_code
    return 0
