"""Plans as values, and patches that test every value before writing it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder, apply_json_patch, json_pointer, merge_json_patches
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from tests.unit.jsonpatch import DoesNotFit, apply_patch

THING = Resource("try.example", "v1", "things", "Thing")
KEYS = st.text(alphabet="ab~/01", min_size=1, max_size=3)
PATHS = st.lists(KEYS, min_size=1, max_size=4).map(tuple)
LEAVES = st.none() | st.integers(0, 3) | st.text(max_size=2) | st.booleans() | st.lists(st.integers(), max_size=2)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)
OBJECTS = st.dictionaries(KEYS, TREES, max_size=4)
VALUES = TREES.filter(lambda value: value is not None)


def at(obj: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def can_hold(obj: Any, path: tuple[str, ...]) -> bool:
    """Whether every parent on the path is a map, null or missing."""
    return all(at(obj, path[:depth]) is None or isinstance(at(obj, path[:depth]), dict) for depth in range(len(path)))


def put(obj: Any, path: tuple[str, ...], value: Any) -> Any:
    """The plain model: a copy of the object with that value at that path, missing parents made."""
    result = copy.deepcopy(obj)
    here = result
    for key in path[:-1]:
        if here.get(key) is None:
            here[key] = {}
        here = here[key]
    here[path[-1]] = copy.deepcopy(value)
    return result


def same(one: Any, other: Any) -> bool:
    """Equal, and True is not 1."""
    return repr(_sorted(one)) == repr(_sorted(other))


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


@given(OBJECTS, PATHS, VALUES)
def test_set_in_produces_the_wanted_object(obj: Any, path: tuple[str, ...], value: Any) -> None:
    assume(can_hold(obj, path))
    before = copy.deepcopy(obj)
    ops = PatchBuilder().set_in(obj, path, value).ops
    assert same(apply_patch(ops, obj), put(obj, path, value))
    assert same(apply_json_patch(ops, obj), put(obj, path, value))
    assert same(obj, before)


@given(OBJECTS, PATHS)
def test_unset_in_removes_only_the_value(obj: Any, path: tuple[str, ...]) -> None:
    ops = PatchBuilder().unset_in(obj, path).ops
    after = apply_patch(ops, obj)
    assert same(apply_json_patch(ops, obj), after)
    assert at(after, path) is None
    if at(obj, path) is None:
        assert ops == []
    else:
        assert same(put(after, path, at(obj, path)), obj)


@given(OBJECTS, PATHS, VALUES, VALUES)
def test_patch_fails_if_the_value_changed(obj: Any, path: tuple[str, ...], value: Any, theirs: Any) -> None:
    assume(can_hold(obj, path) and not same(at(obj, path), theirs) and at(obj, path) != theirs)
    meanwhile = put(obj, path, theirs)
    with pytest.raises(DoesNotFit):
        apply_patch(PatchBuilder().set_in(obj, path, value).ops, meanwhile)
    if at(obj, path) is not None:
        with pytest.raises(DoesNotFit):
            apply_patch(PatchBuilder().unset_in(obj, path).ops, meanwhile)


@given(OBJECTS, PATHS, VALUES, PATHS, VALUES)
def test_patch_preserves_other_changes(
    obj: Any, path: tuple[str, ...], value: Any, elsewhere: tuple[str, ...], theirs: Any
) -> None:
    common = min(len(path), len(elsewhere))
    assume(path[:common] != elsewhere[:common] and can_hold(obj, path) and can_hold(obj, elsewhere))
    meanwhile = put(obj, elsewhere, theirs)
    try:
        after = apply_patch(PatchBuilder().set_in(obj, path, value).ops, meanwhile)
    except DoesNotFit:  # they made a parent that was missing when it was read
        assert at(obj, path[:-1]) is None
        return
    assert same(after, put(meanwhile, path, value))


@given(OBJECTS, PATHS, VALUES)
def test_patch_tests_every_write_first(obj: Any, path: tuple[str, ...], value: Any) -> None:
    for patch in (PatchBuilder().set_in(obj, path, value), PatchBuilder().unset_in(obj, path)):
        tested = set()
        for op in patch.ops:
            if op["op"] == "test":
                tested.add(op["path"])
            else:
                assert op["path"] in tested


def test_set_in_of_an_equal_value_only_tests_it() -> None:
    assert PatchBuilder().set_in({"a": {"b": 1}}, ("a", "b"), 1).ops == [{"op": "test", "path": "/a/b", "value": 1}]


def test_json_pointer_escapes_slash_and_tilde() -> None:
    path = ("metadata", "annotations", "cni.projectcalico.org/ipAddrs", "~1")
    assert json_pointer(path) == "/metadata/annotations/cni.projectcalico.org~1ipAddrs/~01"
    assert json_pointer(()) == ""


@given(st.lists(KEYS, min_size=1, max_size=3).map(tuple), VALUES)
def test_json_pointer_refers_to_its_path(path: tuple[str, ...], value: Any) -> None:
    assert at(apply_patch(PatchBuilder().set_in({}, path, value).ops, {}), path) == value


def test_apply_json_patch_edits_lists() -> None:
    obj = {"finalizers": ["a", "b"]}
    assert apply_json_patch(PatchBuilder().add(("finalizers", "-"), "c").ops, obj) == {"finalizers": ["a", "b", "c"]}
    assert apply_json_patch(PatchBuilder().remove(("finalizers", "0")).ops, obj) == {"finalizers": ["b"]}
    assert apply_json_patch([{"op": "replace", "path": "/finalizers/1", "value": "x"}], obj) == {
        "finalizers": ["a", "x"]
    }
    assert obj == {"finalizers": ["a", "b"]}


def test_apply_json_patch_of_a_missing_object_starts_empty() -> None:
    assert apply_json_patch(PatchBuilder().add(("status", "used"), 1).ops, None) == {"status": {"used": 1}}


def change(name: str) -> Change:
    return Change(Verb.CREATE, THING.ref(name, "prod"), f"make {name}")


def names(plan: Plan) -> list[list[str]]:
    return [[change.ref.name for change in stage] for stage in plan.stages]


def test_plans_are_joined_sequentially_or_in_parallel() -> None:
    one, other = sequential(change("a"), change("b")), sequential(change("c"))
    assert names(one + other) == [["a"], ["b"], ["c"]]
    assert names(one.parallel(other)) == [["a", "c"], ["b"]]
    assert names(other.parallel(one)) == [["c", "a"], ["b"]]
    assert [found.ref.name for found in one] == ["a", "b"]


def test_plan_without_changes_is_false() -> None:
    assert not Plan()
    assert not Plan(stages=((), ()), notes=("a note",), results={"a": "b"}, requeue=True)
    assert sequential(change("a"))


@pytest.mark.parametrize("join", [Plan.__add__, Plan.parallel])
def test_joined_plans_have_the_notes_and_results_of_both(join: Any) -> None:
    no = PreconditionFailed("no")
    one = Plan(notes=("x", "y"), results={"a": "1"}, requeue=True)
    both = join(one, Plan(notes=("y", "z"), results={"b": "2"}, errors={"c": no}))
    assert both == Plan((), ("x", "y", "z"), True, {"a": "1", "b": "2"}, {"c": no})


@pytest.mark.parametrize(
    ("there", "wanted"), [(0, False), (1, True), (False, 0), ([0], [False]), ({"a": 1}, {"a": True})]
)
def test_set_in_distinguishes_numbers_and_booleans(there: object, wanted: object) -> None:
    ops = PatchBuilder().set_in({"spec": there}, ("spec",), wanted).ops
    assert ops[-1] == {"op": "add", "path": "/spec", "value": wanted}
    assert type(ops[-1]["value"]) is type(wanted)


def test_merged_patches_creating_the_same_maps_keep_all_keys() -> None:
    obj: dict[str, Any] = {"spec": {}}
    path = ("spec", "metadata", "annotations")
    patches = [PatchBuilder().set_in(obj, (*path, key), "x").ops for key in ("a", "b", "a")]
    assert apply_patch(merge_json_patches(patches), obj) == {
        "spec": {"metadata": {"annotations": {"a": "x", "b": "x"}}}
    }


def test_merged_patches_creating_the_same_list_keep_all_entries() -> None:
    obj: dict[str, Any] = {"kind": "BGPConfiguration"}
    entries: list[list[Any]] = [[1], [True], [1, "x"]]
    patches = [PatchBuilder().set_in(obj, ("spec", "list"), some).ops for some in entries]
    assert apply_patch(merge_json_patches(patches), obj) == {**obj, "spec": {"list": [1, True, "x"]}}
