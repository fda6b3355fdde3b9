"""Setting the fields of an object that differ from the wanted ones."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.ensure import FieldPath, ensure_fields, set_fields, spec_fields
from kubectl_yoshi.model.jsonpatch import PatchBuilder, apply_json_patch
from kubectl_yoshi.model.matching import Fields
from kubectl_yoshi.model.objects import Json, Resource

WIDGET = Resource("example.org", "v1", "widgets", "Widget")


def widget(**spec: Any) -> Json:
    return {"metadata": {"name": "one", "namespace": "prod", "uid": "u"}, "spec": spec}


def test_only_the_differing_fields_are_set_and_each_is_tested() -> None:
    obj = widget(size=1, colour="red")
    (change,) = ensure_fields(WIDGET, obj, spec_fields({"size": 2, "colour": "red"}))
    assert change.summary == "fix widget/one in namespace prod"
    assert change.body == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/spec/size", "value": 1},
        {"op": "add", "path": "/spec/size", "value": 2},
    ]


def test_matching_object_is_not_changed() -> None:
    assert ensure_fields(WIDGET, widget(size=1, extra=True), spec_fields({"size": 1, "hidden": False})) == []


@pytest.mark.parametrize(
    ("obj", "wanted", "expected"),
    [
        pytest.param(widget(size=1), {("spec", "size"): None}, widget(), id="a field that must be absent"),
        pytest.param(
            widget(sizes={"a": 1, "b": 2}),
            {("spec", "sizes"): {"a": 1, "b": None}},
            widget(sizes={"a": 1}),
            id="a field that must be absent in a map",
        ),
        pytest.param(
            widget(),
            {("spec", "new", "a"): 1, ("spec", "new", "b"): 2, ("spec", "size"): 3},
            widget(new={"a": 1, "b": 2}, size=3),
            id="two fields of a parent that does not exist",
        ),
        pytest.param(
            widget(names=["b", "a"]), {("spec", "names"): ["a", "b"]}, widget(names=["b", "a"]), id="the order"
        ),
    ],
)
def test_patched_object_has_the_expected_fields(obj: Json, wanted: dict[FieldPath, Any], expected: Json) -> None:
    fields = Fields(unordered=frozenset({"names"}))
    patch = PatchBuilder()
    set_fields(patch, obj, wanted, fields)
    changed = apply_json_patch(patch.ops, obj)
    assert changed == expected
    assert set_fields(PatchBuilder(), changed, wanted, fields) == []
