"""`ips who`: everything that is known of one address, and who had it before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.addresses import row_json
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.history import Tenure
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.output.ages import age
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.tables import write_fields
from kubectl_yoshi.plan.books import SEE_NETWORKS, networks_asked, open_whole
from kubectl_yoshi.plan.cooling import cooling_down, duration
from kubectl_yoshi.plan.serving import backend_of
from kubectl_yoshi.plan.survey import Row, survey


@dataclass(frozen=True)
class _Known:
    """What is known of an address on one network.

    Attributes:
        network: which.
        row: who holds it; None where nobody does.
        history: who had it before, the latest first.
        cools_down: for how many seconds yet nobody gets it but who had it last.
    """

    network: Network
    row: Row | None
    history: tuple[Tenure, ...]
    cools_down: float = 0.0


def who_holds(session: Session, text: str, output: Output) -> None:
    """`ips who`: everything that is known of one address.

    Raises:
        Refused: no network that may be seen has it.
    """
    address = parse_address(text)
    now = datetime.now(timezone.utc)

    def ask(facts: Facts) -> list[_Known]:
        networks = networks_asked(None, None, facts, session.namespace)[0]
        networks = [n for n in networks if address in n] or [n for n in networks if n.may_hold(address)]
        return [_known(network, address, facts, now) for network in networks]

    found, facts = observe_value(ask, session.api, lean=True)
    session.tell_unseen(facts.unknowns())
    found = [one for one in found if one.row or one.history or address in one.network]
    if not found:
        raise Refused(f"{address} is in no network that you may see", f"{SEE_NETWORKS}.")
    if not output.for_people:
        print_objects([_json(one, address) for one in found], session.out, output, single=True)
        return
    for one in found:
        fields = _fields(one, now, wide=output.kind == "wide")
        if one.row is None:
            why = one.network.why_not_usable(address)
            state = f"never given out: {why}" if why else "free"
            if not why and one.cools_down:
                state = f"free, and cools down for another {duration(one.cools_down)}"
            print(f"{address} is {state} (network {one.network.full_name})", file=session.out)
        write_fields([(name, value) for name, value in fields if value], session.out)


def _known(network: Network, address: Address, facts: Facts, now: datetime) -> _Known:
    rows: tuple[Row, ...] = ()
    if network.plugin in BACKENDS:
        rows = survey(network, backend_of(network, BACKENDS), facts, now, everywhere=False)
    row = next((row for row in rows if row.number == int(address)), None)
    ledger = open_whole(network, facts)
    cools_down = cooling_down(ledger, now).get(int(address), 0.0)
    return _Known(network, row, ledger.history_of(int(address)), cools_down)


def _fields(one: _Known, now: datetime, wide: bool) -> list[tuple[str, object]]:
    before = [_sentence(tenure, now, wide) for tenure in one.history]
    if one.row is None:
        return [("Before", before)]
    row, record = one.row, one.row.record
    fields: list[tuple[str, object]] = [
        ("Address", row.address),
        ("Network", row.network.full_name),
        ("State", row.state.value),
        ("Holder", row.holder),
    ]
    if record is not None:
        fields += [("UID", record.uid), ("MAC", record.mac), ("Since", record.since), ("Note", record.note)]
    return [*fields, ("Seen", [f"{use.how.value}: {use.ref}" for use in row.uses]), ("Before", before)]


def _sentence(tenure: Tenure, now: datetime, wide: bool) -> str:
    uid = f" (uid {tenure.uid})" if wide and tenure.uid else ""
    since = f" from {tenure.since}" if tenure.since else ""
    return f"{tenure.holder}{uid}{since} until {tenure.until} ({age(tenure.until, now)} ago)"


def _json(one: _Known, address: Address) -> Json:
    """As `ips list` shows it; "free" or "never given out" where nobody holds it."""
    if one.row is not None:
        obj = row_json(one.row)
    else:
        state = "never given out" if one.network.why_not_usable(address) else "free"
        obj = {
            "apiVersion": "plumber.k8s.pf9.io/v1",
            "kind": "Address",
            "metadata": {"name": str(address), "namespace": one.network.namespace},
            "spec": {"network": one.network.name, "address": str(address)},
            "status": {"state": state, "running": False, "uses": []},
        }
    if one.cools_down:
        obj["status"]["coolsDownSeconds"] = round(one.cools_down)
    obj["status"]["history"] = [{"kind": tenure.kind, **tenure.to_json()} for tenure in one.history]
    return obj
