"""What a word of the command line names: how a flag or an argument tells a shell which words there are."""

from __future__ import annotations

import enum
from typing import Any

import click


class NameKind(enum.Enum):
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


class NameType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Any text; `kind` tells what it names, which matters to completion alone."""

    name = "text"

    def __init__(self, kind: NameKind) -> None:
        self.kind = kind


class NetworkNameType(NameType):
    """NAME or NAMESPACE/NAME; the kind may come before it, as `-o name` and kubectl write it."""

    kind_prefixes = ("networkwizard", "networkwizards", "nw")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text without the kind."""
        prefix, _, name = str(value).partition("/")
        return name if name and prefix.lower().partition(".plumber.k8s.pf9.io")[0] in self.kind_prefixes else value


NETWORK_NAME = NetworkNameType(NameKind.NETWORK)
VM_NAME = NameType(NameKind.VM)
FREE_ADDRESS = NameType(NameKind.FREE_ADDRESS)
HELD_ADDRESS = NameType(NameKind.HELD_ADDRESS)
FILE = NameType(NameKind.FILE)
