"""Attaching and detaching while processes are killed by SIGKILL at random moments, and VMs deleted and made anew.

What each command leaves that is cut off before a certain write: test_faults.py.

YOSHI_KILL_RUNS   how many processes (200); a quarter of that on layer 2 networks, and on those without a CIDR
YOSHI_KILL_SEED   the seed of all that is random here; printed, so that a failure can be tried again
"""

from __future__ import annotations

import ipaddress
import os
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check, violations
from tests.cluster.harness import Ran, Run, Yoshi, delete, make_vms
from tests.cluster.public_scene import World
from tests.cluster.seen import Seen, look

RUNS = int(os.environ.get("YOSHI_KILL_RUNS", "200"))
SIDE_BY_SIDE = 6
KILLED = 0.3
CHECKS = 12
NETWORKS = ("small", "large")
VMS = tuple(f"vm-{number:02}" for number in range(16))

UNDERSTOOD = (
    "is full",
    "not found",
    "already has",
    "is being deleted",
    "is not free",
    "was faster",
    "others",
    "is of network",
)
"""What a run that was not killed may have failed with: all of it is for people to read, and about what others did."""


class Chaos:
    """What is done at random, and what came of it.

    Args:
        addresses: what VMs ask for by name, on public networks without a CIDR; none where networks choose addresses.
    """

    def __init__(self, yoshi: Yoshi, cluster: Cluster, addresses: Sequence[str] = ()) -> None:
        seed = os.environ.get("YOSHI_KILL_SEED") or secrets.token_hex(4)
        print(f"\nYOSHI_KILL_SEED={seed} YOSHI_KILL_RUNS={RUNS}")
        self.yoshi = yoshi
        self.cluster = cluster
        self.rng = random.Random(seed)
        self.addresses = addresses
        self.usual = 0.5  # seconds that a run takes when nobody kills it
        self.rans: list[Ran] = []
        self.aimed_at = 3
        self.made_anew = 0

    @property
    def killed(self) -> int:
        """How many were killed before their end."""
        return sum(ran.killed for ran in self.rans)

    def when_to_kill(self) -> float | None:
        """A random moment of a usual run's life; for so many runs that KILLED of all die, as some end before it."""
        if self.rng.random() > KILLED * self.aimed_at / max(self.killed, 3):
            return None
        self.aimed_at += 1
        return self.rng.uniform(0, self.usual)

    def command(self) -> tuple[str, ...]:
        vm, network = self.rng.choice(VMS), self.rng.choice(NETWORKS)
        option = "--public-network" if self.addresses else "--network"
        if self.rng.random() < 0.4:
            return ("vm", "detach", vm, option, network)
        replace = ("--replace",) if self.rng.random() < 0.5 else ()
        if self.addresses:
            return ("vm", "attach", vm, option, network, "--public-ip", self.rng.choice(self.addresses), *replace)
        if self.rng.random() < 0.1:
            return ("vm", "attach", "-l", "app=db", option, network, "--replace")
        return ("vm", "attach", vm, option, network, *replace)

    def batch(self, size: int) -> None:
        """Some processes at once, a third of them killed, while a VM may be made anew."""
        runs = [Run(self.command(), self.when_to_kill()) for _ in range(size)]
        vm = self.rng.choice(VMS) if self.rng.random() < 0.4 else ""
        with ThreadPoolExecutor(1) as pool:
            making: Future[None] | None = pool.submit(self.make_anew, vm) if vm else None
            rans = self.yoshi.together(*runs)
            if making:
                making.result()
        lasted = sorted(ran.seconds for ran in rans if not ran.killed)
        if lasted:
            self.usual = 0.8 * self.usual + 0.2 * lasted[len(lasted) // 2]
        self.rans += rans

    def make_anew(self, name: str) -> None:
        delete(self.cluster, "virtualmachine", name, namespace=self.yoshi.namespace)
        make_vms(self.cluster, self.yoshi.namespace, name, labels={"app": "db" if int(name[-1]) < 4 else "web"})
        self.made_anew += 1


def at_a_moment(seen: Seen, namespace: str) -> list[str]:
    """What must not be even while runs are under way or cut off.

    A VM may have a second record then, of which it carries nothing: one that a killed run wrote, or the slower of two.
    """
    return [
        sentence for sentence in violations(seen, [namespace]) if not sentence.startswith("I3") or "carries" in sentence
    ]


@pytest.mark.timeout(max(1200, 2 * RUNS))
@pytest.mark.parametrize(("made_by", "runs"), [("calico", RUNS), ("ovs", RUNS // 4)], indirect=["made_by"])
def test_whatever_is_killed_the_invariants_hold(
    yoshi: Yoshi, installed: Cluster, cidr: Callable[[int], str], made_by: Callable[[], tuple[str, ...]], runs: int
) -> None:
    yoshi.done("network", "create", "small", "--cidr", cidr(28), *made_by())
    yoshi.done("network", "create", "large", "--cidr", cidr(20), *made_by())
    kill_at_random(Chaos(yoshi, installed), runs)


@pytest.mark.timeout(max(1200, 2 * RUNS))
def test_whatever_is_killed_the_invariants_hold_on_networks_without_a_cidr(
    public: World, cidr: Callable[[int], str]
) -> None:
    for network in NETWORKS:
        public.yoshi.done("network", "create", network, "--plugin", "public")
    addresses = [str(address) for address in ipaddress.ip_network(cidr(28)).hosts()]
    kill_at_random(Chaos(public.yoshi, public.cluster, addresses), RUNS // 4)


def kill_at_random(chaos: Chaos, runs: int) -> None:
    """Runs so many processes on networks small and large, and judges what there is meanwhile and at the end.

    What a network without a CIDR holds is carried by Services: one may be read after it was made, and the ledger before
    the record was, so it is judged between the batches only.
    """
    yoshi, installed, namespace = chaos.yoshi, chaos.cluster, chaos.yoshi.namespace
    for name in VMS:
        make_vms(installed, namespace, name, labels={"app": "db" if int(name[-1]) < 4 else "web"})

    batches = -(-runs // SIDE_BY_SIDE)
    looks: list[Seen] = []
    for number in range(batches):
        if number % max(batches // CHECKS, 1):
            chaos.batch(SIDE_BY_SIDE)
            continue
        with ThreadPoolExecutor(1) as pool:
            looking = None if chaos.addresses else pool.submit(look, installed, [namespace])
            chaos.batch(SIDE_BY_SIDE)
            looks.append(looking.result() if looking else look(installed, [namespace]))
            assert at_a_moment(looks[-1], namespace) == []

    failed = [ran for ran in chaos.rans if ran.code not in (0, -9)]
    assert chaos.killed > 0.1 * len(chaos.rans), "too few were killed before their end"
    for ran in failed:
        assert ran.code == 1, str(ran)
        assert any(words in ran.err for words in UNDERSTOOD), str(ran)
        assert "internal error" not in ran.err, str(ran)
        assert len(ran.err.splitlines()) <= 30, str(ran)

    before = look(installed, [namespace])
    assert at_a_moment(before, namespace) == []
    left = Counter(sentence[:2] for sentence in violations(before, [namespace], settled=True))
    yoshi.run("sync")
    yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    check(installed, namespace, settled=True)
    assert "nothing to collect" in yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    yoshi.done("ips", "check")
    print(
        f"{len(chaos.rans)} runs, {chaos.killed} killed, {len(failed)} failed and said why, "
        f"{chaos.made_anew} VMs made anew, {len(looks)} moments judged; a run took {chaos.usual:.2f} s; "
        f"before sync and gc: {dict(left)}"
    )
