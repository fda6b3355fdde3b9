"""What was read: there, not there, and not known are three things."""

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


def test_asking_for_what_was_read_gives_it() -> None:
    assert FACTS.lookup(A) == [thing("a")]
    assert FACTS.lookup(B) == []
    assert FACTS.lookup(B, A) == [thing("a")]
    assert FACTS.lookup() == []


def test_asking_for_what_was_not_read_names_all_of_it_and_only_that() -> None:
    c, d = Query(THING, "prod", "c"), Query(THING, "prod", "d")
    with pytest.raises(MissingQueriesError) as more:
        FACTS.lookup(A, c, HIDDEN, d)
    assert more.value.queries == (c, d)


def test_a_read_with_another_selector_is_another_read() -> None:
    with pytest.raises(MissingQueriesError):
        FACTS.lookup(Query(THING, "prod", "a", label_selector="x=y"))


def test_what_could_not_be_read_is_left_out_and_says_why() -> None:
    assert FACTS.lookup(HIDDEN, A) == [thing("a")]
    assert FACTS.unreadable_reason(A, HIDDEN) == "may not list others"
    assert FACTS.unreadable_reason(A, B) == ""


def test_every_reason_is_told_once() -> None:
    again = FACTS.with_results(
        {ALL: Unreadable("may not list things"), Query(OTHER, "dev"): Unreadable("may not list others")}
    )
    assert again.unreadable_reasons() == ["may not list others", "may not list things"]
    assert FACTS.unreadable_reasons() == ["may not list others"]


def test_all_objects_of_a_kind_are_told_once_whichever_read_brought_them() -> None:
    snapshot = FACTS.with_results({ALL: (thing("a"), thing("c", "dev"))})
    assert sorted(obj["metadata"]["name"] for obj in snapshot.list_objects(THING)) == ["a", "c"]
    assert snapshot.list_objects(THING, "dev") == [thing("c", "dev")]
    assert snapshot.list_objects(OTHER) == []
    assert snapshot.get_object(THING, "c", "dev") == thing("c", "dev")
    assert snapshot.get_object(THING, "c", "prod") is None


def test_new_answers_take_the_place_of_old_ones_and_leave_the_old_facts_alone() -> None:
    newer = FACTS.with_results({A: ()})
    assert newer.lookup(A) == []
    assert FACTS.lookup(A) == [thing("a")]


def test_a_kind_is_served_only_in_the_versions_that_are() -> None:
    served = ServedApis({"things.try.example": THING, "nodes": NODE}, {"try.example": ("v1",), "": ("v1",)})
    assert THING in served
    assert NODE in served
    assert Resource("try.example", "v2", "things", "Thing") not in served
    assert OTHER not in served


@pytest.mark.parametrize("namespace", ["prod", None])
def test_a_snapshot_with_what_was_written_has_it_in_every_answer(namespace: str | None) -> None:
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
def test_what_was_written_may_or_may_not_belong_to_a_list(query: Query, answer: tuple[Json, ...] | Unreadable) -> None:
    snapshot = Snapshot(results={query: answer})
    assert snapshot.with_written({THING.ref("a", "prod"): thing("a")}) is None
