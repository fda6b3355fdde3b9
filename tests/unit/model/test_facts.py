"""What was read: there, not there, and not known are three things."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.facts import Facts, NeedMore, Read, Served, Unknown
from kubectl_yoshi.model.objects import Json, Resource

THING = Resource("try.example", "v1", "things", "Thing")
OTHER = Resource("try.example", "v1", "others", "Other")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)


def thing(name: str, namespace: str = "prod") -> Json:
    return {"metadata": {"name": name, "namespace": namespace}}


A = Read(THING, "prod", "a")
B = Read(THING, "prod", "b")
ALL = Read(THING)
HIDDEN = Read(OTHER)
FACTS = Facts(answers={A: (thing("a"),), B: (), HIDDEN: Unknown("may not list others")})


def test_asking_for_what_was_read_gives_it() -> None:
    assert FACTS.ask(A) == [thing("a")]
    assert FACTS.ask(B) == []
    assert FACTS.ask(B, A) == [thing("a")]
    assert FACTS.ask() == []


def test_asking_for_what_was_not_read_names_all_of_it_and_only_that() -> None:
    c, d = Read(THING, "prod", "c"), Read(THING, "prod", "d")
    with pytest.raises(NeedMore) as more:
        FACTS.ask(A, c, HIDDEN, d)
    assert more.value.wanted == (c, d)


def test_a_read_with_another_selector_is_another_read() -> None:
    with pytest.raises(NeedMore):
        FACTS.ask(Read(THING, "prod", "a", label_selector="x=y"))


def test_what_could_not_be_read_is_left_out_and_says_why() -> None:
    assert FACTS.ask(HIDDEN, A) == [thing("a")]
    assert FACTS.why_unknown(A, HIDDEN) == "may not list others"
    assert FACTS.why_unknown(A, B) == ""


def test_every_reason_is_told_once() -> None:
    again = FACTS.with_answers(
        {ALL: Unknown("may not list things"), Read(OTHER, "dev"): Unknown("may not list others")}
    )
    assert again.unknowns() == ["may not list others", "may not list things"]
    assert FACTS.unknowns() == ["may not list others"]


def test_all_objects_of_a_kind_are_told_once_whichever_read_brought_them() -> None:
    facts = FACTS.with_answers({ALL: (thing("a"), thing("c", "dev"))})
    assert sorted(obj["metadata"]["name"] for obj in facts.all(THING)) == ["a", "c"]
    assert facts.all(THING, "dev") == [thing("c", "dev")]
    assert facts.all(OTHER) == []
    assert facts.one(THING, "c", "dev") == thing("c", "dev")
    assert facts.one(THING, "c", "prod") is None


def test_new_answers_take_the_place_of_old_ones_and_leave_the_old_facts_alone() -> None:
    newer = FACTS.with_answers({A: ()})
    assert newer.ask(A) == []
    assert FACTS.ask(A) == [thing("a")]


def test_a_kind_is_served_only_in_the_versions_that_are() -> None:
    served = Served({"things.try.example": THING, "nodes": NODE}, {"try.example": ("v1",), "": ("v1",)})
    assert THING in served
    assert NODE in served
    assert Resource("try.example", "v2", "things", "Thing") not in served
    assert OTHER not in served
