"""Decorators for commands: the command itself, its shared flags, and its flags as a frozen dataclass.

An example::

    @dataclass(frozen=True)
    class ListOptions:
        output: OutputFormat
        no_headers: bool
        all_namespaces: bool

    @command("list", examples="kubectl yoshi network list -A")
    @output_option("NetworkWizard")
    @no_headers_option
    @all_namespaces_option
    @as_options(ListOptions)
    def list_networks(session: Session, options: ListOptions) -> None:
        \"\"\"List the networks of a namespace, or of all namespaces.\"\"\"
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from kubectl_yoshi.cli.group import YoshiCommand
from kubectl_yoshi.cli.help_format import option_group
from kubectl_yoshi.cli.kubectl_flags import OptionalValue, Seconds
from kubectl_yoshi.cli.param_types import FILE
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.output.format_option import FORMATS, FORMATS_WITH_VALUE, OutputFormat, parse_output

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kubectl_yoshi.output.sorting import SortBy

__all__ = [
    "all_namespaces_option",
    "as_options",
    "command",
    "dry_run_option",
    "filename_option",
    "no_headers_option",
    "output_option",
    "selector_option",
    "sort_by_option",
    "timeout_option",
    "wait_option",
    "watch_option",
    "yes_option",
]

Function = TypeVar("Function", bound=Callable[..., Any])
OptionsClass = TypeVar("OptionsClass")


class Decorator(Protocol):
    """A decorator that adds a flag to a function."""

    def __call__(self, function: Function, /) -> Function: ...


DRY_RUNS = ("none", "client", "server")


def command(name: str, *, examples: str = "", **settings: Any) -> Callable[[Callable[..., Any]], YoshiCommand]:
    """Return a decorator that makes a function a command; its docstring is the command's help."""
    return click.command(name, cls=YoshiCommand, examples=examples, **settings)


def as_options(options: type[OptionsClass]) -> Callable[[Callable[[Session, OptionsClass], Any]], Callable[..., Any]]:
    """Return the innermost decorator, which calls the function with the session and the flags as a frozen dataclass.

    The dataclass's __post_init__ validates flags that depend on each other, and raises UsageError.
    """

    def decorate(run: Callable[[Session, OptionsClass], Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def with_flags(**flags: Any) -> Any:
            session = Session.from_context(click.get_current_context())
            return run(session, options(**flags))

        return with_flags

    return decorate


class OutputType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The type of -o, which is validated before any request is sent.

    Args:
        kinds: the kinds of the objects that the command prints, for its documentation.
        other_formats: the formats that only this command has.
    """

    name = "format"

    def __init__(self, kinds: tuple[str, ...], other_formats: tuple[str, ...] = ()) -> None:
        self.kinds = kinds
        self.other_formats = other_formats

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> OutputFormat:
        if isinstance(value, OutputFormat):
            return value
        try:
            return parse_output(value, self.other_formats)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        words = (*self.other_formats, *FORMAT_WORDS)
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


FORMAT_WORDS = tuple(f"{word}=" if word in FORMATS_WITH_VALUE else word for word in FORMATS)
"""The formats as the user writes them."""


def output_option(*kinds: str, other_formats: tuple[str, ...] = ()) -> Decorator:
    """Return the flag -o/--output, whose value is passed as `output`.

    Args:
        kinds: the kinds of the objects that the command prints.
        other_formats: the formats that only this command has.
    """
    return option_group("Output")(
        "-o",
        "--output",
        type=OutputType(kinds, other_formats),
        default=OutputFormat(),
        metavar="FORMAT",
        help=f"Output format: {', '.join((*other_formats, *FORMAT_WORDS))}.",
        show_default=False,
    )


no_headers_option = option_group("Output")("--no-headers", is_flag=True, help="Don't print headers.")

all_namespaces_option = click.option(
    "-A", "--all-namespaces", is_flag=True, help="Use all namespaces; --namespace is ignored then."
)

selector_option = click.option(
    "-l",
    "--selector",
    default="",
    metavar="SELECTOR",
    help="Selector (label query), as in kubectl: -l key1=value1,key2!=value2.",
)

filename_option = click.option(
    "-f",
    "--filename",
    "filenames",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help='YAML or JSON file, directory of such files, or "-" for stdin; repeatable.',
)

watch_option = option_group("Output")(
    "-w", "--watch", is_flag=True, help="After the list, watch for changes and print the rows that change."
)


class SortByType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The type of --sort-by, whose syntax is validated before any request is sent."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SortBy:
        from kubectl_yoshi.output.sorting import SortBy, parse_sort_by

        if isinstance(value, SortBy):
            return value
        try:
            return parse_sort_by(value)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error


sort_by_option = option_group("Output")(
    "--sort-by",
    type=SortByType(),
    metavar="JSONPATH|COLUMN",
    help="Sort by a field of the objects, as in kubectl, or by a column: --sort-by .metadata.name, --sort-by age.",
)

take_reservation_option = option_group("Addresses")(
    "--take-reservation",
    is_flag=True,
    help="Assign the address although it is reserved for others; requires the permission to change the network.",
)


def reserve_for_option(flag: str) -> Decorator:
    """Return the flag that names for whom addresses are reserved, whose value is passed as `reserve_for`."""
    return option_group("Addresses")(
        flag,
        "reserve_for",
        default="",
        metavar="vm/NAME|namespace/NAME",
        help="The VM (vm/NAME, vm/NAMESPACE/NAME) or namespace that may be assigned the reserved address.",
    )


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")


def wait_option(until: str) -> Callable[[Function], Function]:
    """Return the flag --wait, with the condition that its help states."""
    return click.option("--wait", is_flag=True, help=f"Wait until {until}.")


def timeout_option(default_text: str = "5m") -> Decorator:
    """Return the flag --timeout in seconds, whose default is None; the help shows `default_text` for that."""
    return click.option(
        "--timeout",
        type=Seconds(),
        default=None,
        metavar="DURATION",
        help=f"The longest time to wait, such as 30s or 2m (default {default_text}).",
    )


dry_run_option = click.option(
    "--dry-run",
    cls=OptionalValue,
    group="Output",
    bare_value="client",
    type=click.Choice(DRY_RUNS),
    default="none",
    metavar="none|client|server",
    help="client: only print the changes. server: submit them to the API server without persisting anything.",
)
