"""`network describe`: one network, the objects that hold its records, and who holds what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.listing import NetworkRow
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.budget import LARGEST, size_of
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import Ledger, is_large
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import Json, dig, name_of
from kubectl_yoshi.model.printable import on_one_line
from kubectl_yoshi.output.ages import age
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.tables import NONE, write_fields
from kubectl_yoshi.plan.books import open_network, open_whole
from kubectl_yoshi.plan.serving import backend_of
from kubectl_yoshi.plan.survey import Row, survey

MOST_ADDRESSES = 50
MOST_OBJECTS = 10
"""How many are shown; the rest is counted."""


def describe_network(session: Session, text: str, output: Output) -> None:
    """`network describe`"""
    namespace, name = parse_network_name(text, session.namespace)
    if not output.for_people:
        print_objects([session.api.get(NETWORKWIZARD.ref(name, namespace))], session.out, output, single=True)
        return
    now = datetime.now(timezone.utc)

    def ask(facts: Facts) -> tuple[Network, tuple[tuple[str, str], ...], tuple[Row, ...]]:
        one = open_network(namespace, name, facts)
        backend = backend_of(one, BACKENDS)
        try:
            details = backend.describe(one, facts)
        except Refused as refused:
            details = (("Back-end", refused.message),)
        return one, details, survey(one, backend, facts, now, everywhere=False)

    (one, details, rows), facts = observe_value(ask, session.api, lean=True)
    session.tell_unseen(facts.unknowns())
    ledger = open_whole(one, facts)
    fields = [*_fields(one, ledger), *details]
    write_fields([(label, value) for label, value in fields if value], session.out)
    _write(session, "Objects:", ("OBJECT", "ADDRESSES", "SIZE", "OF 1 MiB"), _objects(one, ledger))
    _write(session, "Addresses:", ("ADDRESS", "STATE", "HOLDER", "AGE"), map(_address, rows[:MOST_ADDRESSES]))
    if len(rows) > MOST_ADDRESSES:
        rest = len(rows) - MOST_ADDRESSES
        print(f"  … and {rest} more: kubectl yoshi ips list --network {one.full_name}", file=session.out)


def _fields(one: Network, ledger: Ledger) -> list[tuple[str, object]]:
    held = len(ledger.records())
    row = NetworkRow(one.raw, one, held)
    blocks = sum(1 for shelf, obj in ledger.objects.items() if shelf.is_block and obj)
    return [
        ("Name", one.name),
        ("Namespace", one.namespace),
        ("Plugin", one.plugin),
        ("CIDR", str(one.cidr or "")),
        ("Range", _range(one)),
        ("Excluded", dig(one.raw, "spec", "exclude", default=[])),
        ("Gateway", str(one.gateway or "")),
        ("Ready", row.ready),
        ("Reason", dig(one.raw, "status", "reason", default="")),
        ("Used", str(held)),
        ("Free", row.free),
        ("Cool Down", dig(one.raw, "spec", "coolDown", default="")),
        ("Most per Namespace", one.most_per_namespace),
        ("Kept In", f"{blocks} address blocks" if is_large(one) else "its own status"),
    ]


def _range(one: Network) -> str:
    """As --range has it, with words for an end that is the network's own."""
    first, last = (dig(one.raw, "spec", key, default="") for key in ("range_start", "range_end"))
    return f"{first or 'start'}-{last or 'end'}" if first or last else ""


def _objects(one: Network, ledger: Ledger) -> Iterator[tuple[str, ...]]:
    """How full the objects are that hold the network and its records, the largest first."""
    objects = [one.raw, *(obj for shelf, obj in ledger.objects.items() if shelf.is_block and obj)]
    sized = sorted(((size_of(obj), obj) for obj in objects), key=lambda pair: -pair[0])
    for size, obj in sized[:MOST_OBJECTS]:
        yield _named(obj), str(len(dig(obj, "status", "allocations", default={}))), _kib(size), _share(size)
    if rest := sized[MOST_OBJECTS:]:
        total = sum(len(dig(obj, "status", "allocations", default={})) for _, obj in rest)
        yield f"… and {len(rest)} more", str(total), f"≤ {_kib(rest[0][0])}", f"≤ {_share(rest[0][0])}"


def _named(obj: Json) -> str:
    return f"{str(obj['kind']).lower()}/{name_of(obj)}"


def _kib(size: int) -> str:
    return f"{-(-size // 1024)} KiB"


def _share(size: int) -> str:
    return f"{100 * size / LARGEST:.0f} %"


def _address(row: Row) -> tuple[str, ...]:
    since = age(row.record.since) if row.record and row.record.since else "<unknown>"
    return row.address, row.state.value, row.holder, since


def _write(session: Session, title: str, headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from tabulate import tabulate

    rows = [tuple(map(on_one_line, row)) for row in rows]
    if not rows:
        print(f"{title} {NONE}", file=session.out)
        return
    print(title, file=session.out)
    print(tabulate(rows, headers, "plain", disable_numparse=True), file=session.out)
