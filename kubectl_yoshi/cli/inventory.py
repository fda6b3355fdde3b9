"""Rows of several lists: networks, and allocations joined with their use in the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cli.result_objects import ADDRESS, API_VERSION
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.errors import NotFoundError
from kubectl_yoshi.model.allocations import allocations_outside_cidr, compute_counters
from kubectl_yoshi.model.errors import ExitCode, UsageError
from kubectl_yoshi.model.network import Network, get_readiness, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.inventory import InventoryRow, build_inventory
from kubectl_yoshi.plan.network_lookup import list_requested_networks


@dataclass(frozen=True)
class NetworkRow:
    """A network in a list; `used` is None where the number of allocations is unknown."""

    raw: Json
    network: Network | None
    used: int | None

    @property
    def ready(self) -> str:
        """The Ready condition; see get_readiness."""
        return get_readiness(self.raw)

    @cached_property
    def counters(self) -> Mapping[str, int]:
        """The counters as they are now (see compute_counters); {} if they are unknown."""
        if self.network is None or self.used is None:
            return {}
        return compute_counters(self.network, self.used, len(allocations_outside_cidr(self.network)))

    def count(self, counter: str) -> str:
        """Return one of the counters as printed."""
        number = self.counters.get(counter)
        return "<unknown>" if number is None else _format_count(number)

    def to_json(self) -> Json:
        """Return the network with the counters as they are now."""
        if not self.counters:
            return self.raw
        return {**self.raw, "status": {**(self.raw.get("status") or {}), **self.counters}}


def _format_count(number: int) -> str:
    return str(number) if number < 1 << 32 else f"{number:.3g}"


def parse_network_or_warn(session: Session, obj: Json) -> Network | None:
    try:
        return parse_network(obj)
    except UsageError as error:
        session.warn(error.message)
        return None


def get_named_objects(session: Session, refs: Sequence[ObjectRef], not_found: set[ObjectRef]) -> list[Json]:
    """Return the named objects; of several, each one that does not exist is reported and added to `not_found`.

    Raises:
        NotFoundError: the only named object does not exist.
    """
    found = []
    for ref in refs:
        try:
            found.append(session.api.get(ref))
        except NotFoundError as error:
            if len(refs) == 1:
                raise
            not_found.add(ref)
            session.note(f"error: {error.in_one_line}")
    return found


def exit_if_missing(not_found: set[ObjectRef]) -> None:
    """Exit with code 1 if a named object does not exist."""
    if not_found:
        click.get_current_context().exit(ExitCode.FAILURE)


def load_inventory(
    session: Session, network: str | None, all_namespaces: bool, exact: bool = False
) -> tuple[list[InventoryRow], Snapshot]:
    """Return the rows of the selected networks and their snapshot; print a note on what is unreadable."""
    ctx = PlanContext(new_snapshot(session.api, trim_objects=True), BACKENDS, RunContext())
    rows: list[InventoryRow] = []
    for one in select_networks_and_warn(session, network, all_namespaces, ctx.snapshot):
        rows += build_inventory(one, ctx, all_namespaces, exact)
    session.note_unreadable(ctx.snapshot.unreadable_reasons())
    return rows, ctx.snapshot


def select_networks(session: Session, name: str | None, all_namespaces: bool, snapshot: Snapshot) -> list[Network]:
    """Return the named network, else those of the session's namespace or of all; without those of unknown plugins."""
    networks, _ = _parse_selected(session, name, all_namespaces, snapshot)
    return [network for network in networks if network.plugin in BACKENDS]


def select_networks_and_warn(
    session: Session, name: str | None, all_namespaces: bool, snapshot: Snapshot
) -> list[Network]:
    """Return the same as `select_networks`, after a warning for each invalid network."""
    for text in _parse_selected(session, name, all_namespaces, snapshot)[1]:
        session.warn(text)
    return select_networks(session, name, all_namespaces, snapshot)


def _parse_selected(
    session: Session, name: str | None, all_namespaces: bool, snapshot: Snapshot
) -> tuple[list[Network], list[str]]:
    network_name = parse_network_name(name, session.namespace) if name else None
    networks, broken = list_requested_networks(network_name, None if all_namespaces else session.namespace, snapshot)
    return networks, list(broken)


def row_to_json(row: InventoryRow) -> Json:
    """Return a row for -o json, in the form of a Kubernetes object, although the API server has none."""
    record = row.record
    return {
        "apiVersion": API_VERSION,
        "kind": ADDRESS,
        "metadata": {"name": row.address, "namespace": row.network.namespace},
        "spec": {"network": row.network.name, "address": row.address},
        "status": {
            "state": row.state.value,
            "reason": row.reason,
            "running": row.running,
            **({"record": record.to_json()} if record else {}),
            "holder": row.holder,
            "uses": [
                {
                    "how": u.kind.value,
                    "object": str(u.ref),
                    "namespace": u.namespace,
                    "vm": u.name,
                    **({"announcedBy": u.announcer} if u.announcer else {}),
                    **({"node": u.node} if u.node else {}),
                }
                for u in row.address_uses
            ],
        },
    }
