"""What the admission policies cost: a VM gets an address of a network with more and more full AddressBlocks.

Each request is a dry run, which the API server admits as any other. Beside it is a change of the VM that no policy
evaluates. The policies must have been in effect before, so that nothing is measured in the first half minute of a lab;
nor while the API server is busy with the allocations that were just written.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

from kubectl_yoshi.model.allocations import SHARD_SIZE
from kubectl_yoshi.model.vm import VM
from tests.bench.bench import Bench
from tests.bench.measuring import Row, paired, timed
from tests.bench.scene import PINNED

NAMESPACE = "bench-admission"
SETTLED_SECONDS = 5.0
REQUESTS = 20
"""The number of requests that a sample is the median of."""


def measure(bench: Bench) -> Iterator[Row]:
    """Milliseconds of one request."""
    for place, blocks in enumerate(bench.sizes.blocks):
        namespace = f"{NAMESPACE}-{place}"
        with bench.progress.task(f"fill {blocks} blocks"):
            bench.scene.namespace(namespace)
            network = bench.scene.network(namespace, "big", f"10.{16 + 4 * place}.0.0/14")
            bench.scene.reserve(network, SHARD_SIZE * blocks)
            bench.scene.vms(namespace, ["web"])
        time.sleep(SETTLED_SECONDS)
        address = {"metadata": {"annotations": {PINNED: json.dumps([f"10.{16 + 4 * place}.0.9"])}}}
        template = [{"op": "add", "path": "/spec/template/metadata", "value": address["metadata"]}]
        label = [{"op": "add", "path": "/metadata/labels", "value": {"group": "other"}}]
        pairs = [
            (milliseconds(bench, namespace, template), milliseconds(bench, namespace, label))
            for _ in bench.each_run(f"write an address on a VM, {blocks} blocks")
        ]
        yield paired(f"address on a VM, {blocks} blocks in the network", "ms", "a label", pairs)


def milliseconds(bench: Bench, namespace: str, body: list[dict[str, Any]]) -> float:
    """Milliseconds of a patch of the VM, the median of some."""

    def send() -> None:
        bench.scene.api.patch(VM.ref("web", namespace), body, dry_run=True)

    return statistics.median(timed(send) for _ in range(REQUESTS))
