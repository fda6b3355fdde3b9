"""The cost of attaching does not depend on the allocations: the same VMs, to networks with more and more allocations.

The networks are filled block by block, so that of 60,000 addresses of a /16 nearly every block is full; that is the
hardest case for a search of a free one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, paired, single

NAMESPACE = "bench-growth"


def measure(bench: Bench) -> Iterator[Row]:
    """Milliseconds for each VM of one command, the networks in turns; each run detaches what it attached."""
    samples: dict[int, list[float]] = defaultdict(list)
    for place, held in enumerate(bench.sizes.growth):
        filled(bench, place, held)
    count = bench.sizes.growth_vms
    for _ in bench.each_run(f"attach {count} VMs to fuller and fuller networks"):
        for place, held in enumerate(bench.sizes.growth):
            samples[held].append(attached_and_detached(bench, place) / count)
    least, *more = bench.sizes.growth
    what = f"vm attach of {count} VMs, each, {{:,}} held in a /16"
    yield single(what.format(least), "ms", samples[least])
    for held in more:
        pairs = list(zip(samples[held], samples[least], strict=True))
        yield paired(what.format(held), "ms", f"{least:,} held", pairs).aims(Target(1.2, of_ratio=True))


def filled(bench: Bench, place: int, held: int) -> None:
    """A namespace with a network of which so much is held, and VMs to attach to it."""
    namespace = f"{NAMESPACE}-{place}"
    with bench.progress.task(f"hold {held:,} addresses"):
        bench.scene.namespace(namespace)
        bench.scene.reserve(bench.scene.network(namespace, "big", f"10.{230 + place}.0.0/16"), held)
        bench.scene.vms(namespace, (f"vm-{number}" for number in range(bench.sizes.growth_vms)), group="more")


def attached_and_detached(bench: Bench, place: int) -> float:
    """Milliseconds of attaching; the detaching is not measured."""
    programs = bench.programs
    words = ("-l", "group=more", "--network", "big")
    used = programs.measured(*programs.yoshi_words("-n", f"{NAMESPACE}-{place}", "vm", "attach", *words))
    programs.by_yoshi("-n", f"{NAMESPACE}-{place}", "vm", "detach", *words)
    return used.milliseconds
