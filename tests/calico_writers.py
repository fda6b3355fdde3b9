"""Writers of an IPAMBlock like Calico's programs: read, modify, PUT with resourceVersion; on a conflict again.

Allocating makes the handle first and then writes the block; releasing writes the block first and then deletes the
handle (projectcalico/calico, libcalico-go/lib/ipam: assignIP, ReleaseIPs). None of the program's own code for that is
used here, only its HTTP client.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ConflictError, NotFoundError
from kubectl_yoshi.model.objects import ObjectRef, Resource

Json = dict[str, Any]

BLOCKS = Resource("crd.projectcalico.org", "v1", "ipamblocks", "IPAMBlock", namespaced=False)
HANDLES = Resource("crd.projectcalico.org", "v1", "ipamhandles", "IPAMHandle", namespaced=False)
VMS = "k8s-pod-network.vmi."
"""How the handles of VMs begin."""


def hold(api: Api, cidr: str, held: Mapping[str, str]) -> ObjectRef:
    """Create a block that assigns each address to a handle, and the handles; return the block."""
    network = ipaddress.ip_network(cidr)
    spec: Json = {
        "cidr": cidr, "affinity": "host:node1", "strictAffinity": False, "deleted": False,
        "allocations": [None] * network.num_addresses, "attributes": [],
        "unallocated": list(range(network.num_addresses)),
        "sequenceNumber": 1, "sequenceNumberForAllocation": {},
    }  # fmt: skip
    for address, handle in held.items():
        _allocate(spec, int(ipaddress.ip_address(address)) - int(network.network_address), {"handle_id": handle})
        _make_handle(api, handle, cidr)
    ref = BLOCKS.ref(cidr.replace(".", "-").replace("/", "-"))
    api.create(ref, _object("IPAMBlock", ref.name, spec))
    return ref


def faults(api: Api, cidr: str) -> list[str]:
    """Return what is wrong with the blocks within a CIDR and their handles, a line each."""
    within = ipaddress.ip_network(cidr)
    blocks = [one["spec"] for one in api.list(BLOCKS) if ipaddress.ip_network(one["spec"]["cidr"]).subnet_of(within)]
    found: list[str] = []
    given: dict[tuple[str, str], int] = {}
    for spec in blocks:
        used = {ordinal: index for ordinal, index in enumerate(spec["allocations"]) if index is not None}
        if sorted([*used, *spec["unallocated"]]) != list(range(len(spec["allocations"]))):
            found.append(f"{spec['cidr']}: an address is lost, or free and allocated")
        if set(used.values()) != set(range(len(spec["attributes"]))):
            found.append(f"{spec['cidr']}: attributes that no address has, or that are missing")
            continue
        for index in used.values():
            key = (spec["attributes"][index]["handle_id"], spec["cidr"])
            given[key] = given.get(key, 0) + 1
    counted = {
        (one["spec"]["handleID"], block): count
        for one in api.list(HANDLES)
        for block, count in one["spec"]["block"].items()
        if ipaddress.ip_network(block).subnet_of(within)
    }
    for handle, block in sorted({*given, *counted}):
        if (told := counted.get((handle, block), 0)) != (there := given.get((handle, block), 0)):
            found.append(f"{handle} counts {told} addresses of {block}, which has {there} of it")
    return found


@dataclass
class Writers:
    """Threads that allocate an address of a block and release it, again and again.

    Attributes:
        writes: how many PUTs of the block succeeded.
        conflicts: how many were refused since somebody had been faster.
        errors: what ended a thread.
    """

    api: Api
    block: ObjectRef
    writes: int = 0
    conflicts: int = 0
    errors: list[Exception] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def go_on(self, number: int) -> None:
        """Allocate and release until the end."""
        try:
            turn = 0
            while not self._ending.is_set():
                turn += 1
                self._turn(f"k8s-pod-network.writer-{self.block.name}-{number}-{turn}")
        except Exception as error:  # told by `writers` where it began
            self.errors.append(error)

    def _turn(self, handle: str) -> None:
        taken: list[int] = []

        def allocate(spec: Json) -> bool:
            taken[:] = spec["unallocated"][:1]
            if taken:
                _allocate(spec, taken[0], {"handle_id": handle, "secondary": {"namespace": "other", "pod": handle}})
            return bool(taken)

        def release(spec: Json) -> bool:
            (ordinal,) = taken
            index = spec["allocations"][ordinal]
            assert spec["attributes"][index]["handle_id"] == handle, f"{handle} has lost its address"
            spec["allocations"][ordinal] = None
            del spec["attributes"][index]
            spec["allocations"] = [i - 1 if i is not None and i > index else i for i in spec["allocations"]]
            spec["unallocated"].append(ordinal)
            del spec["sequenceNumberForAllocation"][str(ordinal)]
            spec["sequenceNumber"] += 1
            return True

        cidr = str(self.api.get(self.block)["spec"]["cidr"])
        _make_handle(self.api, handle, cidr)
        if self._update(allocate):
            self._update(release)
        else:
            self._ending.wait(0.01)  # the block is full
        self.api.delete(HANDLES.ref(handle))

    def _update(self, change: Callable[[Json], bool]) -> bool:
        while True:
            block = self.api.get(self.block)
            if not change(block["spec"]):
                return False
            try:
                self.api.replace(self.block, block)
            except ConflictError:
                with self._lock:
                    self.conflicts += 1
                continue
            with self._lock:
                self.writes += 1
            return True


@contextmanager
def writers(api: Api, block: ObjectRef, count: int) -> Iterator[Writers]:
    """Run this many threads on a block; at the end release what they hold."""
    at_work = Writers(api, block)
    with ThreadPoolExecutor(max(count, 1)) as pool:
        for number in range(count):
            pool.submit(at_work.go_on, number)
        try:
            yield at_work
        finally:
            at_work._ending.set()
    for error in at_work.errors:
        raise error


def forget(api: Api, block: ObjectRef) -> None:
    """Delete a block, with the handles that count addresses of it."""
    cidr = api.get(block)["spec"]["cidr"]
    api.delete(block)
    for handle in api.list(HANDLES):
        if cidr in handle["spec"]["block"]:
            try:
                api.delete(HANDLES.ref(handle["metadata"]["name"]))
            except NotFoundError:
                continue


def _allocate(spec: Json, ordinal: int, attribute: Json) -> None:
    spec["unallocated"].remove(ordinal)
    spec["attributes"].append(attribute)
    spec["allocations"][ordinal] = len(spec["attributes"]) - 1
    spec["sequenceNumberForAllocation"][str(ordinal)] = spec["sequenceNumber"]
    spec["sequenceNumber"] += 1


def _make_handle(api: Api, handle: str, cidr: str) -> None:
    api.create(
        HANDLES.ref(handle),
        _object("IPAMHandle", handle, {"handleID": handle, "block": {cidr: 1}, "deleted": False}),
    )


def _object(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
