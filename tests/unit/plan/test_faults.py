"""Every verb under faults, in random runs: what holds, what is printed, and that it can be completed.

    at any moment               I1, I2, I4; a VM carries one address of a network at most (I3)
    a run says that it is done  it is so
    a run says that it failed   nothing was changed, or it says what was, or may have been
    the same without faults     completes it; once more changes nothing (I7)
    detach, gc, delete          leave nothing (I8)

YOSHI_FAULT_COURSES   how many fault runs (150)
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import annotations_of, dig, name_of
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.release import RELEASED_AT_ANNOTATION
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.faulty_api import ApiFaultSchedule, with_faults

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I3, pytest.mark.I4, pytest.mark.I7, pytest.mark.I8]

COURSES = int(os.environ.get("YOSHI_FAULT_COURSES", "150"))
NETWORKS = {"blue": "10.133.0.0/29", "red": "10.134.0.0/20"}
VMS = ("web-1", "web-2", "web-3", "run-1")
UNSURE = ("may or may not", "could not be rolled back", "Done before the error", "Outcome unknown")


def state(cluster: FakeCluster) -> dict[str, object]:
    """All that commands change, without versions and times: also without that of a VM's last write fence."""
    found: dict[str, object] = {}
    for obj in cluster.api.every(NETWORKWIZARD):
        found[f"network {name_of(obj)}"] = (bool(dig(obj, "status", "deleting")), bool(dig(obj, "status", "created")))
        for address, record in cluster.records(name_of(obj)).items():
            found[f"record {address}"] = (record.kind, record.holder, record.uid)
    for pool in cluster.api.every(RAW.pool):
        found[f"pool {name_of(pool)}"] = True
    for vm in cluster.api.every(VM):
        annotations = {key: text for key, text in annotations_of(vm).items() if key != RELEASED_AT_ANNOTATION}
        found[f"vm {name_of(vm)}"] = (cluster.pin(name_of(vm)), annotations, dig(vm, "spec", "runStrategy"))
    for block in cluster.api.every(RAW.block):
        found[f"block {name_of(block)}"] = block["spec"]["allocations"]
    return found


def check_moment(cluster: FakeCluster) -> None:
    """What must hold whatever is under way: a VM may have a second record then, of which it carries nothing."""
    found = [sentence for sentence in cluster.violations() if not sentence.startswith("I3") or "carries" in sentence]
    assert not found, "\n".join(found)


@dataclass(frozen=True)
class Step:
    """One command: how it is called, and how it is run."""

    words: str
    run: Callable[[FakeCluster], RunResult]
    vms: tuple[str, ...] = ()


def draw(rng: random.Random) -> Step:
    """A command at random."""
    network = rng.choice([*NETWORKS])
    some = tuple(sorted(rng.sample(VMS, rng.choice((1, 1, 1, 3)))))
    address = NETWORKS[network].rsplit(".", 1)[0] + f".{rng.randrange(1, 6)}"
    where = f"prod/{network}"
    options = {"replace": rng.random() < 0.5, "restart": rng.random() < 0.5}
    steps = [
        Step(f"attach {some} {network} {options}", lambda w: w.attach(*some, network=where, **options), some),
        Step(
            f"attach {some[:1]} {network} {address} {options}",
            lambda w: w.attach(some[0], network=where, ip=address, **options), some[:1],
        ),
        Step(f"detach {some} {network}", lambda w: w.detach(*some, network=where, restart=options["restart"]), some),
        Step(f"reserve {network} {address}", lambda w: w.reserve(address, network=network)),
        Step(f"detach {some} --keep {network}", lambda w: w.detach(*some, network=where, keep=True), some),
        Step(
            f"reserve {network} {address} for {some[0]}",
            lambda w: w.reserve(address, network=network, reserved_for=f"vm/prod/{some[0]}"),
        ),
        Step(f"reserve {network} 2", lambda w: w.reserve(network=network, count=2)),
        Step(f"release {network} {address}", lambda w: w.release(address, network=network)),
        Step("gc", lambda w: w.collect()),
        Step(f"create {network}", lambda w: w.make_network(network, NETWORKS[network])),
        Step(f"delete {network}", lambda w: w.delete_network(network)),
        Step(f"delete {network} --force", lambda w: w.delete_network(network, force=True, restart=True)),
    ]  # fmt: skip
    return rng.choices(steps, weights=(6, 3, 4, 1, 3, 2, 1, 2, 2, 2, 1, 1))[0]


def cluster_with_vms(keeps: bool) -> FakeCluster:
    cluster = FakeCluster(keeps)
    for name, cidr in NETWORKS.items():
        cluster.network(name, cidr)
    for name in VMS:
        (cluster.running if name.startswith("run") else cluster.vm)(name)
    return cluster


