"""The session of one command run: the connection to the cluster, opened when first used, and the output streams."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

import click

from kubectl_yoshi.cli.kubectl_flags import get_kubectl_flags
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.printable import indent_continuation

if TYPE_CHECKING:
    from kubectl_yoshi.kube.client import Api

SESSION_KEY = "kubectl_yoshi.session"
DIFF_KEY = "kubectl_yoshi.diffing"
NON_CONNECTION_FLAGS = ("verbosity", "cache_dir")


class Session:
    """One command run. Results are printed to `out`, everything else to `err`.

    Args:
        flags: kubectl's common flags from the command line, see kubectl_flags.get_kubectl_flags.
        program: the program's name in messages.
        out: the stream for results (default stdout).
        err: the stream for notes, warnings and progress (default stderr).
        api: the client, for tests; by default the flags decide.

    Attributes:
        is_diff: whether `kubectl yoshi diff` runs the command, so that it only prints its differences.
        has_differences: whether there were differences under `diff`.
    """

    def __init__(
        self,
        flags: dict[str, Any] | None = None,
        *,
        program: str = "kubectl yoshi",
        out: TextIO | None = None,
        err: TextIO | None = None,
        api: Api | None = None,
    ) -> None:
        self.flags = flags or {}
        self.program = program
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.is_diff = False
        self.has_differences = False
        self._printed: set[str] = set()
        if api is not None:
            self.__dict__["api"] = api

    @classmethod
    def from_context(cls, ctx: click.Context) -> Session:
        """Return the session of this run, which all contexts share."""
        session = ctx.meta.get(SESSION_KEY)
        if session is None:
            session = ctx.meta[SESSION_KEY] = cls(get_kubectl_flags(ctx), program=ctx.find_root().command_path)
            session.is_diff = ctx.meta.get(DIFF_KEY, False)
        return session

    @property
    def verbosity(self) -> int:
        """The level of -v."""
        return int(self.flags.get("verbosity", 0))

    @cached_property
    def api(self) -> Api:
        """The client; the Kubernetes library is imported here, on first use."""
        from kubectl_yoshi.kube.client import Api
        from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
        from kubectl_yoshi.kube.request_log import enable_request_log

        enable_request_log(self.verbosity, self.err)
        flags = {name: value for name, value in self.flags.items() if name not in NON_CONNECTION_FLAGS}
        return Api(Connection.open(ConnectionOptions(**flags)), on_warning=self.warn)

    @property
    def namespace(self) -> str:
        """The namespace of -n, else that of the context, else "default"."""
        return str(self.flags.get("namespace") or self.api.connection.namespace)

    def note(self, text: str) -> None:
        """Print a line on stderr, each text only once."""
        if text not in self._printed:
            self._printed.add(text)
            print(indent_continuation(text), file=self.err)

    def note_unreadable(self, reasons: Iterable[str]) -> None:
        """Print a note on what is unreadable, if there are reasons."""
        from kubectl_yoshi.model.snapshot import unreadable_note

        for line in unreadable_note(reasons):
            self.note(f"note: {line}")

    def warn(self, text: str) -> None:
        """Print a line on stderr that begins with "Warning:", as in kubectl, each text only once."""
        self.note(f"Warning: {text}")

    def confirm(self, question: str, yes: bool) -> None:
        """Ask for confirmation before the first change.

        Raises:
            UsageError: stdin is not a terminal, and --yes is not set.
            PreconditionFailed: the answer is not yes.
        """
        from kubectl_yoshi.cli.errors import usage_error

        if yes:
            return
        if not sys.stdin.isatty():
            raise usage_error("confirmation is required and stdin is not a terminal", "Add --yes to continue.")
        try:
            confirmed = click.confirm(question, err=True)
        except click.Abort:  # Ctrl-C, or Ctrl-D
            print(file=self.err)
            confirmed = False
        if not confirmed:
            raise PreconditionFailed("not confirmed", "Nothing was changed.")
