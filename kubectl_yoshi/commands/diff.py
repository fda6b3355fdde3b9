"""kubectl yoshi diff COMMAND…"""

from __future__ import annotations

import click

from kubectl_yoshi.commands.errors import usage_mistake
from kubectl_yoshi.commands.names import Name, Names
from kubectl_yoshi.commands.options import command
from kubectl_yoshi.commands.session import DIFFING, KEY
from kubectl_yoshi.model.errors import YoshiError

FAILED = 2
CHANGING = {
    ("network", "create"),
    ("network", "delete"),
    ("vm", "attach"),
    ("vm", "detach"),
    ("ips", "reserve"),
    ("ips", "release"),
    ("ips", "gc"),
    ("ips", "import"),
    ("ips", "move"),
    ("ips", "rebuild"),
    ("sync",),
}


@command(
    "diff",
    examples="kubectl yoshi diff vm attach web-1 --network blue",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=Name(Names.COMMAND), required=True, metavar="COMMAND…")
@click.pass_context
def diff(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show what a command would change; exit 1 if anything.

    Exit code 0: nothing, 1: differences, more than 1: an error.
    """
    root = ctx.find_root().command
    plain = tuple(word for word in words if not word.startswith("-"))
    if plain[:1] not in CHANGING and plain[:2] not in CHANGING:
        known = ", ".join(" ".join(words) for words in sorted(CHANGING))
        raise usage_mistake(f'"{" ".join(plain[:2])}" changes nothing', f"Commands that do: {known}.")
    ctx.meta[DIFFING] = True
    try:
        with root.make_context(ctx.find_root().info_name, list(words), parent=ctx) as inner:
            root.invoke(inner)
    except click.exceptions.Exit as leaving:
        if leaving.exit_code:
            raise click.exceptions.Exit(FAILED) from leaving
    except YoshiError as error:
        error.exit_code = FAILED
        raise
    session = ctx.meta.get(KEY)
    ctx.exit(1 if session is not None and session.differs else 0)
