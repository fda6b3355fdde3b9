"""A command line that is being typed: what its last word is to be.

- commands     at every level, behind aliases, after `diff`; nothing after a command that is not there
- arguments    by their place; as many as the command takes
- values       --flag value, --flag=value, -fvalue, -f=value; a flag without a value takes none
- flags        kubectl's, wherever they stand
"""

from __future__ import annotations

from typing import Any

import click
import pytest

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.command_line import CommandLine, parse_command_line
from kubectl_yoshi.cli.param_types import NameType


def typed_param(line: CommandLine) -> str:
    """What is asked for, in a word."""
    if line.typed_param is not None:
        return (
            line.typed_param.type.kind.value
            if isinstance(line.typed_param.type, NameType)
            else str(line.typed_param.name)
        )
    if line.may_be_flag and line.typed.startswith("-"):
        return "flag"
    return "command" if isinstance(line.command, click.Group) else ""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "command"),
        ([""], "command"),
        (["vm", "at"], "command"),
        (["vms", ""], "command"),
        (["foo", ""], ""),
        (["foo", "--"], "flag"),
        (["version", ""], ""),
        (["vm", "attach", ""], "vm"),
        (["vm", "attach", "web-1", ""], "vm"),
        (["vm", "attach", "--network", ""], "network"),
        (["vm", "attach", "--network", "blue", ""], "vm"),
        (["vm", "attach", "--network=bl"], "network"),
        (["vm", "attach", "--restart", ""], "vm"),
        (["vm", "attach", "--restart=false", ""], "vm"),
        (["vm", "attach", "--dry-run", ""], "vm"),
        (["vm", "attach", "--dry-run="], "dry_run"),
        (["vm", "attach", "--unknown", ""], "vm"),
        (["vm", "attach", "-"], "flag"),
        (["vm", "attach", "--", "-"], "vm"),
        (["vm", "attach", "-f", ""], "file"),
        (["vm", "attach", "-fvm"], "file"),
        (["vm", "attach", "-f=vm"], "file"),
        (["vm", "attach", "-o", ""], "output"),
        (["-n", ""], "namespace"),
        (["-n", "prod", ""], "command"),
        (["-nprod", ""], "command"),
        (["-n=prod", ""], "command"),
        (["--namespace=pr"], "namespace"),
        (["--context", ""], "context"),
        (["network", "list", "--cache-dir", ""], "folder"),
        (["ips", "reserve", ""], "network"),
        (["ips", "reserve", "blue", ""], "free address"),
        (["ips", "reserve", "blue", "10.0.0.1", ""], "free address"),
        (["ips", "who", ""], "held address"),
        (["ips", "who", "10.0.0.1", ""], ""),
        (["ips", "move", "--to", ""], "vm"),
        (["ips", "rebuild", "--network", ""], "network"),
        (["network", "create", ""], "name"),
        (["diff", ""], "command"),
        (["diff", "vm", ""], "command"),
        (["diff", "vm", "attach", "web-1", "--network", ""], "network"),
        (["-n", "prod", "diff", "-v", "6", "ips", "release", "blue", ""], "held address"),
    ],
)  # fmt: skip
def test_what_the_last_word_is_to_be(words: list[str], what: str) -> None:
    assert typed_param(parse_command_line(cli, words)) == what


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["-n", "prod", "vm", "list", ""], {"namespace": "prod"}),
        (["vm", "-n=prod", "list", ""], {"namespace": "prod"}),
        (["vm", "list", "-nprod", "--namespace=dev", ""], {"namespace": "dev"}),
        (["vm", "list", "--as-group=a", "--as", "joe", "--as-group", "b", ""],
         {"as_user": "joe", "as_groups": ("a", "b")}),
        (["--insecure-skip-tls-verify", "vm", ""], {"insecure_skip_tls_verify": True}),
        (["--insecure-skip-tls-verify=false", "vm", ""], {"insecure_skip_tls_verify": False}),
        (["vm", "list", "--", "-n", "x", ""], {}),
        (["diff", "--context", "lab", "vm", "attach", "-n", "x", ""], {"context": "lab", "namespace": "x"}),
    ],
)  # fmt: skip
def test_the_common_flags_are_read_wherever_they_stand(words: list[str], flags: dict[str, Any]) -> None:
    assert parse_command_line(cli, words).flags == flags


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ([""], ()),
        (["vms", "-n", "prod", "attach", "web-1", ""], ("vm", "attach")),
        (["diff", "vm", ""], ("vm",)),
        (["foo", "bar", ""], ("foo",)),
    ],
)
def test_the_command_is_known_by_its_own_names(words: list[str], path: tuple[str, ...]) -> None:
    assert parse_command_line(cli, words).path == path


def test_what_was_given_is_known_by_the_parameters_names() -> None:
    line = parse_command_line(
        cli, ["ips", "reserve", "blue", "10.0.0.1", "10.0.0.2", "--count", "3", "--note=a b", "10."]
    )
    assert line.values == {
        "network": ["blue"],
        "addresses": ["10.0.0.1", "10.0.0.2"],
        "count": ["3"],
        "note": ["a b"],
    }
    assert line.typed == "10."


def test_a_value_is_told_apart_from_its_flag() -> None:
    line = parse_command_line(cli, ["vm", "attach", "--network=infra/bl"])
    assert (line.typed, line.typed_param and line.typed_param.name) == ("infra/bl", "network")