def check_claims(
    step: Step, cluster: FakeCluster, before: dict[str, object], outcome: RunResult | YoshiError, changed_late: set[str]
) -> None:
    """What a command said against what is so; what earlier commands, or KubeVirt, changed meanwhile
    does not count."""
    before, after = (
        {key: value for key, value in part.items() if key not in changed_late and not key.startswith("block")}
        for part in (before, state(cluster))
    )
    if isinstance(outcome, YoshiError):
        if after != before:
            assert any(words in str(outcome) for words in UNSURE), f"it says only: {outcome}\n{changes(before, after)}"
        return
    said = " ".join([*outcome.notes, *(str(error) for error in outcome.errors.values())])
    for name in step.vms:
        owner = f"prod/{name}"
        if owner in outcome.errors:
            theirs = [line for line in changes(before, after) if f" {name}:" in line or owner in line]
            if theirs and not any(words in said for words in UNSURE):
                raise AssertionError(f"of {name} it says only: {outcome.errors[owner]}\n{theirs}")
        elif f"vm {name}" in changed_late:
            continue
        elif step.words.startswith("attach"):
            address = outcome.results[owner]
            assert cluster.pin(name) == address
            found = [record for network in NETWORKS if network in cluster.networks()
                     for text, record in cluster.records(network).items() if text == address]  # fmt: skip
            assert [record.uid for record in found] == [cluster.now(name).uid]
        elif step.words.startswith("detach"):
            network = step.words.rsplit(" ", 1)[1]
            assert not cluster.pin(name).startswith(NETWORKS[network][:7])
    if not outcome.errors and not outcome.executed:
        assert after == before, changes(before, after)


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs, a line each."""
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def described(outcome: RunResult | YoshiError) -> str:
    """What came of a command, in a few lines."""
    if isinstance(outcome, YoshiError):
        return f"{type(outcome).__name__}: {outcome}"
    refused = {owner: str(error) for owner, error in outcome.errors.items()}
    done = [change.summary for change, _ in outcome.executed]
    return f"done {done}, answers {dict(outcome.results)}, refused {refused}, notes {outcome.notes}"


def run(step: Step, cluster: FakeCluster) -> RunResult | YoshiError:
    try:
        return step.run(cluster)
    except YoshiError as error:
        return error


@pytest.mark.parametrize("part", range(10))
def test_commands_under_random_faults(part: int) -> None:
    for number in range(part, COURSES, 10):
        run_course(number)


def run_course(number: int) -> None:
    rng = random.Random(f"course {number}")
    cluster = cluster_with_vms(keeps=rng.random() < 0.5)
    schedule = ApiFaultSchedule(f"fate {number}", *rng.choice([(0.1, 0.01), (0.3, 0.02), (0.6, 0.05), (0.5, 0.0)]))
    bad = with_faults(cluster, schedule)
    log = [f"course {number}, fate {schedule.write}/{schedule.read}"]
    try:
        for _ in range(rng.randrange(2, 6)):
            step = draw(rng)
            log.append(step.words)
            cluster.time_passes()
            before = state(cluster)
            schedule.log.clear()
            schedule.begin(lambda: state(cluster))
            outcome = run(step, bad)
            log += [f"    {line}" for line in schedule.log]
            log.append(f"  -> {described(outcome)}")
            check_moment(cluster)
            check_claims(step, cluster, before, outcome, schedule.changed_late)
            if rng.random() < 0.5:
                schedule.arrive_all()
                check_moment(cluster)
        schedule.arrive_all()
        log.append("everything has arrived")
        check_moment(cluster)
        log.append(f"the last one again: {step.words}")
        again = run(step, cluster)
        log.append(f"  -> {described(again)}")
        check_moment(cluster)
        settled = state(cluster)
        once_more = run(step, cluster)
        if not step.words.startswith("reserve"):  # which may mean: any two more
            assert state(cluster) == settled, changes(settled, state(cluster))
        log.append(f"  once more -> {described(once_more)}")
        end_of_all(cluster)
    except AssertionError as error:
        raise AssertionError("\n".join([*log, str(error)])) from error


def end_of_all(cluster: FakeCluster) -> None:
    """Takes everything away by commands, and looks for what is left."""
    for name in NETWORKS:
        if name in cluster.networks():
            cluster.detach(*VMS, network=f"prod/{name}", restart=True)
    cluster.collect()
    for name in NETWORKS:
        if name in cluster.networks():
            reserved = [text for text, record in cluster.records(name).items() if record.kind == "Reservation"]
            if reserved:
                cluster.release(*reserved, network=name)
            assert cluster.records(name) == {}
            cluster.delete_network(name)
    cluster.collect()
    assert [key for key in state(cluster) if not key.startswith(("vm", "block"))] == []
    handles = [
        attributes["handle_id"] for block in cluster.api.every(RAW.block) for attributes in block["spec"]["attributes"]
    ]
    assert all(handle.endswith(VMS) for handle in handles)
    assert cluster.api.every(ADDRESSBLOCK) == []
    for name in VMS:
        vm = cluster.now(name)
        assert (cluster.pin(name), vm.annotations.keys() - {RELEASED_AT_ANNOTATION}) == ("", set()), name
