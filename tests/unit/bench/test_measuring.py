"""Medians, ratios and targets of the benchmarks, and the table that shows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.__main__ import MEASUREMENTS, take
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, counted, microseconds, paired, single
from tests.bench.programs import Failed, Programs
from tests.bench.table import Taken, report, summary, table


def test_ratio_is_the_median_of_the_pair_ratios() -> None:
    row = paired("attach", "ms", "annotate", [(100, 10), (300, 100), (200, 100)])

    assert (row.value, row.peer, row.ratio) == (200, 100, 3)
    assert row.samples == (100, 300, 200)
    assert row.peer_samples == (10, 100, 100)


def test_counted_sums_all_runs() -> None:
    row = counted("duplicates", "whereabouts", [(0, 3), (0, 0), (1, 0)])

    assert (row.value, row.peer) == (1, 3)
    assert row.aims(Target(0)).met is False


def test_ratio_to_zero_is_none() -> None:
    row = paired("duplicates", "", "whereabouts", [(0, 0), (1, 0)])

    assert row.ratio is None
    assert row.aims(Target(2, of_ratio=True)).met is False


@pytest.mark.parametrize(
    ("row", "target", "met"),
    [
        (single("a", "ms", [150]), Target(150), True),
        (single("a", "ms", [151]), Target(150), False),
        (single("a", "/s", [200]), Target(200, at_least=True), True),
        (single("a", "/s", [199]), Target(200, at_least=True), False),
        (paired("a", "ms", "b", [(700, 100)]), Target(6, of_ratio=True), False),
        (paired("a", "ms", "b", [(600, 100)]), Target(6, of_ratio=True), True),
        (paired("a", "/s", "b", [(40, 2)]), Target(20, of_ratio=True, at_least=True), True),
        (paired("a", "/s", "b", [(38, 2)]), Target(20, of_ratio=True, at_least=True), False),
        (single("a", "", [0]), Target(0), True),
        (single("a", "", [1]), Target(0), False),
    ],
)
def test_target_is_met_up_to_its_limit(row: Row, target: Target, met: bool) -> None:
    assert row.aims(target).met is met


def test_row_without_a_target_is_neither_met_nor_missed() -> None:
    assert single("a", "ms", [1]).met is None


def test_table_shows_peers_and_missed_targets() -> None:
    rows = [
        paired("attach 1,000 VMs", "VMs/s", "whereabouts", [(1234, 8)]).aims(Target(200, of_ratio=True, at_least=True)),
        single("ips list -A", "ms", [4321.5]).aims(Target(5000)),
    ]

    assert table(rows) == (
        "MEASURED           MEDIAN        BESIDE        MEDIAN    RATIO   TARGET      MET\n"
        "attach 1,000 VMs   1,234 VMs/s   whereabouts   8 VMs/s   154x    ≥ 200x      NO\n"
        "ips list -A        4,322 ms                                      ≤ 5000 ms   yes"
    )


def test_report_has_every_sample_and_the_load() -> None:
    told = report(Taken(2, [0.1, 0.2], [paired("a", "ms", "b", [(2, 1), (3, 1)])]))

    assert told["machine"]["loads"] == [0.1, 0.2]  # type: ignore[index]
    assert told["rows"][0]["samples"] == (2, 3)  # type: ignore[index]
    assert told["rows"][0]["met"] is None  # type: ignore[index]


def test_failed_measurement_is_reported_with_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    row = single("a", "ms", [1])

    def measure(bench: Bench) -> Iterator[Row]:
        yield row
        raise Failed(1, ["whereabouts"], "", "no such range")

    monkeypatch.setitem(MEASUREMENTS, "broken", measure)
    taken = Taken(5, [0.1])
    take("broken", None, taken)  # type: ignore[arg-type]

    assert taken.rows == [row]
    assert "broken failed: " in summary(taken)
    assert "no such range" in summary(taken)
    assert list(taken.seconds) == ["broken"]


def test_microseconds_returns_the_requested_samples() -> None:
    samples = microseconds(lambda: None, 3, least_seconds=0.001)

    assert len(samples) == 3
    assert all(0 < sample < 100_000 for sample in samples)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(Path(sys.executable), Path(sys.executable), tmp_path / "kubeconfig", tmp_path)


def test_peak_memory_excludes_the_parent(programs: Programs) -> None:
    mine = bytearray(200 << 20)  # as large as this process may become in a long bench

    small = programs.measured(sys.executable, "-I", "-S", "-c", "print('here')")
    large = programs.measured(sys.executable, "-I", "-S", "-c", "list(range(10)); x = b'x' * (64 << 20)")

    assert len(mine) > 1
    assert small.out == "here\n"
    assert small.mebibytes < 60
    assert large.mebibytes > small.mebibytes + 50
    assert small.cpu > 0
    assert small.milliseconds > 0


def test_failed_program_shows_its_output(programs: Programs) -> None:
    with pytest.raises(Failed, match="no such network"):
        programs.measured(sys.executable, "-I", "-S", "-c", "import sys; sys.exit('no such network')")
