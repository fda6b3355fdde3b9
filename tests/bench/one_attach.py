"""One VM attached, compared with the smallest change of the same VM by kubectl."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.bench import Bench, compared
from tests.bench.measuring import Row, Target, paired

NAMESPACE = "bench-one"


def measure(bench: Bench) -> Iterator[Row]:
    """Wall time and peak memory; another VM each time, after one that does not count."""
    programs = bench.programs
    names = [f"vm-{number}" for number in range(bench.runs * bench.sizes.more_often + 1)]
    bench.scene.namespace(NAMESPACE)
    bench.scene.vms(NAMESPACE, names)
    here = ("-n", NAMESPACE)
    programs.by_yoshi(*here, "network", "create", "red", "--cidr", "10.200.0.0/24")

    def attach(name: str) -> list[str]:
        return programs.yoshi_words(*here, "vm", "attach", name, "--network", "red")

    def annotate(name: str) -> list[str]:
        return programs.kubectl_words(*here, "annotate", "vm", name, "example.com/bench=yes")

    programs.run(*attach(names[0]))
    programs.run(*annotate(names[0]))
    pairs = [
        (programs.measured(*attach(names[run + 1])), programs.measured(*annotate(names[run + 1])))
        for run in bench.each_run("vm attach VM", bench.sizes.more_often)
    ]
    beside = "kubectl annotate vm VM"
    yield from compared("vm attach VM --network N", beside, pairs, Target(4, of_ratio=True))
    memory = [(mine.mebibytes, other.mebibytes) for mine, other in pairs]
    yield paired("vm attach VM --network N, peak memory", "MiB", beside, memory)
