"""The router of the full profile: GoBGP in a network namespace, which accepts any neighbour of the lab's subnets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.errors import LabError
from lab.lab_ids import LabId
from lab.network_setup import ROUTER, ROUTER_HOST
from lab.processes import Launch

ROUTER_ASN = 64513
API = "127.0.0.1:50051"  # in a namespace of its own, so the same in every lab
FAMILIES = ("ipv4", "ipv6")


class Route(NamedTuple):
    """A route as the router has it."""

    prefix: str
    next_hop: str


def router_launch(folder: Path, lab_id: LabId, programs: Mapping[str, Path]) -> Launch:
    """Write gobgpd's configuration; returns how it is started."""
    families = [{"config": {"afi-safi-name": f"{family}-unicast"}} for family in FAMILIES]
    config = {
        "global": {"config": {"as": ROUTER_ASN, "router-id": lab_id.address(ROUTER_HOST)}},
        # No peer-as: whatever AS a neighbour says it is, it is welcome.
        "peer-groups": [{"config": {"peer-group-name": "nodes"}, "afi-safis": families}],
        "dynamic-neighbors": [
            {"config": {"prefix": prefix, "peer-group": "nodes"}} for prefix in (lab_id.subnet, lab_id.subnet6)
        ],
    }
    file = folder / "gobgpd.json"
    file.write_text(json.dumps(config, indent=2))
    command = [str(programs["gobgpd"]), f"--config-file={file}", "--config-type=json", f"--api-hosts={API}"]
    return Launch("gobgpd", command, 50051, network_namespace=lab_id.namespace(ROUTER))


def list_routes(lab_id: LabId, gobgp: Path) -> list[Route]:
    """The best routes in the router's table, IPv4 first, ordered as the router orders them."""
    found = []
    for family in FAMILIES:
        table = json.loads(_gobgp(lab_id, gobgp, "-j", "global", "rib", "-a", family) or "{}")
        for prefix, paths in table.items():
            for path in paths:
                hops = [attribute["nexthop"] for attribute in path["attrs"] if "nexthop" in attribute]
                found += [Route(prefix, hop) for hop in hops]
    return found


def route_table(lab_id: LabId, gobgp: Path) -> str:
    """The router's table as gobgp prints it."""
    tables = [(family, _gobgp(lab_id, gobgp, "global", "rib", "-a", family)) for family in FAMILIES]
    return "\n".join(f"{family}:\n{table.rstrip()}" for family, table in tables)


def _gobgp(lab_id: LabId, gobgp: Path, *args: str) -> str:
    command: Sequence[str] = ["ip", "netns", "exec", lab_id.namespace(ROUTER), str(gobgp), *args]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise LabError(f"gobgp {' '.join(args)}: {(result.stderr or result.stdout).strip()}")
    return result.stdout
