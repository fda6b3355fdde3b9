"""What a duration is unless it is given stands in the help, and is what the program does."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.install import ESTABLISHED_SECONDS
from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS, Seconds
from kubectl_yoshi.engine.wait import DEFAULT_WAIT_SECONDS
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.plan.gc import GcRequest

DEFAULTS = {
    "--grace": GcRequest.grace_seconds,
    "--timeout": DEFAULT_WAIT_SECONDS,
    "install --timeout": ESTABLISHED_SECONDS,
}


def durations(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Option]]:
    """Every flag that takes a duration, with its command's name."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from durations(command, f"{path}{name} ")
        elif command is not None:
            for param in command.params:
                if isinstance(param, click.Option) and isinstance(param.type, Seconds) and param not in KUBECTL_FLAGS:
                    yield f"{path}{name}", param


@pytest.mark.parametrize(("where", "option"), [*durations(cli)], ids=lambda one: getattr(one, "name", one))
def test_help_has_the_default_of_every_duration_flag(where: str, option: click.Option) -> None:
    flag = option.opts[0]
    seconds = DEFAULTS.get(f"{where} {flag}", DEFAULTS[flag])
    assert f"(default {format_duration(seconds)})" in (option.help or "")
    if option.default is not None:
        assert Seconds().convert(option.default, None, None) == seconds
