"""Parse and format the ports that a public address accepts: "22/tcp,443,5000-5010/udp"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_yoshi.model.errors import UsageError

PROTOCOLS = ("TCP", "UDP", "SCTP")
MAX_PORTS = 1000
"""Maximum number of ports of one address; each is an entry in the Service and in its endpoints."""


@dataclass(frozen=True, order=True)
class Port:
    """A port: its number (1..65535) and its protocol as in a Service ("TCP", "UDP", "SCTP")."""

    number: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol.lower()}"


DEFAULT_PORTS = (Port(22), Port(80), Port(443))
"""The ports that Platform9 yoshi opened for every VM."""


def parse_ports(texts: Iterable[str], source: str = "--port") -> tuple[Port, ...]:
    """Parse ports from comma-separated texts; each port occurs once, in the order of the texts.

    Args:
        texts: NUMBER, NUMBER/PROTOCOL or FIRST-LAST/PROTOCOL; the default protocol is tcp.
        source: where the texts are from, for messages.

    Raises:
        UsageError: one is not a port, or there are more than MAX_PORTS.
    """
    found: dict[Port, None] = {}
    for word in (word.strip() for text in texts for word in text.split(",")):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?", word)
        protocol = (match[3] or "tcp").upper() if match else ""
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if protocol not in PROTOCOLS or not 1 <= first <= last <= 65535:
            raise UsageError(f'{source} "{word}" is not a port', "Write 22/tcp, 443 or 5000-5010/udp.")
        if last - first >= MAX_PORTS:
            raise UsageError(f'{source} "{word}" is more than {MAX_PORTS} ports', "Open fewer ports.")
        found.update(dict.fromkeys(Port(number, protocol) for number in range(first, last + 1)))
    if len(found) > MAX_PORTS:
        raise UsageError(f"{source}: {len(found)} ports are more than {MAX_PORTS}", "Open fewer ports.")
    return tuple(found)


def format_ports(ports: Iterable[Port]) -> str:
    """Return the shortest text that represents these ports: "22/tcp,5000-5010/udp"."""
    runs: list[list[Port]] = []
    for port in sorted(ports, key=lambda port: (port.protocol, port.number)):
        if runs and runs[-1][-1] == Port(port.number - 1, port.protocol):
            runs[-1].append(port)
        else:
            runs.append([port])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0].number}-{run[-1]}" for run in runs)
