"""`kubectl yoshi network list`: networks with their numbers of used and free addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    no_headers_option,
    output_option,
    selector_option,
    sort_by_option,
    watch_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import NETWORK
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.cli.inventory import NetworkRow
    from kubectl_yoshi.model.objects import ObjectRef, Resource
    from kubectl_yoshi.output.sorting import SortBy
    from kubectl_yoshi.output.tables import Column


@dataclass(frozen=True)
class ListOptions:
    """The flags of `network list`."""

    names: tuple[str, ...]
    all_namespaces: bool
    selector: str
    sort_by: SortBy | None
    watch: bool
    no_headers: bool
    output: OutputFormat


@command("list", examples="kubectl yoshi network list -A")
@click.argument("names", nargs=-1, type=NETWORK_NAME, metavar="[NAME]…")
@all_namespaces_option
@selector_option
@sort_by_option
@watch_option
@no_headers_option
@output_option(NETWORK)
@as_options(ListOptions)
def list_networks(session: Session, options: ListOptions) -> None:
    """List the networks of a namespace, or of all namespaces."""
    from kubectl_yoshi.cli.inventory import exit_if_missing
    from kubectl_yoshi.cli.row_list import ListFlags, RowList, print_row_list
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
    from kubectl_yoshi.model.objects import dig, metadata, name_of, namespace_of
    from kubectl_yoshi.output.formats import ListFormat
    from kubectl_yoshi.output.tables import Column, age

    not_found: set[ObjectRef] = set()
    columns: list[Column[NetworkRow]] = [
        Column("NAMESPACE", lambda row: namespace_of(row.raw)),
        Column("NAME", lambda row: name_of(row.raw)),
        Column("PLUGIN", lambda row: dig(row.raw, "spec", "plugin")),
        Column("CIDR", lambda row: str(row.network.cidr or "") if row.network else dig(row.raw, "spec", "cidr")),
        Column("READY", lambda row: row.ready),
        *(_counter_column(header, counter) for header, counter in COUNTER_COLUMNS),
        Column("REASON", lambda row: dig(row.raw, "status", "reason"), wide=True),
        Column(
            "AGE",
            lambda row: age(metadata(row.raw).get("creationTimestamp")),
            sort_key=lambda row: metadata(row.raw).get("creationTimestamp"),
            volatile=True,
        ),
    ]

    def resources() -> list[Resource]:
        # Platform9 yoshi has no AddressBlocks
        return [NETWORKWIZARD, *([ADDRESSBLOCK] if ADDRESSBLOCK in session.api.served else [])]

    networks = RowList(
        "networks",
        columns if options.all_namespaces else columns[1:],
        lambda row: row.to_json(),
        key=lambda row: (namespace_of(row.raw), name_of(row.raw)),
        load=lambda: _network_rows(session, options, not_found),
        removed=lambda row: row,
        resources=resources,
    )
    list_format = ListFormat(options.output, options.no_headers, single=len(options.names) == 1)
    flags = ListFlags(options.all_namespaces, options.watch, options.sort_by, list_format)
    print_row_list(session, networks, flags, not_found)
    exit_if_missing(not_found)


COUNTER_COLUMNS = (("SIZE", "size"), ("USED", "used"), ("FREE", "free"), ("USE%", "usePercent"))


def _counter_column(header: str, counter: str) -> Column[NetworkRow]:
    from kubectl_yoshi.output.tables import Column

    return Column(header, lambda row: row.count(counter), sort_key=lambda row: row.counters.get(counter))


def _network_rows(session: Session, options: ListOptions, not_found: set[ObjectRef]) -> list[NetworkRow]:
    from kubectl_yoshi.cli.inventory import NetworkRow, get_named_objects, parse_network_or_warn
    from kubectl_yoshi.model.allocations import allocations_outside_cidr, is_large
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, parse_network_name
    from kubectl_yoshi.model.objects import dig, namespace_of

    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        refs = [
            NETWORKWIZARD.ref(*reversed(parse_network_name(name, session.namespace)))
            for name in dict.fromkeys(options.names)
        ]
        found = get_named_objects(session, refs, not_found)
    else:
        found = list(session.api.list(NETWORKWIZARD, namespace, label_selector=options.selector))
    networks = [(obj, parse_network_or_warn(session, obj)) for obj in found]
    blocks: dict[tuple[str, str], int] = {}
    block_namespaces = sorted({parsed.namespace for _, parsed in networks if parsed is not None and is_large(parsed)})
    for block_namespace in (
        [None] if block_namespaces and namespace is None else block_namespaces
    ):  # a network named as ns/name has its blocks there
        for block in session.api.list(ADDRESSBLOCK, block_namespace):
            key = (namespace_of(block), str(dig(block, "spec", "network")))
            blocks[key] = blocks.get(key, 0) + len(dig(block, "status", "allocations", default={}))
    rows = []
    for obj, parsed in networks:
        used = len(dig(obj, "status", "allocations", default={}))
        if parsed is not None and is_large(parsed):
            used = blocks.get((parsed.namespace, parsed.name), 0) + len(allocations_outside_cidr(parsed))
        rows.append(NetworkRow(obj, parsed, used))
    return rows
