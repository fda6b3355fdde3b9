"""What is held, listed: of one network, beside kubectl listing the same objects, and of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, paired, single

NAMESPACE = "bench-list"
RECORDS = ("get", "networkwizards,addressblocks", "-o", "json")
PEERS: tuple[Sequence[str], ...] = (("get", "networkwizards", "-o", "json"), RECORDS, ("get", "vm"))
"""What kubectl lists beside: the networks alone, with the records of a large one, the VMs."""


def measure(bench: Bench) -> Iterator[Row]:
    """Few addresses; those of a /16, each a VM's, in a namespace of their own; all of all namespaces."""
    yield few(bench)
    there = 0
    for place, count in enumerate(bench.sizes.list):
        namespace = populated(bench, place, count)
        there += count
        for theirs in PEERS:
            pairs = bench.beside(
                f"list {count:,} addresses, beside kubectl {theirs[1]}",
                bench.programs.yoshi_words("-n", namespace, "ips", "list"),
                bench.programs.kubectl_words("-n", namespace, *theirs),
            )
            times = [(mine.milliseconds, other.milliseconds) for mine, other in pairs]
            row = paired(f"ips list, {count:,} addresses", "ms", f"kubectl {' '.join(theirs)}", times)
            yield row.aims(Target(4, of_ratio=True)) if place == 0 else row
    populated(bench, len(bench.sizes.list), bench.sizes.everything - there)
    yield from everything(bench)


def few(bench: Bench) -> Row:
    """Three small networks, whose records are in their own status, and fifty VMs."""
    namespace, scene = f"{NAMESPACE}-few", bench.scene
    scene.namespace(namespace)
    for place, count in enumerate((17, 17, 16)):
        scene.attached_vms(scene.network(namespace, f"small-{place}", f"10.209.{place}.0/24"), count)
    row = bench.beside_kubectl(["-n", namespace, "ips", "list"], ["-n", namespace, "get", "networkwizards"])
    named = replace(row, what="ips list, 3 networks, 50 addresses", beside="kubectl get networkwizards")
    return named.aims(Target(5, of_ratio=True))


def populated(bench: Bench, place: int, count: int) -> str:
    """A namespace with a large network and that many VMs attached to it."""
    namespace = f"{NAMESPACE}-{place}"
    with bench.progress.task(f"make {count:,} VMs"):
        bench.scene.namespace(namespace)
        bench.scene.attached_vms(bench.scene.network(namespace, "big", f"10.{210 + place}.0.0/16"), count)
    return namespace


def everything(bench: Bench) -> Iterator[Row]:
    """`ips list -A`: wall time and peak memory."""
    words = bench.programs.yoshi_words("ips", "list", "-A")
    bench.programs.run(*words)
    used = [bench.programs.measured(*words) for _ in bench.each_run("ips list -A")]
    what = f"ips list -A, {bench.sizes.everything:,} addresses and VMs"
    yield single(what, "ms", [one.milliseconds for one in used]).aims(Target(5000))
    yield single(f"{what}, peak memory", "MiB", [one.mebibytes for one in used]).aims(Target(300))
