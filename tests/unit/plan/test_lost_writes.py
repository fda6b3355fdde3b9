"""Writes that the API server answers and does not store: a run stops, and names the object and the field.

| what                                           | what the run says                                        |
|------------------------------------------------|----------------------------------------------------------|
| a field is dropped from what is created        | which; the network is rolled back                        |
| the same of a network that is there (sync)     | which; its status says so; other networks are brought up |
| a controller sets a field back                 | that it is set back                                      |
| an object is deleted as often as it is created | the same                                                 |
| a race that ends                               | nothing                                                  |
| waits, deletions, calls, refused writes        | nothing                                                  |
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.ovs.spec import TEMPLATE
from kubectl_yoshi.engine import loop
from kubectl_yoshi.engine.apply import ApplyResult
from kubectl_yoshi.engine.loop import run
from kubectl_yoshi.engine.repetition import MAX_REPEATS_WITH_OTHER_WRITERS, AppliedRound
from kubectl_yoshi.engine.sync import FATAL_ERRORS, sync
from kubectl_yoshi.kube.errors import ConflictError, NotConvergedError, WriteLostError
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, name_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.sync.planner import SyncScope
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster, refusal

POOL = RAW.pool.ref("prod.blue")
DROPPED = "ippool/prod.blue: the API server does not store spec.natOutgoing"


def drops(cluster: FakeCluster, *names: str, plural: str = "ippools", of: str = "") -> None:
    """From now on the server drops these fields of a kind's spec."""

    def shows(obj: Json, there: str) -> Json:
        if there != plural or not obj["metadata"]["name"].endswith(of):
            return obj
        return {**obj, "spec": {key: value for key, value in obj["spec"].items() if key not in names}}

    cluster.api.shows = shows


def test_network_with_a_pool_field_not_stored_is_rolled_back() -> None:
    cluster = FakeCluster()
    drops(cluster, "natOutgoing")
    done = cluster.make_network("blue", "10.133.0.0/24")
    error = refusal(done, "prod/blue")
    assert isinstance(error, WriteLostError)
    assert error.message == DROPPED
    assert error.hint.endswith("kubectl get ippools.crd.projectcalico.org prod.blue -o yaml --show-managed-fields")
    assert error.exit_code == 1
    assert cluster.api.tried[("patch", "ippools")] == 2  # once to set it, once to disable the pool before it is deleted
    assert cluster.networks() == []
    assert cluster.api.every(RAW.pool) == []


def test_unset_field_dropped_by_the_server_is_ignored() -> None:
    cluster = FakeCluster()
    drops(cluster, "disabled")
    assert not cluster.make_network("blue", "10.133.0.0/24").errors


def test_lost_write_is_in_the_network_status_and_sync_continues() -> None:
    cluster = FakeCluster()
    for number, name in enumerate(("aqua", "blue", "cyan")):
        cluster.network(name, f"10.133.{number}.0/24")
    for pool in cluster.api.every(RAW.pool):
        cluster.api.change(RAW.pool.ref(pool["metadata"]["name"]), lambda obj: obj["spec"].update(natOutgoing=False))
    drops(cluster, "natOutgoing", of="blue")
    report = sync(SyncScope("prod"), BACKENDS, cluster.api)  # type: ignore[arg-type]
    assert {name: error.message for name, error in report.network_errors.items()} == {("prod", "blue"): DROPPED}
    assert len([change for change, _ in report.executed if change.ref == POOL]) == 1
    for name in ("aqua", "cyan"):
        assert dig(cluster.api.look(RAW.pool.ref(f"prod.{name}")), "spec", "natOutgoing") is True
    assert dig(cluster.api.look(NETWORKWIZARD.ref("blue", "prod")), "status", "reason") == DROPPED


def test_lost_list_entry_of_a_template_is_named() -> None:
    cluster = FakeCluster()
    cluster.network("lab", "10.20.0.0/24", plugin="ovs", ovs={"bridge": "br-ext", "nic": "eth1"})
    cluster.api.change(NETWORKWIZARD.ref("lab", "prod"), lambda obj: obj["spec"]["ovs"].update(mtu=1400))

    def without_params(obj: Json, plural: str) -> Json:
        if plural != TEMPLATE.plural:
            return obj
        entries = [{key: entry[key] for key in entry if key != "params"} for entry in obj["spec"]["ovsConfig"]]
        return {**obj, "spec": {**obj["spec"], "ovsConfig": entries}}

    cluster.api.shows = without_params
    error = refusal(cluster.sync_network("lab"), "prod/lab")
    assert error.message.startswith("hostnetworktemplate/yoshi-br-ext-")
    assert error.message.endswith(" in namespace prod: the API server does not store spec.ovsConfig")


