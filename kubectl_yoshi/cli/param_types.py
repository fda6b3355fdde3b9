"""Parameter types for the names on a command line, which decide what completion offers."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class NameKind(enum.Enum):
    """The kind of thing that a parameter names."""

    NETWORK = "network"
    NETWORK_ADDRESS = "network with an address"
    VM = "vm"
    NAMESPACE = "namespace"
    CONTEXT = "context"
    CLUSTER = "cluster"
    USER = "user"
    FREE_ADDRESS = "free address"
    HELD_ADDRESS = "held address"
    TRACED = "vm, held address or service"
    FILE = "file"
    FOLDER = "folder"


NameLookup = Callable[[NameKind, click.Context, click.Parameter, str], "list[CompletionItem]"]
"""Return the names of a kind that begin with a prefix, for a parameter of a command."""


class NameType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Any text; `kind` is what it names, and only completion uses it."""

    name = "text"

    def __init__(self, kind: NameKind) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names with this prefix; the shell itself completes files and directories.

        Args:
            ctx: its `obj` is the NameLookup.
            param: the flag or argument.
            incomplete: the prefix.
        """
        if self.kind in (NameKind.FILE, NameKind.FOLDER):
            from click.shell_completion import CompletionItem

            return [CompletionItem(incomplete, type="file" if self.kind is NameKind.FILE else "dir")]
        look_up: NameLookup = ctx.obj
        return look_up(self.kind, ctx, param, incomplete)


class NetworkNameType(NameType):
    """NAME or NAMESPACE/NAME, optionally after the kind, as `-o name` prints it."""

    kind_prefixes = ("networkwizard", "networkwizards", "nw")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name without the kind."""
        prefix, _, name = str(value).partition("/")
        return name if name and prefix.lower().partition(".plumber.k8s.pf9.io")[0] in self.kind_prefixes else value


class NetworkAddressType(NetworkNameType):
    """The name of a network, optionally with "=" and an address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name without the kind, and what follows it."""
        name, equals, address = str(value).partition("=")
        return f"{super().convert(name, param, ctx)}{equals}{address}"


NETWORK_NAME = NetworkNameType(NameKind.NETWORK)
NETWORK_ADDRESS = NetworkAddressType(NameKind.NETWORK_ADDRESS)
VM_NAME = NameType(NameKind.VM)
FREE_ADDRESS = NameType(NameKind.FREE_ADDRESS)
HELD_ADDRESS = NameType(NameKind.HELD_ADDRESS)
TRACED = NameType(NameKind.TRACED)
FILE = NameType(NameKind.FILE)
