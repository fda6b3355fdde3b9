"""What a person waits for before anything is done: help and version."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target

SOON = Target(150)


def measure(bench: Bench) -> Iterator[Row]:
    """Each beside kubectl's own."""
    yield bench.beside_kubectl(["--help"], ["--help"], SOON)
    yield bench.beside_kubectl(["version"], ["version", "--client"], SOON)
