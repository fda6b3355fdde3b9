"""Ports that a public address answers on, as people write them: "22/tcp,443,5000-5010/udp"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_yoshi.model.errors import UsageError

PROTOCOLS = ("TCP", "UDP", "SCTP")
MAX_PORTS = 1000
"""Ports of one address; each is an entry in the Service and in its endpoints."""


@dataclass(frozen=True, order=True)
class Port:
    """A port: its number (1..65535) and its protocol as a Service has it ("TCP", "UDP", "SCTP")."""

    number: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol.lower()}"


DEFAULT_PORTS = (Port(22), Port(80), Port(443))
"""What the original yoshi opened for every VM."""


def parse_ports(texts: Iterable[str], source: str = "--port") -> tuple[Port, ...]:
    """Ports from texts with commas in them, each once, in the order in which they are written.

    Args:
        texts: NUMBER, NUMBER/PROTOCOL or FIRST-LAST/PROTOCOL; tcp where none is named.
        source: where they are from, for messages.

    Raises:
        UsageError: one is no port, or they are too many.
    """
    found: dict[Port, None] = {}
    for word in (word.strip() for text in texts for word in text.split(",")):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?", word)
        protocol = (match[3] or "tcp").upper() if match else ""
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if protocol not in PROTOCOLS or not 1 <= first <= last <= 65535:
            raise UsageError(f'{source} "{word}" is no port', "Write 22/tcp, 443 or 5000-5010/udp.")
        if last - first >= MAX_PORTS:
            raise UsageError(f'{source} "{word}" is more than {MAX_PORTS} ports', "Open fewer ports.")
        found.update(dict.fromkeys(Port(number, protocol) for number in range(first, last + 1)))
    if len(found) > MAX_PORTS:
        raise UsageError(f"{source}: {len(found)} ports are more than {MAX_PORTS}", "Open fewer ports.")
    return tuple(found)


def format_ports(ports: Iterable[Port]) -> str:
    """The shortest text that means these ports: "22/tcp,5000-5010/udp"."""
    runs: list[list[Port]] = []
    for port in sorted(ports, key=lambda port: (port.protocol, port.number)):
        if runs and runs[-1][-1] == Port(port.number - 1, port.protocol):
            runs[-1].append(port)
        else:
            runs.append([port])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0].number}-{run[-1]}" for run in runs)
