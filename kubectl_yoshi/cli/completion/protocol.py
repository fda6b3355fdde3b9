"""`kubectl-yoshi __complete WORD…`: the reply to the shells' scripts, in Cobra's format, as in kubectl.

The reply has a word on each line, with its description after a TAB, and at the end ":N", a Directive to the shell; see
https://github.com/spf13/cobra/blob/main/site/content/completions/_index.md. The last WORD is the one being typed, and
may be "". kubectl runs `kubectl_complete-yoshi WORD…` for the same reply. click finds the words
(click.shell_completion): it calls the `shell_complete` method of the group, command or parameter type concerned.

After any error the reply has no words and no message, since the user is typing.
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
"""Environment variable: the time limit for the cluster in seconds, for users of slow clusters."""


class Directive(enum.IntFlag):
    """An instruction to the shell about the words (Cobra's ShellCompDirective)."""

    DEFAULT = 0  # complete files if there are no words
    NO_SPACE = 2
    NO_FILES = 4
    ONLY_FOLDERS = 16
    KEEP_ORDER = 32


def complete(words: Sequence[str]) -> None:
    """Print the completions of the last word; end the process if the cluster exceeds the time limit."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - also for credential plugins, until the process ends
    look_up = TimedNameLookup(get_time_limit(os.environ))
    sys.stdout.write(format_reply(find_completions(words, look_up)))
    sys.stdout.flush()
    if look_up.is_running:
        os._exit(0)  # a normal exit would wait for its connections


def find_completions(words: Sequence[str], look_up: NameLookup) -> list[CompletionItem]:
    """Return the completions of the last word; none after an error.

    Args:
        words: the arguments of the program.
        look_up: returns names from the cluster or the kubeconfig.
    """
    *args, incomplete = words or [""]
    if args[-1:] == ["--dry-run"]:  # for click the next word is its value; for kubectl only what follows "="
        args[-1] = "--dry-run=client"
    with suppress(Exception):
        return ShellComplete(cli, {"obj": look_up}, "kubectl yoshi", "").get_completions(args, incomplete)
    return []


class TimedNameLookup:
    """A NameLookup with a time limit.

    Args:
        limit: the limit for the cluster in seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether a look-up that exceeded the limit is still running."""
        return self._thread is not None and self._thread.is_alive()

    def __call__(
        self, kind: NameKind, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names; none after an error or the time limit."""
        from kubectl_yoshi.cli.completion.sources import NameRequest, list_known_names
        from kubectl_yoshi.kube.slim_import import import_client_modules

        import_client_modules()  # the import does not count towards the limit
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
    """Return the time limit for the cluster in seconds."""
    try:
        return max(float(environment.get(TIME_LIMIT_VARIABLE) or LIMIT_SECONDS), 0.0)
    except ValueError:
        return LIMIT_SECONDS


def create_session(ctx: click.Context, limit: float) -> Session:
    """Return a session with the kubectl flags of the command line."""
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
        elif item.value.isprintable():  # with a line break the shell would execute what follows it
            words[item.value] = to_single_line(item.help or "")
            directive |= Directive.KEEP_ORDER if item.keep_order else Directive.DEFAULT
    if words and all(word.endswith(("=", "/")) for word in words):
        directive |= Directive.NO_SPACE  # a value follows
    lines = [f"{word}\t{description}\n" if description else f"{word}\n" for word, description in words.items()]
    return "".join([*lines, f":{int(directive)}\n"])