def test_field_reset_by_a_controller_ends_the_run() -> None:
    cluster = FakeCluster()
    cluster.network()
    done = []

    def sets_back(verb: str, ref: ObjectRef) -> None:
        there = cluster.api.look(POOL)
        if verb == "list" and there is not None and there["spec"]["natOutgoing"]:
            done.append(verb)
            cluster.api.change(POOL, lambda obj: obj["spec"].update(natOutgoing=False))

    cluster.api.before.append(sets_back)
    error = refusal(cluster.sync_network(), "prod/blue")
    assert error.message == "ippool/prod.blue: spec.natOutgoing is reverted as often as it is written"
    assert len(done) == MAX_REPEATS_WITH_OTHER_WRITERS + 1


def test_object_deleted_after_each_creation_ends_the_run() -> None:
    cluster = FakeCluster()
    cluster.network()

    def removes(verb: str, ref: ObjectRef) -> None:
        if verb == "list" and ref.resource == RAW.pool and cluster.api.look(POOL) is not None:
            cluster.api.drop(POOL)

    cluster.api.before.append(removes)
    error = refusal(cluster.sync_network(), "prod/blue")
    assert error.message == "ippool/prod.blue is deleted as often as it is created"
    assert (
        cluster.api.tried[("create", "ippools")] == MAX_REPEATS_WITH_OTHER_WRITERS + 1
    )  # the first one made the network


def test_race_that_ends_does_not_end_the_run() -> None:
    cluster = FakeCluster()
    cluster.network()
    left = [None] * 3

    def sets_back(verb: str, ref: ObjectRef) -> None:
        if verb == "list" and ref.resource == RAW.pool and left:
            left.pop()
            cluster.api.change(POOL, lambda obj: obj["spec"].update(natOutgoing=False))

    cluster.api.before.append(sets_back)
    assert not cluster.sync_network().errors
    assert not left
    assert dig(cluster.api.look(POOL), "spec", "natOutgoing") is True


def test_lost_write_of_one_vm_is_reported_and_does_not_stop_the_others() -> None:
    cluster = FakeCluster()
    for name in ("a", "b", "c"):
        cluster.vm(name)
    drops(cluster, "odd", plural="virtualmachines", of="b")

    def planner(ctx: PlanContext) -> Plan:
        vms = [vm for vm in ctx.snapshot.lookup(Query(VM, "prod")) if f"prod/{name_of(vm)}" not in ctx.run.failed]
        op = {"op": "add", "path": "/spec/odd", "value": "1"}
        changes = (
            Change(Verb.PATCH, VM.ref(name_of(vm), "prod"), "set it", [op], before=vm, owner=f"prod/{name_of(vm)}")
            for vm in vms
            if "odd" not in vm["spec"]
        )
        return Plan((tuple(changes),), errors=ctx.run.failed)

    done = run(planner, cluster.api, BACKENDS)  # type: ignore[arg-type]
    assert [*done.errors] == ["prod/b"]
    assert isinstance(refusal(done, "prod/b"), WriteLostError)
    assert all(done.has_changed(f"prod/{name}") for name in ("a", "c"))


def test_lost_write_of_a_rollback_ends_the_run() -> None:
    cluster = FakeCluster()
    cluster.vm()
    ref = VM.ref("web-1", "prod")
    patch = Change(Verb.PATCH, ref, "set it", [{"op": "add", "path": "/spec/odd", "value": "1"}], owner="prod/web-1")

    def planner(ctx: PlanContext) -> Plan:
        (vm,) = ctx.snapshot.lookup(Query(VM, "prod", "web-1"))
        return sequential(replace(patch, before=vm))

    drops(cluster, "odd", plural="virtualmachines")
    with pytest.raises(WriteLostError, match=r"does not store spec\.odd"):
        run(planner, cluster.api, BACKENDS)  # type: ignore[arg-type]
    assert cluster.api.tried[("patch", "virtualmachines")] == 2


