"""`kubectl-yoshi __complete WORD…`: what the shells' scripts ask for, answered as kubectl does it, in Cobra's format.

One word a line, after a TAB what it is, and last ":N", what the shell is to do with them (suggestions.Directive); see
https://github.com/spf13/cobra/blob/main/site/content/completions/_index.md. The last WORD is the one being typed, and
may be "". kubectl runs `kubectl_complete-yoshi WORD…` for the same.

Whatever goes wrong, nothing is offered and nothing said: somebody is typing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TextIO

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.command_line import CommandLine, parse_command_line
from kubectl_yoshi.cli.completion.suggestions import Suggestions, import_client, needs_cluster, suggestions_for
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.printable import to_single_line

LIMIT_SECONDS = 1.0
TIME_LIMIT_VARIABLE = "KUBECTL_YOSHI_COMPLETION_SECONDS"
"""How long the cluster may take, for who has a slow one and patience."""


def complete(words: Sequence[str]) -> None:
    """Prints what may stand in the place of the last word; ends the process where the cluster takes too long."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - also for credential plugins, until the process ends
    found: list[Suggestions] = []
    line = parse_command_line(cli, words)
    limit = get_time_limit(os.environ)
    if needs_cluster(line):
        import_client()  # which is not the cluster's time

    def find() -> None:
        with suppress(Exception):
            found.append(suggestions_for(line, create_session(line, limit, sys.stderr)))

    thread = threading.Thread(target=find, daemon=True)
    thread.start()
    thread.join(limit)
    write(found[0] if found else Suggestions(), sys.stdout)
    sys.stdout.flush()
    if thread.is_alive():
        os._exit(0)  # its connections would be waited for


def get_time_limit(environment: Mapping[str, str]) -> float:
    """How long the cluster may take."""
    try:
        return max(float(environment.get(TIME_LIMIT_VARIABLE) or LIMIT_SECONDS), 0.0)
    except ValueError:
        return LIMIT_SECONDS


def create_session(line: CommandLine, limit: float, err: TextIO) -> Session:
    """A session with the line's own flags."""
    flags = {name: value for name, value in line.flags.items() if name != "verbosity"}
    return Session({**flags, "request_timeout": f"{limit}s"}, err=err)


def write(found: Suggestions, out: TextIO) -> None:
    """In Cobra's format."""
    for word, description in found.words.items():
        if not word.isprintable():  # nobody would type it, and the shell would run what is after a line break
            continue
        description = to_single_line(description)
        out.write(f"{word}\t{description}\n" if description else f"{word}\n")
    out.write(f":{int(found.directive)}\n")
