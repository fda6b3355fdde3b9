"""`kubectl-yoshi __complete WORD…`: what the shells' scripts ask for, answered as kubectl does it, in Cobra's format.

One word a line, after a TAB what it is, and last ":N", what the shell is to do with them (Directive); see
https://github.com/spf13/cobra/blob/main/site/content/completions/_index.md. The last WORD is the one being typed, and
may be "". kubectl runs `kubectl_complete-yoshi WORD…` for the same. click finds the words (click.shell_completion): it
asks the `shell_complete` method of the group, the command or the parameter's type whose turn it is.

Whatever goes wrong, nothing is offered and nothing said: somebody is typing.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import click
from click.shell_completion import CompletionItem, ShellComplete

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.kubectl_flags import get_kubectl_flags
from kubectl_yoshi.cli.param_types import NameKind, NameLookup
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.printable import to_single_line

LIMIT_SECONDS = 1.0
TIME_LIMIT_VARIABLE = "KUBECTL_YOSHI_COMPLETION_SECONDS"
"""How long the cluster may take, for who has a slow one and patience."""


class Directive(enum.IntFlag):
    """What the shell is to do with the words, as Cobra has it (ShellCompDirective)."""

    DEFAULT = 0  # files, where there are no words
    NO_SPACE = 2
    NO_FILES = 4
    ONLY_FOLDERS = 16
    KEEP_ORDER = 32


def complete(words: Sequence[str]) -> None:
    """Print what may stand in the place of the last word; end the process where the cluster takes too long."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - also for credential plugins, until the process ends
    look_up = TimedNameLookup(get_time_limit(os.environ))
    sys.stdout.write(format_reply(find_completions(words, look_up)))
    sys.stdout.flush()
    if look_up.is_running:
        os._exit(0)  # its connections would be waited for


def find_completions(words: Sequence[str], look_up: NameLookup) -> list[CompletionItem]:
    """Return what may stand in the place of the last word; nothing where that cannot be found out.

    Args:
        words: what follows the program's name.
        look_up: finds the names that only the cluster or the kubeconfig knows.
    """
    *args, incomplete = words or [""]
    if args[-1:] == ["--dry-run"]:  # click takes the next word for its value; kubectl only what follows "="
        args[-1] = "--dry-run=client"
    with suppress(Exception):
        return ShellComplete(cli, {"obj": look_up}, "kubectl yoshi", "").get_completions(args, incomplete)
    return []


class TimedNameLookup:
    """A NameLookup that gives up after a while.

    Args:
        limit: how many seconds the cluster may take.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether the cluster took too long and is still being asked."""
        return self._thread is not None and self._thread.is_alive()

    def __call__(
        self, kind: NameKind, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names; none where they cannot be found out in time."""
        from kubectl_yoshi.cli.completion.sources import NameRequest, list_known_names
        from kubectl_yoshi.kube.slim_import import import_client_modules

        import_client_modules()  # which is not the cluster's time
        request = NameRequest(create_session(ctx, self._limit), ctx, param, incomplete)
        found: list[CompletionItem] = []

        def find() -> None:
            with suppress(Exception):
                found.extend(list_known_names(kind, request))

        self._thread = threading.Thread(target=find, daemon=True)
        self._thread.start()
        self._thread.join(self._limit)
        return [] if self.is_running else found


def get_time_limit(environment: Mapping[str, str]) -> float:
    """Return how many seconds the cluster may take."""
    try:
        return max(float(environment.get(TIME_LIMIT_VARIABLE) or LIMIT_SECONDS), 0.0)
    except ValueError:
        return LIMIT_SECONDS


def create_session(ctx: click.Context, limit: float) -> Session:
    """Return a session with the command line's own flags of kubectl."""
    flags = {name: value for name, value in get_kubectl_flags(ctx).items() if name != "verbosity"}
    return Session({**flags, "request_timeout": limit})


def format_reply(items: Iterable[CompletionItem]) -> str:
    """Return the items in Cobra's format."""
    directive = Directive.NO_FILES
    words = {}
    for item in items:
        if item.type == "file":
            directive = Directive.DEFAULT
        elif item.type == "dir":
            directive = Directive.ONLY_FOLDERS
        elif item.value.isprintable():  # else nobody would type it, and the shell would run what is after a line break
            words[item.value] = to_single_line(item.help or "")
            directive |= Directive.KEEP_ORDER if item.keep_order else Directive.DEFAULT
    if words and all(word.endswith(("=", "/")) for word in words):
        directive |= Directive.NO_SPACE  # a value follows
    lines = [f"{word}\t{description}\n" if description else f"{word}\n" for word, description in words.items()]
    return "".join([*lines, f":{int(directive)}\n"])