def test_plan_that_never_converges_ends_with_its_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "MAX_ROUNDS", 5)
    cluster = FakeCluster()
    ref = cluster.vm().ref
    numbers = itertools.count()

    def planner(ctx: PlanContext) -> Plan:
        ctx.snapshot.lookup(Query(VM, "prod", "web-1"))
        op = {"op": "add", "path": "/spec/number", "value": next(numbers)}
        return sequential(Change(Verb.PATCH, ref, "count", [op]))

    with pytest.raises(NotConvergedError, match="not complete after 5 rounds"):
        run(planner, cluster.api, BACKENDS)  # type: ignore[arg-type]
    assert not issubclass(NotConvergedError, FATAL_ERRORS)  # sync goes on


# -- the rule --------------------------------------------------------------------------------------------------------


def patch_of(name: str = "prod.blue", version: str = "7", value: Any = True, verb: Verb = Verb.PATCH) -> Change:
    before = {"metadata": {"name": name, "resourceVersion": version}}
    ops = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/spec/natOutgoing", "value": value},
    ]
    if verb is not Verb.PATCH:
        return Change(verb, RAW.pool.ref(name), "do it", before=None if verb is Verb.CREATE else before)
    return Change(verb, RAW.pool.ref(name), "set it", ops, before=before)


def answered(plan: Plan, version: str = "7") -> ApplyResult:
    return ApplyResult(tuple((change, {"metadata": {"resourceVersion": version}}) for change in plan))


def stopped(first: Plan, outcome: ApplyResult, second: Plan) -> list[str]:
    return [str(change.ref) for change, _ in AppliedRound().next_round(first, outcome).lost_writes(second)]


def test_repeated_plan_without_other_writers_is_a_lost_write() -> None:
    plan = sequential(patch_of())
    assert stopped(plan, answered(plan), plan) == ["ippool/prod.blue"]
    assert stopped(sequential(patch_of(version="3")), answered(plan), plan) == ["ippool/prod.blue"]


def test_plans_differing_only_in_times_are_equal() -> None:
    one, other = (sequential(patch_of(value={"at": f"2026-01-01T00:00:0{n}Z"})) for n in (1, 2))
    assert stopped(one, answered(one), other) == ["ippool/prod.blue"]


PLAN = sequential(patch_of())
TESTS = [{"op": "test", "path": "/metadata/uid", "value": "x"}]
TOLD: YoshiError = ConflictError("somebody was faster")


@pytest.mark.parametrize(
    ("first", "outcome", "second"),
    [
        pytest.param(PLAN, answered(PLAN), sequential(patch_of(value=False)), id="another value"),
        pytest.param(PLAN, answered(PLAN), sequential(patch_of("prod.red")), id="another object"),
        pytest.param(PLAN, answered(PLAN), PLAN + sequential(patch_of("prod.red")), id="more of it"),
        pytest.param(PLAN, answered(PLAN), sequential(patch_of(version="8")), id="another client has written"),
        pytest.param(PLAN, ApplyResult(failed=((patch_of(), TOLD),)), PLAN, id="it was refused"),
        pytest.param(PLAN, ApplyResult(skipped=(patch_of(),)), PLAN, id="it was not sent"),
        pytest.param(PLAN, ApplyResult(((patch_of(), None),)), PLAN, id="it was so already"),
        *(
            pytest.param(sequential(one), answered(sequential(one)), sequential(one), id=one.verb.value)
            for one in (patch_of(verb=verb) for verb in (Verb.DELETE, Verb.CALL, Verb.WAIT, Verb.CREATE))
        ),
        pytest.param(
            *(lambda plan: (plan, answered(plan), plan))(sequential(Change(Verb.PATCH, POOL, "", TESTS))),
            id="tests only",
        ),
    ],
)
def test_legitimate_repetition_does_not_end_a_run(first: Plan, outcome: ApplyResult, second: Plan) -> None:
    assert stopped(first, outcome, second) == []


def test_lost_fields_are_named_in_field_path_notation() -> None:
    paths = ["/metadata/annotations/a.b~1c", "/spec/list/0/x", "/spec/list/-", "/spec/more"]
    ops = [{"op": "add", "path": path, "value": 1} for path in paths]
    change = Change(Verb.PATCH, POOL, "", ops, before={"metadata": {"resourceVersion": "7"}})
    [(_, error)] = (
        AppliedRound().next_round(sequential(change), answered(sequential(change))).lost_writes(sequential(change))
    )
    assert "store metadata.annotations[a.b/c], spec.list[0].x, spec.list, and 1 more" in error.message
