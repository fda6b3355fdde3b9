"""Many halted VMs of one Calico block that change their address, alone and with other writers of the block."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, counted, paired, single
from tests.bench.programs import Failed
from tests.calico_writers import Writers, faults, forget, hold, writers

NAMESPACE = "bench-block"
OLD, NEW = "10.201.{}.0/24", "10.202.{}.0/24"
"""The networks that the VMs leave and come to, one of each for each run."""


def measure(bench: Bench) -> Iterator[Row]:
    """Seconds of the command, and what becomes of the VMs and of the others' writes meanwhile."""
    count, others = bench.sizes.block_vms, bench.sizes.block_writers
    alone: list[tuple[float, int]] = []
    beside: list[tuple[float, int]] = []
    rates: list[tuple[float, float]] = []
    for run in bench.each_run(f"{count} VMs of one Calico block change their address"):
        alone.append(changed(bench, 2 * run, 0)[0])
        took, rate = changed(bench, 2 * run + 1, others)
        beside.append(took)
        rates.append(rate)
    what = f"vm attach --replace, {count} VMs of one Calico block"
    with_them = f"the same beside {others} writers of the block"
    yield single(what, "s", [seconds for seconds, _ in alone]).aims(Target(3))
    pairs = [(mine[0], other[0]) for mine, other in zip(beside, alone, strict=True)]
    yield paired(with_them, "s", what, pairs).aims(Target(15))
    failed = [(mine[1], other[1]) for mine, other in zip(beside, alone, strict=True)]
    yield counted(f"{with_them}: failed", what, failed).aims(Target(0))
    yield paired(f"{others} writers of a Calico block meanwhile", "writes/s", "the same before", rates)


def changed(bench: Bench, number: int, others: int) -> tuple[tuple[float, int], tuple[float, float]]:
    """Seconds and how many VMs failed, and the writes per second of the others meanwhile and before.

    Raises:
        AssertionError: Calico's blocks and handles do not agree afterwards, or an address is lost.
    """
    count, programs, api = bench.sizes.block_vms, bench.programs, bench.scene.api
    namespace, old, new = f"{NAMESPACE}-{number}", OLD.format(number), NEW.format(number)
    first = old.removesuffix(".0/24")
    bench.scene.namespace(namespace)
    here = ("-n", namespace)
    programs.by_yoshi(*here, "network", "create", "old", "--cidr", old)
    programs.by_yoshi(*here, "network", "create", "new", "--cidr", new)
    bench.scene.attached_vms(bench.scene.found(namespace, "old"), count)
    held = {f"{first}.{place + 1}": f"k8s-pod-network.vmi.{namespace}.old-{place}" for place in range(count)}
    block = hold(api, f"{first}.0/26", held)
    with writers(api, block, others) as at_work:
        before = rate(at_work, bench.sizes.block_seconds if others else 0)
        start, written = time.monotonic(), at_work.writes
        names = [f"old-{place}" for place in range(count)]
        failed = 0
        try:
            programs.by_yoshi(*here, "vm", "attach", *names, "--network", "new", "--replace")
        except Failed as error:
            failed = count - str(error.stdout).count(" attached to ")
            bench.progress.print_line(str(error))
        seconds = time.monotonic() - start
        meanwhile = (at_work.writes - written) / seconds
    wrong = faults(api, old)
    assert not wrong, "\n".join(wrong)
    left = sum(handle in str(api.get(block)) for handle in held.values())
    assert left == failed, f"{failed} VMs failed, and Calico holds addresses for {left}"
    forget(api, block)
    return (seconds, failed), (meanwhile, before)


def rate(at_work: Writers, seconds: float) -> float:
    """Writes per second for a while."""
    start = at_work.writes
    time.sleep(seconds)
    return (at_work.writes - start) / seconds if seconds else 0.0
