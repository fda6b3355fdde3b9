"""Check that the commands of remedies exist: ours with the program's own parser, kubectl's and virtctl's by a table."""

from __future__ import annotations

import json
import shlex

import click

from kubectl_yoshi.diagnosis.finding import Observation
from tests.documents import parse

FLAGS = {
    "kubectl": {
        "-n",
        "-o",
        "-l",
        "-A",
        "-p",
        "-f",
        "--type",
        "--subresource",
        "--field-selector",
        "--tail",
        "--show-managed-fields",
    },
    "virtctl": {"-n"},
}
WITHOUT_VALUE = {"-A", "--show-managed-fields"}
"""The flags that remedies use."""
ARGUMENTS = {
    ("kubectl", "get"): (1, 2),
    ("kubectl", "describe"): (1, 2),
    ("kubectl", "edit"): (2, 2),
    ("kubectl", "delete"): (2, 2),
    ("kubectl", "patch"): (2, 2),
    ("kubectl", "apply"): (0, 0),
    ("kubectl", "label"): (3, 9),
    ("kubectl", "annotate"): (3, 9),
    ("kubectl", "logs"): (0, 1),
    ("virtctl", "restart"): (1, 1),
    ("virtctl", "start"): (1, 1),
    ("virtctl", "stop"): (1, 1),
    ("virtctl", "migrate"): (1, 1),
}
"""Program and verb: the least and the largest number of arguments."""


def check_remedy(observation: Observation) -> None:
    """Check the remedy of an observation: commands that can be run as they are.

    Raises:
        AssertionError: there is none, or a command is not valid.
    """
    assert observation.commands, f"no remedy: {observation.message}"
    for command in observation.commands:
        check_command(command)


def check_command(command: str) -> None:
    """Check a command line.

    Raises:
        AssertionError: a shell, or the program that it names, would not take it.
    """
    assert not set(command) & set("<>…\n"), command
    words = shlex.split(command)
    if words[:2] == ["kubectl", "yoshi"]:
        try:
            parse(words[2:])
        except click.UsageError as error:
            raise AssertionError(f"{command}: {error.format_message()}") from error
        return
    program, verb, *rest = words
    assert (program, verb) in ARGUMENTS, command
    arguments = []
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            arguments.append(word)
            continue
        assert flag in FLAGS[program], command
        if flag not in WITHOUT_VALUE and not equals:
            assert rest, command
            value = rest.pop(0)
        if flag == "-p":
            json.loads(value)
    least, most = ARGUMENTS[program, verb]
    assert least <= len(arguments) <= most, command
