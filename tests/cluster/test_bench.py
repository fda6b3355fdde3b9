"""The benchmarks' own code still measures what it says, on a few VMs; their figures are taken by `make bench`.

Nothing here is judged by how fast it was, so that it may run beside other tests. What each measurement leaves on the
cluster satisfies the invariants.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.progress import Progress
from lab.running import kubectl_command
from lab.testing import Cluster
from tests.bench.__main__ import MEASUREMENTS, bench_on_a_lab
from tests.bench.bench import QUICK, Bench
from tests.bench.table import Taken, report, table
from tests.cluster.checker import check


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("the benchmarks have a lab of their own, and another cluster was chosen")
    with bench_on_a_lab(Path(kubectl_command()), 1, QUICK, Progress()) as small:
        yield small


@pytest.mark.timeout(1200)  # the peer is built first where it is not in the cache
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurement_returns_rows_for_the_table_and_bench_json(bench: Bench, name: str) -> None:
    rows = list(MEASUREMENTS[name](bench))

    assert rows
    for row in rows:
        assert len(row.samples) == bench.runs, row
        assert len(row.peer_samples) == (len(row.samples) if row.beside else 0), row
        in_time = row.unit == "/s"  # a busy machine may not have done any
        assert row.value > 0 or in_time or row.target is None or row.target.limit == 0, row
    printed = table(rows).splitlines()
    assert [line.partition("   ")[0] for line in printed[1:]] == [row.what for row in rows]
    assert len(json.loads(json.dumps(report(Taken(bench.runs, [0.5, 0.7], rows))))["rows"]) == len(rows)


def test_invariants_hold_after_the_measurements(bench: Bench) -> None:
    cluster = Cluster(bench.lab.kubeconfig, "lab")
    namespaces = [
        item["metadata"]["name"] for item in json.loads(cluster.kubectl("get", "namespaces", "-o", "json"))["items"]
    ]
    seen = check(cluster, *(name for name in namespaces if name.startswith("bench-")), settled=True)
    assert len(seen.networks) > 10
    assert len(seen.blocks) > 4
