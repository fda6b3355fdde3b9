"""Access reviews before the first write: for which changes, and what follows from the answers."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.engine.permissions import Permissions, forbidden_error
from kubectl_yoshi.engine.read import run_queries
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ForbiddenError, NotServedError
from kubectl_yoshi.model.access import Access, required_accesses
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import EVENT, Resource
from kubectl_yoshi.model.plan import Change, Plan, Verb, WaitStatus
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import POD, VM, VMI
from tests.unit.kube.fault_server import FaultServer, says

BLOCK = Resource("crd.projectcalico.org", "v1", "ipamblocks", "IPAMBlock", namespaced=False)


class Authorizer:
    """Says no to some accesses, with or without their names."""

    def __init__(self, *denied: Access) -> None:
        self.denied = denied
        self.asked: list[Access] = []

    def is_allowed(self, access: Access) -> bool:
        self.asked.append(access)
        return access not in self.denied


def change(verb: Verb, resource: Resource, name: str, owner: str = "", sub: str = "", **more: Any) -> Change:
    return Change(verb, resource.ref(name, "prod"), f"do {name}", subresource=sub, owner=owner, **more)


RECORD = change(Verb.PATCH, NETWORKWIZARD, "blue", "prod/a", "status")
TEMPLATE = change(Verb.PATCH, VM, "a", "prod/a")
RELEASE = change(Verb.REPLACE, BLOCK, "b", "prod/a")
PATCH_STATUS = Access("patch", NETWORKWIZARD, "prod", "", "status")
UPDATE_BLOCKS = Access("update", BLOCK)


def errors(authorizer: Authorizer, *stages: tuple[Change, ...], failed: tuple[str, ...] = (), **more: Any) -> Any:
    return Permissions(authorizer).errors(Plan(stages, **more), Plan(), failed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stages",
    [
        ((RECORD,), (TEMPLATE,)),
        ((TEMPLATE,),),
        ((RECORD,),),
        ((change(Verb.PATCH, ADDRESSBLOCK, "x", sub="status"), change(Verb.PATCH, ADDRESSBLOCK, "y", sub="status")),
         (TEMPLATE,)),
        ((change(Verb.PATCH, ADDRESSBLOCK, "x", sub="status"),), (RECORD,), (TEMPLATE,)),
    ],
)  # fmt: skip
def test_no_review_is_sent_if_a_refused_write_leaves_no_partial_state(
    stages: tuple[tuple[Change, ...], ...],
) -> None:
    authorizer = Authorizer()
    assert errors(authorizer, *stages) == {}
    assert authorizer.asked == []


@pytest.mark.parametrize(
    "stages",
    [
        ((TEMPLATE,), (RECORD,)),
        ((RECORD,), (TEMPLATE,), (RELEASE,)),
        ((RECORD, change(Verb.PATCH, NETWORKWIZARD, "green", sub="status")), (TEMPLATE,)),
        ((change(Verb.CREATE, ADDRESSBLOCK, "x"),), (change(Verb.PATCH, ADDRESSBLOCK, "x", sub="status"),)),
    ],
)  # fmt: skip
def test_each_access_is_reviewed_once(stages: tuple[tuple[Change, ...], ...]) -> None:
    authorizer = Authorizer()
    permissions = Permissions(authorizer)  # type: ignore[arg-type]
    for _ in range(2):
        assert permissions.errors(Plan(stages), Plan(), ()) == {}
    kinds = {
        Access(a.verb, a.resource, a.namespace, "", a.subresource)
        for s in stages
        for c in s
        for a in required_accesses(c)
    }
    assert set(authorizer.asked) == kinds
    assert len(authorizer.asked) == len(kinds)


def test_only_owners_of_forbidden_changes_are_refused() -> None:
    other = change(Verb.PATCH, VM, "b", "prod/b")
    found = errors(Authorizer(UPDATE_BLOCKS, Access("update", BLOCK, None, "b")), (TEMPLATE, other), (RELEASE,))
    assert list(found) == ["prod/a"]
    error = found["prod/a"]
    assert isinstance(error, ForbiddenError)
    assert error.message == "cannot do b: may not update ipamblocks.crd.projectcalico.org"
    assert "administrator" in error.hint


def test_forbidden_shared_change_refuses_all() -> None:
    shared = change(Verb.PATCH, NETWORKWIZARD, "blue", "", "status")
    denied = (PATCH_STATUS, Access("patch", NETWORKWIZARD, "prod", "blue", "status"))
    found = errors(Authorizer(*denied), (TEMPLATE,), (shared,), results={"prod/a": "", "prod/b": ""})
    assert set(found) == {"", "prod/a", "prod/b"}


def test_permission_for_one_object_is_sufficient() -> None:
    """As a role with resourceNames gives it, which allows no access without a name."""
    authorizer = Authorizer(PATCH_STATUS)
    assert errors(authorizer, (TEMPLATE,), (RECORD,)) == {}
    assert Access("patch", NETWORKWIZARD, "prod", "blue", "status") in authorizer.asked


def test_future_changes_are_reviewed_and_rollbacks_are_not() -> None:
    denied = (UPDATE_BLOCKS, Access("update", BLOCK, None, "b"))
    assert set(errors(Authorizer(*denied), (TEMPLATE,), future_changes=(RELEASE,))) == {"prod/a"}
    assert errors(Authorizer(*denied), (TEMPLATE,), (RELEASE,), failed=("prod/a",)) == {}
    assert errors(Authorizer(*denied), (TEMPLATE,), (RELEASE,), failed=("",)) == {}


def test_missing_authorizer_allows_the_write() -> None:
    class Silent(Authorizer):
        def is_allowed(self, access: Access) -> bool:
            raise NotServedError("nobody knows")

    assert errors(Silent(), (TEMPLATE,), (RECORD,)) == {}


@pytest.mark.parametrize(
    ("one", "needed"),
    [
        (change(Verb.CREATE, VM, "a"), [Access("create", VM, "prod")]),
        (change(Verb.CALL, VM, "a", sub="stop"), [Access("update", VM, "prod", "a", "stop")]),
        (change(Verb.DELETE, VM, "a"), [Access("delete", VM, "prod", "a")]),
        (change(Verb.APPLY, VM, "a", before={}), [Access("patch", VM, "prod", "a")]),
        (change(Verb.APPLY, VM, "a"), [Access("patch", VM, "prod", "a"), Access("create", VM, "prod")]),
        (change(Verb.WAIT, VM, "a", wait_for="deleted"), [Access("get", VM, "prod", "a")]),
        (
            change(Verb.WAIT, VM, "a", wait_for="stopped"),
            [Access("get", VMI, "prod", "a"), Access("list", POD, "prod")],
        ),
        (
            change(Verb.WAIT, VM, "a", wait_for="condition", condition=lambda obj, events: WaitStatus()),
            [Access("get", VM, "prod", "a"), Access("list", EVENT, "prod")],
        ),
    ],
)
def test_required_accesses_of_a_change(one: Change, needed: list[Access]) -> None:
    assert list(required_accesses(one)) == needed


def test_access_review_has_the_kubernetes_format(api: Api, server: FaultServer) -> None:
    server.then(says(201, {"status": {"allowed": False}}))
    assert not api.is_allowed(Access("update", VM, "prod", "a", "stop"))
    (request,) = server.requests
    assert request.path.startswith("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
    assert request.body["spec"] == {
        "resourceAttributes": {
            "verb": "update", "group": "kubevirt.io", "version": "v1", "resource": "virtualmachines",
            "subresource": "stop", "namespace": "prod", "name": "a",
        }
    }  # fmt: skip


def test_planner_can_query_permissions(api: Api, server: FaultServer) -> None:
    server.then(says(201, {"status": {"allowed": False}}))
    wanted = Query(BLOCK, verb="update")
    snapshot = Snapshot().with_results(run_queries(api, [wanted]))
    assert snapshot.forbidden_reason(wanted) == "may not update ipamblocks.crd.projectcalico.org"
    assert snapshot.list_objects(BLOCK) == []
    assert snapshot.unreadable_reasons() == []


def test_forbidden_error_names_the_missing_permission() -> None:
    error = forbidden_error(PATCH_STATUS, "record 10.0.0.1")
    assert error.message == (
        "cannot record 10.0.0.1: may not patch networkwizards/status.plumber.k8s.pf9.io in namespace prod"
    )
    assert error.missing_permission == "may not patch networkwizards/status.plumber.k8s.pf9.io in namespace prod"
