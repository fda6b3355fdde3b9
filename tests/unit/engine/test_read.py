"""Parallel reads: absent, unreadable and failed are three different results."""

from __future__ import annotations

import pytest

from kubectl_yoshi.engine.read import LIST_THRESHOLD, MAX_OBJECTS_PER_QUERY, run_queries
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ServerError
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.snapshot import Query, Unreadable
from tests.unit.kube.fault_server import FaultServer, refuses, says

THINGS = Resource("try.example", "v1", "things", "Thing")
POOLS = Resource("projectcalico.org", "v3", "ippools", "IPPool", namespaced=False)
PATH = "/apis/try.example/v1/namespaces/prod/things"
FORBIDDEN = refuses(403, "Forbidden", 'things is forbidden: User "u" cannot list resource "things"')
NOT_FOUND = refuses(404, "NotFound", 'things.try.example "x" not found', {"name": "x"})


def thing(name: str) -> dict:
    return {"apiVersion": "try.example/v1", "kind": "Thing", "metadata": {"name": name, "namespace": "prod"}}


def list_of(*names: str) -> dict:
    return {"kind": "ThingList", "metadata": {}, "items": [thing(name) for name in names]}


def test_present_and_absent_objects(api: Api, server: FaultServer) -> None:
    server.by_path |= {f"{PATH}/a": says(200, thing("a")), f"{PATH}/b": NOT_FOUND, PATH: says(200, list_of("a"))}
    server.then(says(404, "404 page not found"))
    one, other, all_, unserved = (
        Query(THINGS, "prod", "a"),
        Query(THINGS, "prod", "b"),
        Query(THINGS, "prod"),
        Query(POOLS),
    )
    results = run_queries(api, [one, other, all_, unserved, one])
    assert results == {one: (thing("a"),), other: (), all_: (thing("a"),), unserved: ()}
    assert len(server.requests) == 4


def test_forbidden_read_is_unreadable_with_a_one_line_reason(api: Api, server: FaultServer) -> None:
    server.then(FORBIDDEN)
    query = Query(THINGS, "prod")
    answer = run_queries(api, [query])[query]
    assert isinstance(answer, Unreadable)
    assert answer.reason.startswith("may not list things.try.example in namespace prod")
    assert "\n" not in answer.reason


def test_unavailable_aggregated_api_is_unreadable(api: Api, server: FaultServer) -> None:
    server.then(says(503, "service unavailable"))
    answer = run_queries(api, [Query(POOLS)])[Query(POOLS)]
    assert isinstance(answer, Unreadable)
    assert "projectcalico.org/v3" in answer.reason


def test_any_other_error_is_raised(api: Api, server: FaultServer) -> None:
    server.by_path[f"{PATH}/a"] = says(200, thing("a"))
    server.then(refuses(500, "InternalError", "etcd is on fire"))
    with pytest.raises(ServerError):
        run_queries(api, [Query(THINGS, "prod", "a"), Query(POOLS)])


def test_label_selector_is_sent(api: Api, server: FaultServer) -> None:
    server.then(says(200, list_of()))
    run_queries(api, [Query(THINGS, "prod", label_selector="a=b")])
    assert "labelSelector=a%3Db" in server.requests[0].path


def test_many_names_of_one_kind_are_read_by_one_list(api: Api, server: FaultServer) -> None:
    there = [f"t{n}" for n in range(0, LIST_THRESHOLD, 2)]
    server.then(says(200, list_of(*there)))
    queries = [Query(THINGS, "prod", f"t{n}") for n in range(LIST_THRESHOLD)]
    results = run_queries(api, queries)
    assert [request.path for request in server.requests] == [f"{PATH}?limit=1", f"{PATH}?limit=500"]
    assert list(results) == queries
    assert [query.name for query, answer in results.items() if answer] == there


def test_many_names_are_read_one_by_one_if_listing_is_forbidden(api: Api, server: FaultServer) -> None:
    server.by_path[PATH] = FORBIDDEN
    server.then(says(200, thing("x")))
    results = run_queries(api, [Query(THINGS, "prod", f"t{n}") for n in range(LIST_THRESHOLD)])
    assert len(server.requests) == LIST_THRESHOLD + 2
    assert all(answer == (thing("x"),) for answer in results.values())


@pytest.mark.parametrize("others", [-1, 0, 1])
def test_few_of_very_many_objects_are_read_one_by_one(api: Api, server: FaultServer, others: int) -> None:
    rest = MAX_OBJECTS_PER_QUERY * LIST_THRESHOLD + others - 1
    server.by_path[PATH] = says(200, {**list_of("t0"), "metadata": {"remainingItemCount": rest}})
    server.then(says(200, thing("x")))
    run_queries(api, [Query(THINGS, "prod", f"t{n}") for n in range(LIST_THRESHOLD)])
    one_by_one = [request.path for request in server.requests if "?" not in request.path]
    assert len(one_by_one) == (LIST_THRESHOLD if others > 0 else 0)


def test_no_queries_send_no_requests(api: Api, server: FaultServer) -> None:
    assert run_queries(api, []) == {}
    assert not server.requests
