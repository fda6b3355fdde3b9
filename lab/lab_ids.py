"""Names and ports that must differ between parallel labs, derived from one small number.

A slot is the lab's number on this machine. Its ports, its subnet, its bridge and its network namespaces follow from
it, so two labs never meet, and a person can tell from a name which lab a thing belongs to.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

FIRST_PORT = 21000  # below the kernel's ephemeral ports (32768), which outgoing connections take at random
PORTS_PER_LAB = 40
LAB_NUMBERS = range(1, 220)

# A program's place in its slot's ports. The order is for ever: a lab that is up was given its ports by it.
PORT_ORDER = (
    "kube-apiserver", "etcd", "etcd-peer", "kube-controller-manager", "kube-scheduler", "kwok", "metallb-controller",
    "virt-controller", "virt-api", "virt-api-console", "gobgpd", "metallb-speaker",
)  # fmt: skip


@dataclass(frozen=True)
class LabId:
    """A lab's number, 1 to 219, and the names that follow from it."""

    number: int

    def port(self, program: str) -> int:
        return FIRST_PORT + PORTS_PER_LAB * self.number + PORT_ORDER.index(program)

    @property
    def bridge(self) -> str:
        return f"yl{self.number}"

    @property
    def subnet(self) -> str:
        return f"172.31.{self.number}.0/24"

    @property
    def subnet6(self) -> str:
        return f"fd31:{self.number:x}::/64"

    @property
    def gateway(self) -> str:
        """The host's own address on the bridge; the API server and virt-api are reached here from the namespaces."""
        return self.address(1)

    def address(self, host: int) -> str:
        return f"172.31.{self.number}.{host}"

    def address6(self, host: int) -> str:
        return f"fd31:{self.number:x}::{host:x}"

    def namespace(self, what: str) -> str:
        """The network namespace of a node or of the router, e.g. `yl3-node-1`."""
        return f"yl{self.number}-{what}"


def is_free_port(port: int) -> bool:
    """Whether a program could listen on `port`, on every address of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def find_free_lab_id(taken: Iterable[int]) -> LabId:
    """The lowest slot that no other lab has and whose ports and bridge nobody uses."""
    others = set(taken)
    for number in LAB_NUMBERS:
        lab_id = LabId(number)
        if number in others or Path(f"/sys/class/net/{lab_id.bridge}").exists():
            continue
        if all(is_free_port(lab_id.port(program)) for program in PORT_ORDER):
            return lab_id
    raise LabError(f"no free slot: {len(others)} labs are up; end some with `python -m lab down`")


def list_taken_lab_ids(labs: Path, name: str = "*") -> list[int]:
    """The slots of the labs in folder `labs`, or of one of them."""
    return [lab_id for state_file in labs.glob(f"{name}/lab.json") if (lab_id := _read_lab_id(state_file))]


def _read_lab_id(state_file: Path) -> int:
    try:
        return int(json.loads(state_file.read_text())["slot"])
    except (OSError, ValueError, KeyError):
        return 0  # being taken down at this moment
