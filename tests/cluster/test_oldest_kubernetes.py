"""Every command on the oldest Kubernetes that is supported.

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
from tests.cluster.command_fixture import CommandFixture, open_fixtures_with_foreign_bgp, side_by_side
from tests.cluster.fault_scenarios import SCENARIOS, Scenario
from tests.cluster.harness import ForkServer, Yoshi

FIXTURE_NUMBERS = range(30, 34)


@pytest.fixture(scope="module", params=[OLDEST_KUBERNETES])
def oldest(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[Cluster]:
    """The program is installed on it."""
    if request.config.getoption("cluster") != "lab":
        pytest.skip("has a lab of that version, and another cluster was chosen")
    with lab.start(kubernetes=request.param) as running:
        Yoshi(running.kubeconfig, "lab", forks).done("install")
        yield Cluster(running.kubeconfig, "lab")


@pytest.fixture(scope="module")
def fixtures(oldest: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CommandFixture]]:
    with open_fixtures_with_foreign_bgp(oldest, FIXTURE_NUMBERS, tmp_path_factory.mktemp("fixtures")) as found:
        yield found


def test_network_lifecycle_in_processes(oldest: Cluster, fixtures: list[CommandFixture], forks: ForkServer) -> None:
    """As processes; of the same commands and all others in this process, the next test."""
    fixture = fixtures[0]
    fixture.clear()
    yoshi = Yoshi(oldest.kubeconfig, oldest.context, forks, fixture.namespace)
    said = yoshi.done("version")
    assert f"v{OLDEST_KUBERNETES}." in said
    yoshi.done("network", "create", "blue", "--cidr", f"{fixture.prefix}.0.0/24")
    assert f"{fixture.prefix}.0.9" in yoshi.done(
        "vm", "attach", "web-1", "--network", "blue", "--ip", f"{fixture.prefix}.0.9"
    )
    assert "web-1" in yoshi.done("ips", "list")
    fixture.check(settled=True)
    yoshi.done("vm", "detach", "web-1", "--network", "blue")
    yoshi.done("network", "delete", "blue")
    assert yoshi.run("network", "list").out == ""


@pytest.mark.timeout(900)
def test_every_command_works_on_the_oldest_kubernetes(fixtures: list[CommandFixture]) -> None:
    raise_first(side_by_side(fixtures, [partial(run_case, name, scenario) for name, scenario in SCENARIOS.items()]))


def run_case(name: str, scenario: Scenario, fixture: CommandFixture) -> None:
    scenario.prepare(fixture)
    ran = fixture.run(scenario.command)
    assert ran.code == scenario.code, f"{name}: {ran}"
    fixture.check(settled=not scenario.looks)
