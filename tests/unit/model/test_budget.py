"""Nothing is written that would make an object larger than 1 MiB."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.budget import MAX_OBJECT_BYTES, check_size, json_size, size_after_change
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder, apply_json_patch
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.plan import Change, Verb

BLUE = NETWORKWIZARD.ref("blue", "prod")


def held(size: int) -> Json:
    """A network whose status is of about that many bytes."""
    return {"metadata": {"name": "blue"}, "status": {"allocations": {"10.0.0.1": {"note": "x" * size}}}}


def recorded(before: Json, note: str, key: str = "10.0.0.2") -> Change:
    there = before["status"]["allocations"].get(key)
    patch = PatchBuilder().set_in(before, ("status", "allocations", key), {"note": note})
    assert there is None or patch.ops[0]["value"] == there
    return Change(Verb.PATCH, BLUE, "record", patch.ops, "status", before=before)


def test_a_size_is_that_of_compact_json_in_utf_8() -> None:
    assert json_size({"a": "ü"}) == len('{"a":"ü"}'.encode()) == 10


def test_the_size_after_a_patch_is_never_taken_for_less_than_it_is() -> None:
    before = held(1000)
    change = recorded(before, "y" * 500)
    exact = json_size(apply_json_patch(change.body, before))
    assert exact <= size_after_change(change) < exact + 100


def test_what_fits_is_let_through() -> None:
    check_size(recorded(held(MAX_OBJECT_BYTES - 3000), "y" * 1000))
    check_size(Change(Verb.CREATE, BLUE, "make", held(MAX_OBJECT_BYTES - 3000)))
    check_size(Change(Verb.DELETE, BLUE, "delete"))


@pytest.mark.parametrize(
    "change",
    [
        recorded(held(MAX_OBJECT_BYTES - 3000), "y" * 4000),
        Change(Verb.CREATE, BLUE, "make", held(MAX_OBJECT_BYTES)),
        Change(Verb.REPLACE, BLUE, "replace", held(MAX_OBJECT_BYTES), before=held(10)),
        Change(Verb.APPLY, BLUE, "apply", held(MAX_OBJECT_BYTES - 100), before=held(1000)),
    ],
    ids=lambda change: str(change.verb.value),
)
def test_what_would_pass_one_mebibyte_is_refused(change: Change) -> None:
    with pytest.raises(PreconditionFailed, match=r"networkwizard/blue in namespace prod would become 1\.\d\d MiB"):
        check_size(change)


def test_an_object_that_is_too_large_already_may_become_smaller() -> None:
    before = held(MAX_OBJECT_BYTES + 5000)
    smaller = recorded(before, "z", key="10.0.0.1")
    check_size(smaller)
    check_size(Change(Verb.PATCH, BLUE, "give back", PatchBuilder().unset_in(before, ("status", "allocations")).ops))
    with pytest.raises(PreconditionFailed):
        check_size(recorded(before, "more"))
