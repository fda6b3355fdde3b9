"""The start of the program: help, version and completion."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target

NAMESPACE = "bench-words"
SOON = Target(150)


def measure(bench: Bench) -> Iterator[Row]:
    """Each beside kubectl's own; names are asked of the API server."""
    yield from bench.beside_kubectl(["--help"], ["--help"], SOON)
    yield from bench.beside_kubectl(["version"], ["version", "--client"], SOON)
    yield from bench.beside_kubectl(["__complete", ""], ["__complete", ""])
    bench.scene.namespace(NAMESPACE)
    for place in range(3):
        bench.scene.network(NAMESPACE, f"words-{place}", f"10.208.{place}.0/24")
    ours = ["__complete", "-n", NAMESPACE, "network", "describe", "wo"]
    yield from bench.beside_kubectl(ours, ["__complete", "-n", NAMESPACE, "describe", "networkwizards", "wo"])
