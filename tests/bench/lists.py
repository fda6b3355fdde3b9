"""Lists of allocations: of one network, compared with kubectl listing the same objects, and of all networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.bench import Bench, compared
from tests.bench.measuring import Row, Target, single

NAMESPACE = "bench-list"
NETWORKS = ("get", "networkwizards", "-o", "json")
RECORDS = ("get", "networkwizards,addressblocks", "-o", "json")
VMS = ("get", "vm")
"""What kubectl lists beside: the networks alone, which have none of the records of a large one; with the records; the
VMs. Who wants to see by kubectl what `ips list` shows, who holds which address and whether that is so, needs the
records and the VMs."""


def measure(bench: Bench) -> Iterator[Row]:
    """Few addresses; those of a /16, each a VM's, in a namespace of their own; all of all namespaces."""
    yield from few(bench)
    for place, count in enumerate(bench.sizes.list):
        yield from large(bench, place, count)
    populated(bench, len(bench.sizes.list), bench.sizes.everything - sum(bench.sizes.list))
    yield from everything(bench)


def few(bench: Bench) -> Iterator[Row]:
    """Three small networks, whose records are in their own status, and fifty VMs."""
    namespace, scene = f"{NAMESPACE}-few", bench.scene
    scene.namespace(namespace)
    for place, count in enumerate((17, 17, 16)):
        scene.attached_vms(scene.network(namespace, f"small-{place}", f"10.209.{place}.0/24"), count)
    turns = bench.in_turns(
        "list 50 addresses of 3 networks",
        bench.programs.yoshi_words("-n", namespace, "ips", "list"),
        bench.programs.kubectl_words("-n", namespace, "get", "networkwizards"),
        more_often=bench.sizes.more_often,
    )
    pairs = [(mine, other) for mine, other in turns]
    yield from compared(
        "ips list, 3 networks, 50 addresses", "kubectl get networkwizards", pairs, Target(5, of_ratio=True)
    )


def large(bench: Bench, place: int, count: int) -> Iterator[Row]:
    """One network; the target is for the shortest list."""
    namespace = populated(bench, place, count)
    target = Target(4, of_ratio=True) if place == 0 else None

    def kubectl(words: Sequence[str]) -> list[str]:
        return bench.programs.kubectl_words("-n", namespace, *words)

    turns = bench.in_turns(
        f"list {count:,} addresses",
        bench.programs.yoshi_words("-n", namespace, "ips", "list"),
        *(kubectl(words) for words in (NETWORKS, RECORDS, VMS)),
        more_often=bench.sizes.more_often if place == 0 else 1,
    )
    what = f"ips list, {count:,} addresses"
    for column, words in enumerate((NETWORKS, RECORDS, VMS), 1):
        yield from compared(what, f"kubectl {' '.join(words)}", [(turn[0], turn[column]) for turn in turns], target)
    both = [(mine, records.then(vms)) for mine, _, records, vms in turns]
    yield from compared(what, "the last two, one after the other", both, target)


def populated(bench: Bench, place: int, count: int) -> str:
    """A namespace with a large network and that many VMs attached to it."""
    namespace = f"{NAMESPACE}-{place}"
    with bench.progress.task(f"make {count:,} VMs"):
        bench.scene.namespace(namespace)
        bench.scene.attached_vms(bench.scene.network(namespace, "big", f"10.{210 + place}.0.0/16"), count)
    return namespace


def everything(bench: Bench) -> Iterator[Row]:
    """`ips list -A`: wall time and peak memory, also as JSON."""
    count = bench.sizes.everything
    for words in (("ips", "list", "-A"), ("ips", "list", "-A", "-o", "json")):
        turns = bench.in_turns(" ".join(words), bench.programs.yoshi_words(*words))
        what = f"{' '.join(words)}, {count:,} addresses and VMs"
        yield single(what, "ms", [used.milliseconds for (used,) in turns]).aims(Target(5000))
        yield single(f"{what}, peak memory", "MiB", [used.mebibytes for (used,) in turns]).aims(Target(300))
