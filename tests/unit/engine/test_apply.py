"""Applying plans: which changes an error stops, and which not.

an error in a change of   stops
------------------------  ------------------------------------------
somebody                  that one's later stages, nobody else's
all ("")                  everything after its stage
Ctrl-C                    everything that has not been sent
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from kubectl_yoshi.engine.apply import (
    CONFLICT_SECONDS,
    MAX_PAUSE,
    MAX_POLICY_PAUSE,
    POLICY_SECONDS,
    ApplyResult,
    apply_plan,
    merge_changes,
)
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ApiError, ConflictError, NotFoundError, PatchTestFailedError
from kubectl_yoshi.kube.retry import Clock, WaitCancelledError
from kubectl_yoshi.model.errors import OutdatedError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.model.plan import Change, Plan, Verb
from tests.unit.jsonpatch import apply_patch
from tests.unit.kube.fault_server import FaultServer, refuses, says

THINGS = Resource("try.example", "v1", "things", "Thing")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PATH = "/apis/try.example/v1/namespaces/prod/things"
NOT_FOUND = refuses(404, "NotFound", 'things.try.example "a" not found', {"name": "a"})
NO_NAMESPACE = refuses(404, "NotFound", 'namespaces "prod" not found', {"name": "prod", "kind": "namespaces"})
TEST_FAILED = refuses(422, "Invalid", "the server rejected our request due to an error in our request")
EXISTS = refuses(409, "AlreadyExists", "already exists")
ADDRESS_DENIED = refuses(
    403,
    "Forbidden",
    "things.try.example \"a\" is forbidden: ValidatingAdmissionPolicy 'yoshi-address-use' with binding "
    "'yoshi-address-use' denied request: address 10.0.0.1 of network nets/blue is not allocated, and VM a/web may not "
    "use it (kubectl yoshi ips show 10.0.0.1)",
)
OTHER_UID = refuses(409, "Conflict", "Operation cannot be fulfilled: the UID in the precondition (u) does not match")


def change(name: str, owner: str = "", verb: Verb = Verb.PATCH, **fields: Any) -> Change:
    fields.setdefault("body", [])
    return Change(verb, THINGS.ref(name, "prod"), f"{verb.value} {name}", owner=owner, **fields)


def says_of(changes: Any) -> list[str]:
    return [(entry[0] if isinstance(entry, tuple) else entry).summary for entry in changes]


def told(outcome: ApplyResult) -> tuple[list[str], list[str], list[str]]:
    return says_of(outcome.executed), says_of(outcome.failed), says_of(outcome.skipped)


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    return server.then(says(200, {"ok": True}))


def test_stages_are_applied_in_order(api: Api, server: FaultServer) -> None:
    plan = Plan(((change("a"), change("b")), (change("c"),), (change("d"),)))
    outcome = apply_plan(plan, api)
    assert told(outcome) == (["patch a", "patch b", "patch c", "patch d"], [], [])
    assert outcome.executed[0][1] == {"ok": True}
    sent = [request.path.partition("?")[0][-1] for request in server.requests]
    assert sorted(sent[:2]) == ["a", "b"]
    assert sent[2:] == ["c", "d"]


def test_error_of_one_owner_does_not_stop_others(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/a1"] = NOT_FOUND
    plan = Plan(((change("a1", "a"), change("b1", "b")), (change("a2", "a"), change("b2", "b")), (change("b3", "b"),)))
    outcome = apply_plan(plan, api)
    assert told(outcome) == (["patch b1", "patch b2", "patch b3"], ["patch a1"], ["patch a2"])
    with pytest.raises(NotFoundError):
        outcome.raise_first()


def test_error_without_an_owner_stops_all_later_stages(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/x"] = NOT_FOUND
    plan = Plan(((change("x"), change("a1", "a")), (change("a2", "a"), change("y"))))
    assert told(apply_plan(plan, api)) == (["patch a1"], ["patch x"], ["patch a2", "patch y"])


def test_each_verb_is_sent_as_its_request(api: Api, server: FaultServer) -> None:
    changes = [
        change("a", verb=Verb.CREATE, body={}),
        change("a", verb=Verb.PATCH, subresource="status"),
        change("a", verb=Verb.REPLACE, body={}),
        change("a", verb=Verb.APPLY, body={}),
        change("a", verb=Verb.DELETE, body=None, uid="u", resource_version="5"),
        change("a", verb=Verb.CALL, subresource="restart", body=None),
    ]
    apply_plan(Plan(tuple((one,) for one in changes)), api)
    assert [(request.method, request.path.partition("?")[0].removeprefix(PATH)) for request in server.requests] == [
        ("POST", ""),
        ("PATCH", "/a/status"),
        ("PUT", "/a"),
        ("PATCH", "/a"),
        ("DELETE", "/a"),
        ("PUT", "/a/restart"),
    ]
    assert server.requests[4].body["preconditions"] == {"uid": "u", "resourceVersion": "5"}


@pytest.mark.parametrize(
    ("verb", "fields", "answer", "done"),
    [
        (Verb.DELETE, {"ignore_not_found": True}, NOT_FOUND, True),
        (Verb.DELETE, {"ignore_not_found": True}, says(404, "404 page not found"), True),
        (Verb.DELETE, {"ignore_not_found": True, "uid": "u"}, OTHER_UID, True),
        (Verb.DELETE, {"uid": "u"}, OTHER_UID, False),
        (Verb.DELETE, {}, NOT_FOUND, False),
        (Verb.PATCH, {"ignore_not_found": True}, TEST_FAILED, False),
        (Verb.CREATE, {"ignore_already_exists": True}, EXISTS, True),
        (Verb.CREATE, {}, EXISTS, False),
    ],
)
def test_tolerated_errors_count_as_done(api: Api, server: FaultServer, verb, fields, answer, done) -> None:
    server.by_path |= {PATH: answer, f"{PATH}/a": answer}
    outcome = apply_plan(Plan(((change("a", verb=verb, **fields),),)), api)
    assert bool(outcome.executed) is done
    assert bool(outcome.failed) is not done
    assert all(answer is None for _, answer in outcome.executed)


@pytest.mark.parametrize("answer", [NOT_FOUND, TEST_FAILED])
def test_dry_run_skips_changes_that_depend_on_unstored_ones(api: Api, server: FaultServer, answer) -> None:
    server.by_path[f"{PATH}/a"] = answer
    plan = Plan(((change("a", verb=Verb.CREATE, body={}),), (change("a"),)))
    outcome = apply_plan(plan, api, dry_run=True)
    assert told(outcome) == (["create a"], [], ["patch a"])
    assert all("dryRun=All" in request.path for request in server.requests)
    assert apply_plan(plan, api).failed


def test_dry_run_skips_changes_that_need_an_unstored_namespace_or_crd(api: Api, server: FaultServer) -> None:
    first = (
        Change(Verb.CREATE, NAMESPACES.ref("prod"), "make prod", {}),
        Change(Verb.APPLY, CRDS.ref("things.try.example"), "make crd", {}),
    )
    for answer in (NO_NAMESPACE, says(404, "404 page not found")):
        server.by_path[PATH] = answer
        outcome = apply_plan(Plan((first, (change("a", verb=Verb.CREATE, body={}),))), api, dry_run=True)
        assert told(outcome)[1:] == ([], ["create a"])


def test_dry_run_fails_if_the_plan_is_refused(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/a"] = NOT_FOUND
    assert apply_plan(Plan(((change("a"),), (change("b"),))), api, dry_run=True).failed


def test_change_is_repeated_while_a_policy_has_not_read_the_new_allocation(
    api: Api, server: FaultServer, clock: Any
) -> None:
    answers = [ADDRESS_DENIED] * 4 + [says(200, {"ok": True})]
    server.by_path[f"{PATH}/a"] = lambda handler: answers.pop(0)(handler)
    assert told(apply_plan(Plan(((change("a"),), (change("b"),))), api)) == (["patch a", "patch b"], [], [])
    assert answers == []
    assert sum(clock.slept) < 1


def test_lasting_denial_by_a_policy_fails_after_some_seconds(api: Api, server: FaultServer, clock: Any) -> None:
    server.by_path[f"{PATH}/a"] = ADDRESS_DENIED
    ((_, error),) = apply_plan(Plan(((change("a"),),)), api).failed
    assert "address 10.0.0.1 of network nets/blue is not allocated" in str(error)
    assert POLICY_SECONDS <= sum(clock.slept) <= POLICY_SECONDS + MAX_POLICY_PAUSE
    assert len(server.requests) < 40


def test_denial_by_another_policy_fails_at_once(api: Api, server: FaultServer, clock: Any) -> None:
    message = "ValidatingAdmissionPolicy 'yoshi-allocations' with binding 'x' denied request: no"
    server.by_path[f"{PATH}/a"] = refuses(403, "Forbidden", f'things.try.example "a" is forbidden: {message}')
    assert apply_plan(Plan(((change("a"),),)), api).failed
    assert clock.slept == []


def test_dry_run_skips_what_a_policy_refuses_without_the_stored_allocation(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/a"] = ADDRESS_DENIED
    allocation = Change(Verb.PATCH, NETWORKWIZARD.ref("blue", "prod"), "allocate", [], "status")
    assert told(apply_plan(Plan(((allocation,), (change("a"),))), api, dry_run=True))[1:] == ([], ["patch a"])
    assert apply_plan(Plan(((change("a"),),)), api, dry_run=True).failed


def test_dry_run_does_not_wait(api: Api) -> None:
    wait = change("a", verb=Verb.WAIT, wait_for="never")
    assert not apply_plan(Plan(((wait,),)), api, dry_run=True, waiters={}).failed


def test_wait_calls_its_waiter_and_reports_its_error(api: Api) -> None:
    seen: list[Change] = []

    def refuse(_: Api, change: Change) -> None:
        seen.append(change)
        raise ApiError("still there")

    plan = Plan(((change("a", "a", Verb.WAIT, wait_for="gone"),), (change("b", "a"),)))
    outcome = apply_plan(plan, api, waiters={"gone": refuse})
    assert told(outcome) == ([], ["wait a"], ["patch b"])
    assert says_of(seen) == ["wait a"]


def test_progress_is_reported_in_the_calling_thread(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/a1"] = NOT_FOUND
    heard: list[tuple[str, str]] = []

    def progress(change: Change, state: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        heard.append((change.summary, state))

    apply_plan(Plan(((change("a1", "a"),), (change("a2", "a"), change("b")))), api, progress=progress)
    assert sorted(heard) == [("patch a1", "failed"), ("patch a2", "skipped"), ("patch b", "done")]


def test_requests_of_a_stage_are_parallel_up_to_a_limit(
    api: Api, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubectl_yoshi.engine.apply.MAX_PARALLEL", 3)
    together = threading.Barrier(3, timeout=5)

    def answer(handler: Any) -> None:
        together.wait()
        says(200, {})(handler)

    server.by_path |= {f"{PATH}/{name}": answer for name in "abc"}
    assert not apply_plan(Plan(((change("a"), change("b"), change("c")),)), api).failed


def test_interrupt_reports_the_changes_done_and_sends_no_more(api: Api, server: FaultServer) -> None:
    api._sender.clock = Clock()
    begun = threading.Event()

    def wait(api: Api, change: Change) -> None:
        begun.set()
        api.clock.sleep(60)

    def interrupt(change: Change, state: str) -> None:
        if change.summary == "patch a":
            assert begun.wait(5)
            signal.raise_signal(signal.SIGINT)

    plan = Plan(((change("w", "w", Verb.WAIT, wait_for="x"), change("a", "a")), (change("b", "b"),)))
    outcome = apply_plan(plan, api, progress=interrupt, waiters={"x": wait})
    assert outcome.interrupted
    assert told(outcome) == (["patch a"], ["wait w"], ["patch b"])
    assert isinstance(outcome.failed[0][1], WaitCancelledError)
    assert len(server.requests) == 1
    api.clock.sleep(0)  # can be used again


def test_programming_error_is_raised(api: Api) -> None:
    with pytest.raises(KeyError):
        apply_plan(Plan(((change("a", verb=Verb.WAIT, wait_for="no such word"),),)), api, waiters={})


def test_errors_keep_their_class(api: Api, server: FaultServer) -> None:
    server.by_path |= {f"{PATH}/a": TEST_FAILED, f"{PATH}/b": OTHER_UID}
    outcome = apply_plan(Plan(((change("a", "a"), change("b", "b")),)), api)
    assert [type(error) for _, error in outcome.failed] == [PatchTestFailedError, ConflictError]


def test_patches_of_a_stage_to_one_object_are_merged_into_one_request(
    api: Api, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubectl_yoshi.engine.apply.MAX_PARALLEL", 1)
    first, second = [{"op": "remove", "path": "/a"}], [{"op": "remove", "path": "/b"}]
    together = (
        change("a", "prod/x", body=first),
        change("b", "prod/z", body=first),
        change("a", "prod/y", body=second),
    )

    outcome = apply_plan(Plan((together,)), api)

    assert told(outcome) == (["patch a", "patch b", "patch a"], [], [])
    assert [request.body for request in server.requests] == [first + second, first]


@pytest.mark.parametrize("may_patch_all", [True, False])
def test_patches_of_several_namespaces_are_merged_only_with_permission_for_all_vms(
    api: Api, server: FaultServer, monkeypatch: pytest.MonkeyPatch, may_patch_all: bool
) -> None:
    monkeypatch.setattr("kubectl_yoshi.engine.apply.MAX_PARALLEL", 1)
    checked: list[object] = []
    monkeypatch.setattr(
        "kubectl_yoshi.engine.apply.is_allowed", lambda _, access: checked.append(access) or may_patch_all
    )
    ops = [[{"op": "remove", "path": f"/{name}"}] for name in "abc"]
    namespaces = ("prod", "test", "prod")
    stage = tuple(change("a", body=op, vm_namespace=where) for op, where in zip(ops, namespaces, strict=True))

    apply_plan(Plan((stage,)), api)

    separate = [ops[0] + ops[2], ops[1]]
    assert [request.body for request in server.requests] == (
        [[*ops[0], *ops[1], *ops[2]]] if may_patch_all else separate
    )
    assert len(checked) == 1
    apply_plan(Plan((stage[:1],)), api)
    assert len(checked) == 1, "nothing is checked for one namespace"


def test_merged_patches_create_a_missing_map_once_with_all_keys() -> None:
    obj: dict[str, Any] = {"status": {}}
    history = ("status", "history")
    first = PatchBuilder().set_in(obj, history, {"10.0.0.1": ["a"]}).add(("status", "used"), 1)
    second = PatchBuilder().set_in(obj, history, {"10.0.0.2/x": ["b"]}).test(("status", "z"), None)
    third = PatchBuilder().set_in(obj, history, {"10.0.0.3": ["c"]})

    patch = merge_changes([change("a", body=one.ops) for one in (first, second, third)]).body

    assert apply_patch(patch, obj) == {
        "status": {"history": {"10.0.0.1": ["a"], "10.0.0.2/x": ["b"], "10.0.0.3": ["c"]}, "used": 1}
    }


def test_merged_patch_omits_owners_that_failed_before(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/vm-x"] = refuses(403, "Forbidden", "no")
    before = (change("vm-x", "prod/x"), change("vm-y", "prod/y"))
    after = (
        change("a", "prod/x", body=[{"op": "remove", "path": "/x"}]),
        change("a", "prod/y", body=[{"op": "remove", "path": "/y"}]),
    )

    outcome = apply_plan(Plan((before, after)), api)

    assert says_of(outcome.failed) == ["patch vm-x"]
    assert [c.owner for c in outcome.skipped] == ["prod/x"]
    assert [request.body for request in server.requests if request.path.startswith(f"{PATH}/a")] == [after[1].body]


# -- replacements that are made by edits ----------------------------------------------------------------------------

CONFLICT = refuses(409, "Conflict", "the object has been modified; please apply your changes to the latest version")


def thing(version: str, *words: str) -> Json:
    return {"metadata": {"name": "a", "resourceVersion": version}, "words": [*words]}


def adds(word: str, owner: str) -> Change:
    """Adds a word to thing a, unless it is there; refused while a word of this name with "not-" before it is there."""

    def edit(obj: Json) -> Json:
        if f"not-{word}" in obj["words"]:
            raise OutdatedError(f"not {word} any more")
        return obj if word in obj["words"] else {**obj, "words": [*obj["words"], word]}

    read = thing("1")
    return change("a", owner, Verb.REPLACE, body=edit(read), before=read, edit=edit)


@pytest.fixture
def newest(server: FaultServer) -> list[Json]:
    """Thing a as it becomes: a PUT of any but the first is refused, and a GET brings the next one."""
    things = [thing("1")]

    def answer(handler: Any) -> None:
        if handler.command == "PUT":
            sent = server.requests[-1].body["metadata"]["resourceVersion"]
            (says(200, {"ok": True}) if sent == things[-1]["metadata"]["resourceVersion"] else CONFLICT)(handler)
        else:
            says(200, things[len([r for r in server.requests if r.method == "GET"])])(handler)

    server.by_path[f"{PATH}/a"] = answer
    return things


def test_edits_of_one_object_are_merged_into_one_request(api: Api, server: FaultServer, newest: list[Json]) -> None:
    outcome = apply_plan(Plan(((adds("x", "x"), adds("y", "y")),)), api)
    assert [answer for _, answer in outcome.executed] == [{"ok": True}] * 2
    assert [request.body for request in server.requests] == [thing("1", "x", "y")]


def test_edits_are_repeated_on_the_new_object_after_a_conflict(
    api: Api, server: FaultServer, newest: list[Json]
) -> None:
    newest += [thing("2", "b"), thing("3", "b", "y", "c")]
    outcome = apply_plan(Plan(((adds("x", "x"), adds("y", "y")),)), api)
    assert [answer for _, answer in outcome.executed] == [{"ok": True}, None], "one was so already"
    assert [request.method for request in server.requests] == ["PUT", "GET", "PUT", "GET", "PUT"]
    assert server.requests[-1].body == thing("3", "b", "y", "c", "x")


def test_outdated_edit_fails_alone(api: Api, server: FaultServer, newest: list[Json]) -> None:
    newest.append(thing("2", "not-y"))
    outcome = apply_plan(Plan(((adds("x", "x"), adds("y", "y")), (change("b", "x"), change("c", "y")))), api)
    assert told(outcome) == (["replace a", "patch b"], ["replace a"], ["patch c"])
    assert [(failed.owner, type(error)) for failed, error in outcome.failed] == [("y", OutdatedError)]


def test_nothing_is_sent_if_all_edits_are_done_already(api: Api, server: FaultServer, newest: list[Json]) -> None:
    newest.append(thing("2", "x"))
    assert apply_plan(Plan(((adds("x", "x"),),)), api).executed[0][1] is None
    assert [request.method for request in server.requests] == ["PUT", "GET"]


def test_dry_run_of_edits_stores_nothing(api: Api, server: FaultServer, newest: list[Json]) -> None:
    assert len(apply_plan(Plan(((adds("x", "x"), adds("y", "y")),)), api, dry_run=True).executed) == 2
    assert ["dryRun=All" in request.path for request in server.requests] == [True]


def test_edits_are_given_up_after_too_many_conflicts(api: Api, server: FaultServer, clock: Any) -> None:
    server.by_path[f"{PATH}/a"] = lambda handler: (CONFLICT if handler.command == "PUT" else says(200, thing("2")))(
        handler
    )
    clock.jitter = lambda: 100.0  # or it would be 400 tries
    ((_, error),) = apply_plan(Plan(((adds("x", "x"),),)), api).failed
    assert "changed by other clients repeatedly for 20 s" in str(error)
    assert CONFLICT_SECONDS <= sum(clock.slept) <= CONFLICT_SECONDS + 100 * MAX_PAUSE


def test_ctrl_c_ends_repeated_edits(api: Api, server: FaultServer) -> None:
    api._sender.clock = Clock()
    tries = threading.Semaphore(0)

    def answer(handler: Any) -> None:
        if handler.command == "PUT":
            tries.release()
        (CONFLICT if handler.command == "PUT" else says(200, thing("2")))(handler)

    def interrupt(change: Change, state: str) -> None:
        if change.ref.name == "b":
            assert tries.acquire(timeout=5)
            signal.raise_signal(signal.SIGINT)

    server.by_path[f"{PATH}/a"] = answer
    outcome = apply_plan(Plan(((adds("x", "x"), change("b", "b")),)), api, progress=interrupt)
    assert outcome.interrupted
    assert isinstance(outcome.failed[0][1], WaitCancelledError)
