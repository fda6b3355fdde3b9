"""Every command on the oldest Kubernetes that is supported, whose API server runs without the other programs of
Kubernetes: what an owner would take with it stays here.

The CRDs on it: test_crds.py, test_crds_status.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

import lab
from lab.programs import OLDEST_KUBERNETES
from lab.testing import Cluster
from tests.cluster.assertions import raise_first
from tests.cluster.command_fixture import Seat, seats_beside_others, side_by_side
from tests.cluster.fault_scenarios import CASES, Case
from tests.cluster.harness import ForkServer, Yoshi, make

SEATS = range(30, 34)


@pytest.fixture(scope="module", params=[OLDEST_KUBERNETES])
def oldest(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[Cluster]:
    """The program is installed on it."""
    if request.config.getoption("cluster") != "lab":
        pytest.skip("has a lab of that version, and another cluster was chosen")
    with lab.start(kubernetes=request.param) as running:
        Yoshi(running.kubeconfig, "lab", forks).done("install")
        yield Cluster(running.kubeconfig, "lab")


@pytest.fixture(scope="module")
def places(oldest: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seat]]:
    with seats_beside_others(oldest, SEATS, tmp_path_factory.mktemp("seats")) as found:
        for seat in found:  # for pods, as the controller manager makes it
            metadata = {"name": "default", "namespace": seat.namespace}
            make(oldest, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        yield found


def test_a_network_is_made_used_and_taken_away(oldest: Cluster, places: list[Seat], forks: ForkServer) -> None:
    """As processes; of the same commands and all others in this process, the next test."""
    seat = places[0]
    seat.clear()
    yoshi = Yoshi(oldest.kubeconfig, oldest.context, forks, seat.namespace)
    said = yoshi.done("version", "--server-version")
    assert f"v{OLDEST_KUBERNETES}." in said
    yoshi.done("network", "create", "blue", "--cidr", f"{seat.prefix}.0.0/24")
    assert f"{seat.prefix}.0.9" in yoshi.done(
        "vm", "attach", "web-1", "--network", "blue", "--ip", f"{seat.prefix}.0.9"
    )
    assert "web-1" in yoshi.done("ips", "list")
    seat.check(settled=True)
    yoshi.done("vm", "detach", "web-1", "--network", "blue")
    yoshi.done("network", "delete", "blue")
    assert yoshi.run("network", "list").out == ""


@pytest.mark.timeout(900)
def test_every_command_does_there_what_it_should(places: list[Seat]) -> None:
    raise_first(side_by_side(places, [partial(run_case, name, case) for name, case in CASES.items()]))


def run_case(name: str, case: Case, seat: Seat) -> None:
    case.prepare(seat)
    ran = seat.run(case.command)
    assert ran.code == case.code, f"{name}: {ran}"
    seat.check(settled=not case.looks)
