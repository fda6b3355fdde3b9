"""What a word of the command line names: how a flag or an argument tells a shell which words there are."""

from __future__ import annotations

import enum

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


NETWORK = Name(Names.NETWORK)
VM = Name(Names.VM)
FREE_ADDRESS = Name(Names.FREE_ADDRESS)
HELD_ADDRESS = Name(Names.HELD_ADDRESS)
FILE = Name(Names.FILE)
