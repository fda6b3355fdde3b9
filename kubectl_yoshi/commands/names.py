"""What a word of the command line names: how a flag or an argument tells a shell which words there are."""

from __future__ import annotations

import enum
from typing import Any

import click


class Names(enum.Enum):
    """What a word may be the name of."""

    NETWORK = "network"
    VM = "vm"
    NAMESPACE = "namespace"
    CONTEXT = "context"
    CLUSTER = "cluster"
    USER = "user"
    FREE_ADDRESS = "free address"
    HELD_ADDRESS = "held address"
    FILE = "file"
    FOLDER = "folder"
    COMMAND = "command"  # this word and all that follow are a command line of their own


class Name(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Any text; `of` tells what it names, which matters to completion alone."""

    name = "text"

    def __init__(self, of: Names) -> None:
        self.of = of


class NetworkName(Name):
    """NAME or NAMESPACE/NAME; the kind may come before it, as `-o name` and kubectl write it."""

    kinds = ("networkwizard", "networkwizards", "nw")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text without the kind."""
        kind, _, name = str(value).partition("/")
        return name if name and kind.lower().partition(".plumber.k8s.pf9.io")[0] in self.kinds else value


NETWORK = NetworkName(Names.NETWORK)
VM = Name(Names.VM)
FREE_ADDRESS = Name(Names.FREE_ADDRESS)
HELD_ADDRESS = Name(Names.HELD_ADDRESS)
FILE = Name(Names.FILE)
