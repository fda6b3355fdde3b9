"""Read the status of a cluster, and print it as sections on one screen, or as an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from kubectl_yoshi.cli.findings import SEVERITY_COLOURS, count_text, read_facts, unchecked_text
from kubectl_yoshi.cli.result_objects import API_VERSION, STATUS
from kubectl_yoshi.diagnosis.finding import Severity
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.status import ClusterStatus, Component, NetworkStatus, compute_status
from kubectl_yoshi.output.tables import STATE_COLOURS, Painter, align_columns, cell_text, painter, width

if TYPE_CHECKING:
    from kubectl_yoshi.cli.session import Session
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.model.objects import Json

UNKNOWN = "?"
LABEL_WIDTH = 13
BAR_WIDTH = 10
FULL_PERCENT, NEARLY_FULL_PERCENT = 95, 80
POLICY_COLOURS = {"enforced": "green", "audit": "yellow", "off": "red"}

Cell = tuple[str, str]
"""A text and its colour; "" for none."""


def read_status(session: Session, scope: Scope) -> ClusterStatus:
    """Read the status of a scope, with the findings of all rules.

    Raises:
        YoshiError: the CRDs are not installed, or nothing can be read.
    """
    return compute_status(read_facts(session, scope, server_version=read_server_version(session)), RULES)


def read_server_version(session: Session) -> str:
    """Return the version of the API server; "" if it does not tell this user."""
    from kubectl_yoshi.cli.version import server_version
    from kubectl_yoshi.kube.errors import ForbiddenError

    try:
        return str(server_version(session).get("gitVersion", ""))
    except ForbiddenError:
        return ""


def status_object(status: ClusterStatus) -> Json:
    """Return the object of a status that -o json prints; what is unknown is null."""
    diagnosis = status.diagnosis
    return {
        "apiVersion": API_VERSION,
        "kind": STATUS,
        "metadata": {"name": "cluster"},
        "ready": not status.pending,
        "versions": [
            {"name": one.name, "installed": one.installed, "version": one.version or None, "detail": one.detail}
            for one in status.components
        ],
        "missingPermissions": [
            {"permission": one.permission, "commands": one.commands} for one in status.missing_permissions
        ],
        "networks": None if status.networks is None else [_network_object(network) for network in status.networks],
        "invalidNetworks": [*status.invalid_networks],
        "vms": status.vms
        and {
            "total": status.vms.total,
            "withAddress": status.vms.with_address,
            "withoutAddress": status.vms.without_address,
            "restartNeeded": status.vms.restart_needed,
        },
        "addresses": None
        if status.addresses is None
        else {state.value: count for state, count in status.addresses.items()},
        "policies": None
        if status.policies is None
        else [{"name": policy.name, "mode": policy.mode} for policy in status.policies],
        "findings": diagnosis
        and {
            **{severity.value.lower(): diagnosis.count(severity) for severity in Severity},
            "unconfirmed": status.unconfirmed,
            "unchecked": len(diagnosis.unchecked),
            "rules": diagnosis.rules,
        },
        "unreadable": [*status.unreadable],
    }


def _network_object(network: NetworkStatus) -> Json:
    return {
        "namespace": network.name[0],
        "name": network.name[1],
        "plugin": network.plugin,
        "range": network.range,
        "ready": network.ready,
        "reason": network.reason,
        "used": network.used,
        "reserved": network.reserved,
        "free": network.free,
        "usePercent": network.use_percent,
    }


def print_status(status: ClusterStatus, out: TextIO) -> None:
    """Print a status in sections."""
    paint = painter(out)
    sections = {
        "VERSIONS": _aligned(([(one.name, ""), _version_cell(one)] for one in status.components), paint),
        "PERMISSIONS": [f"{one.permission}, which `{one.commands}` needs" for one in status.missing_permissions],
        "NETWORKS": [
            *_network_lines(status, paint),
            *(paint(text, "red") for text in status.invalid_networks),
        ],
        "VMS": [_vms_line(status, paint)],
        "ADDRESSES": [_addresses_line(status, paint)],
        "POLICIES": _policy_lines(status, paint),
        "FINDINGS": [_findings_line(status, paint)],
        "UNREADABLE": [f"{paint(UNKNOWN, 'yellow')} {reason}" for reason in status.unreadable],
    }
    for label, lines in sections.items():
        for number, line in enumerate(lines):
            print(f"{label if number == 0 else '':<{LABEL_WIDTH}}{line}", file=out)


def _aligned(rows: Iterable[Sequence[Cell]], paint: Painter) -> list[str]:
    """Return lines of aligned cells."""
    table = [[(cell_text(text), name) for text, name in row] for row in rows]
    plain = [[text for text, _ in row] for row in table]
    painted = [[paint(text, name) for text, name in row] for row in table]
    return align_columns(painted, plain, [max(map(width, cells)) for cells in zip(*plain, strict=True)])


def _version_cell(component: Component) -> Cell:
    if component.installed is False:
        return "not installed", "grey"
    notes = ", ".join(filter(None, (component.detail, component.reason)))
    suffix = f" ({notes})" if notes else ""
    if not component.version and (component.reason or component.installed is None):
        return f"{UNKNOWN}{suffix}", "yellow"
    return f"{component.version or 'installed'}{suffix}", ""


def _network_lines(status: ClusterStatus, paint: Painter) -> list[str]:
    if status.networks is None:
        return [paint(UNKNOWN, "yellow")]
    if not status.networks:
        return ["none"]
    headers = ("NAME", "PLUGIN", "RANGE", "READY", "USED", "RESERVED", "FREE", "USE")
    return _aligned([[(text, "") for text in headers], *map(_network_cells, status.networks)], paint)


def _network_cells(network: NetworkStatus) -> list[Cell]:
    is_ready = network.ready == "True"
    numbers = (network.used, network.reserved)
    free = UNKNOWN if network.used is None else "" if network.free is None else f"{network.free:,}"
    return [
        ("/".join(network.name), ""),
        (network.plugin, ""),
        (network.range, ""),
        (
            network.ready if is_ready or not network.reason else f"{network.ready}: {network.reason}",
            "" if is_ready else "red",
        ),
        *((UNKNOWN, "yellow") if number is None else (f"{number:,}", "") for number in numbers),
        (free, ""),
        _bar(network.use_percent),
    ]


def _bar(percent: int | None) -> Cell:
    """Return how full a network is as a bar, empty for a network without a size."""
    if percent is None:
        return "", ""
    filled = min(-(-percent * BAR_WIDTH // 100), BAR_WIDTH)
    colour = "red" if percent >= FULL_PERCENT else "yellow" if percent >= NEARLY_FULL_PERCENT else "green"
    return f"[{'#' * filled:-<{BAR_WIDTH}}] {percent:3}%", colour


def _vms_line(status: ClusterStatus, paint: Painter) -> str:
    if status.vms is None:
        return paint(UNKNOWN, "yellow")
    vms = status.vms
    text = f"{vms.total}: {vms.with_address} with an address, {vms.without_address} without"
    restart = f"{vms.restart_needed} to be restarted"
    return f"{text}, {paint(restart, 'yellow')}" if vms.restart_needed else text


def _addresses_line(status: ClusterStatus, paint: Painter) -> str:
    if status.addresses is None:
        return paint(UNKNOWN, "yellow")
    states = sorted(status.addresses.items(), key=lambda item: item[0].value)
    return ", ".join(f"{count} {paint(s.value, STATE_COLOURS[s.value])}" for s, count in states) or "none"


def _policy_lines(status: ClusterStatus, paint: Painter) -> list[str]:
    if status.policies is None:
        return [paint(UNKNOWN, "yellow")]
    rows = [[(policy.name, ""), (policy.mode, POLICY_COLOURS[policy.mode])] for policy in status.policies]
    return _aligned(rows, paint) if rows else ["none"]


def _findings_line(status: ClusterStatus, paint: Painter) -> str:
    found = status.diagnosis
    if found is None:
        return paint(UNKNOWN, "yellow")
    parts = [
        paint(count_text(severity, count), SEVERITY_COLOURS[severity])
        for severity in Severity
        if (count := found.count(severity))
    ]
    text = ", ".join(parts) or paint("none", "green")
    if status.unconfirmed:
        text += f" ({status.unconfirmed} of them to be confirmed by a second read)"
    text += unchecked_text(found)
    return f"{text}; see `kubectl yoshi doctor`" if parts or found.unchecked else text
