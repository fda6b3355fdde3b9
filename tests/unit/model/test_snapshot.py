"""Snapshots: present, absent and unreadable are three different results."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, ServedApis, Snapshot, Unreadable

THING = Resource("try.example", "v1", "things", "Thing")
OTHER = Resource("try.example", "v1", "others", "Other")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)


def thing(name: str, namespace: str = "prod") -> Json:
    return {"metadata": {"name": name, "namespace": namespace}}


A = Query(THING, "prod", "a")
B = Query(THING, "prod", "b")
ALL = Query(THING)
HIDDEN = Query(OTHER)
FACTS = Snapshot(results={A: (thing("a"),), B: (), HIDDEN: Unreadable("may not list others")})


def test_lookup_returns_read_objects() -> None:
    assert FACTS.lookup(A) == [thing("a")]
    assert FACTS.lookup(B) == []
    assert FACTS.lookup(B, A) == [thing("a")]
    assert FACTS.lookup() == []


def test_lookup_of_unread_queries_names_exactly_those() -> None:
    c, d = Query(THING, "prod", "c"), Query(THING, "prod", "d")
    with pytest.raises(MissingQueriesError) as more:
        FACTS.lookup(A, c, HIDDEN, d)
    assert more.value.queries == (c, d)


def test_query_with_another_selector_is_another_query() -> None:
    with pytest.raises(MissingQueriesError):
        FACTS.lookup(Query(THING, "prod", "a", label_selector="x=y"))


def test_lookup_omits_unreadable_results_with_their_reason() -> None:
    assert FACTS.lookup(HIDDEN, A) == [thing("a")]
    assert FACTS.unreadable_reason(A, HIDDEN) == "may not list others"
    assert FACTS.unreadable_reason(A, B) == ""


def test_unreadable_reasons_are_unique() -> None:
    again = FACTS.with_results(
        {ALL: Unreadable("may not list things"), Query(OTHER, "dev"): Unreadable("may not list others")}
    )
    assert again.unreadable_reasons() == ["may not list others", "may not list things"]
    assert FACTS.unreadable_reasons() == ["may not list others"]


def test_list_objects_returns_each_object_once() -> None:
    snapshot = FACTS.with_results({ALL: (thing("a"), thing("c", "dev"))})
    assert sorted(obj["metadata"]["name"] for obj in snapshot.list_objects(THING)) == ["a", "c"]
    assert snapshot.list_objects(THING, "dev") == [thing("c", "dev")]
    assert snapshot.list_objects(OTHER) == []
    assert snapshot.get_object(THING, "c", "dev") == thing("c", "dev")
    assert snapshot.get_object(THING, "c", "prod") is None


def test_with_results_replaces_results_in_a_new_snapshot() -> None:
    newer = FACTS.with_results({A: ()})
    assert newer.lookup(A) == []
    assert FACTS.lookup(A) == [thing("a")]


def test_served_apis_contain_only_served_versions() -> None:
    served = ServedApis({"things.try.example": THING, "nodes": NODE}, {"try.example": ("v1",), "": ("v1",)})
    assert THING in served
    assert NODE in served
    assert Resource("try.example", "v2", "things", "Thing") not in served
    assert OTHER not in served


@pytest.mark.parametrize("namespace", ["prod", None])
def test_with_written_updates_every_result(namespace: str | None) -> None:
    old, other, new = thing("a"), thing("b"), {**thing("a"), "spec": {"running": True}}
    every, one, absent = Query(THING, namespace), Query(THING, "prod", "a"), Query(THING, "prod", "c")
    elsewhere = Query(THING, "shop")
    before = Snapshot(results={every: (old, other), one: (old,), absent: (), elsewhere: ()})
    created = thing("c")
    after = before.with_written({THING.ref("a", "prod"): new, THING.ref("c", "prod"): created})
    assert after is not None
    assert after.results == {every: (new, other, created), one: (new,), absent: (created,), elsewhere: ()}
    assert after.get_object(THING, "a", "prod") == new


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (Query(THING, label_selector="app=db"), ()),
        (Query(THING, as_table=True), ()),
        (Query(THING), Unreadable("forbidden")),
    ],
)
def test_with_written_is_none_for_ambiguous_lists(query: Query, answer: tuple[Json, ...] | Unreadable) -> None:
    snapshot = Snapshot(results={query: answer})
    assert snapshot.with_written({THING.ref("a", "prod"): thing("a")}) is None
