"""Commands that list rows: sort, print, and with -w print the rows that change, as `kubectl get -w` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.output.formats import ListFormat, RowPrinter
from kubectl_yoshi.output.sorting import SortBy, make_sorter
from kubectl_yoshi.output.tables import Column

Row = TypeVar("Row")


@dataclass(frozen=True)
class RowList(Generic[Row]):
    """A list.

    Attributes:
        noun: what the rows are, in the plural.
        columns: for tables.
        to_json: convert a row to a JSON object with apiVersion, kind and metadata.
        key: return what identifies a row.
        load: read the rows.
        removed: return the row that -w prints for one that is no longer in the list; None to print none.
        resources: return the resources that the rows depend on.
    """

    noun: str
    columns: Sequence[Column[Row]]
    to_json: Callable[[Row], Json]
    key: Callable[[Row], Hashable]
    load: Callable[[], list[Row]]
    removed: Callable[[Row], Row] | None
    resources: Callable[[], Sequence[Resource]]


@dataclass(frozen=True)
class ListFlags:
    """The flags that all lists have."""

    all_namespaces: bool
    watch: bool
    sort_by: SortBy | None
    list_format: ListFormat


def print_row_list(
    session: Session, row_list: RowList[Row], flags: ListFlags, not_found: Collection[object] = ()
) -> None:
    """Print a list, and with --watch its changes until Ctrl-C.

    Args:
        not_found: objects named on the command line that do not exist, which `load` has reported.
    """
    sort = make_sorter(flags.sort_by, row_list.columns, row_list.to_json)
    printer = RowPrinter(row_list.columns, row_list.to_json, session.out, flags.list_format)
    rows = sort(row_list.load())
    if not printer.print_list(rows) and not not_found and flags.list_format.output.is_human_readable:
        where = "" if flags.all_namespaces else f" in {session.namespace} namespace"
        session.note(f"No {row_list.noun} found{where}.")
    if not flags.watch:
        return
    from kubectl_yoshi.cli.watch import show_on_changes

    printed = {row_list.key(row): row for row in rows}

    def print_changed() -> None:
        current = {row_list.key(row): row for row in sort(row_list.load())}
        gone = [row for key, row in printed.items() if key not in current]
        changed = [
            row
            for key, row in current.items()
            if key not in printed or printer.shown(row) != printer.shown(printed[key])
        ]
        printer.print_changed([*(map(row_list.removed, gone) if row_list.removed else ()), *changed])
        printed.clear()
        printed.update(current)

    show_on_changes(session, flags.all_namespaces, row_list.resources(), print_changed)
