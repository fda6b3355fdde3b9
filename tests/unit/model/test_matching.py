"""Whether an object that was read matches the wanted one, however the API server normalizes it."""

from __future__ import annotations

import random
from ipaddress import IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.matching import Fields, differing_fields, matches, without_absent

FIELDS = Fields(
    unordered=frozenset({"uses", "peers"}),
    whole=frozenset({"labels", "selectors"}),
    defaults={"selector": "all()", "number": 0},
)


@pytest.mark.parametrize("empty", [None, False, "", [], {}, {"name": ""}, {"inner": {"on": False}}])
def test_false_and_empty_equal_missing(empty: Any) -> None:
    assert matches(empty, None)
    assert matches(None, empty)
    assert matches({"field": empty}, {})
    assert matches({"field": None}, {"field": empty})


@pytest.mark.parametrize(
    ("wanted", "observed"),
    [
        (True, None),
        (None, True),
        (True, False),
        (True, 1),
        (1, True),
        (0, None),
        (None, 0),
        (0, False),
        ("Never", None),
        ([False], []),
        ([{}], []),
        ({"inner": {"on": True}}, None),
        ("10.0.0.1", "10.0.0.01"),
        ("fd00::1", "fd00::2"),
        ("fd00::1", "fd00::1/128"),
        ("fd00::7/64", "fd00::/64"),
        ("fd00::/64", "fd00::/65"),
        ("fd00::1-fd00::9", "fd00::1-fd00::8"),
        ("fd00::1-fd00::9", "fd00::1"),
        ("a:b", "A:B"),
        ("02:00:00:00:00:0a", "02:00:00:00:00:0A"),
        ([1, 2], [2, 1]),
        ([1, 2], [1, 2, 3]),
    ],
)
def test_different_values_do_not_match(wanted: Any, observed: Any) -> None:
    assert not matches(wanted, observed)
    assert not matches({"field": wanted}, {"field": observed})


@pytest.mark.parametrize(
    ("wanted", "observed"),
    [
        ("fd00::1", "FD00:0:0::1"),
        ("fd00::1", "fd00:0000:0000:0000:0000:0000:0000:0001"),
        ("fd00::/64", "FD00:0:0:0::/64"),
        ("fd00::1-fd00::9", "FD00::1 - FD00::9"),
        (["fd00::1"], ["FD00::1"]),
    ],
)
def test_ipv6_is_compared_by_value(wanted: Any, observed: Any) -> None:
    assert matches(wanted, observed)
    assert matches(observed, wanted)


def test_additional_fields_are_accepted_also_inside_lists() -> None:
    assert matches({"entries": [{"name": "a"}]}, {"entries": [{"name": "a", "added": "default"}], "more": 1})
    assert not matches({"entries": [{"name": "a"}]}, {"entries": [{"name": "b", "added": "default"}]})


def test_none_requires_absence() -> None:
    assert not matches({"entries": [{"name": "a", "vlan": None}]}, {"entries": [{"name": "a", "vlan": "20"}]})
    assert matches({"entries": [{"name": "a", "vlan": None}]}, {"entries": [{"name": "a", "vlan": ""}]})
    assert without_absent({"entries": [{"name": "a", "vlan": None}], "no": None, "on": False}) == {
        "entries": [{"name": "a"}],
        "on": False,
    }


def test_labels_and_selectors_must_match_exactly() -> None:
    assert not matches({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}}, FIELDS)
    assert not matches({"selectors": [{"m": {"a": "1"}}]}, {"selectors": [{"m": {"a": "1"}, "e": ["x"]}]}, FIELDS)
    assert matches({"selectors": [{"m": {"a": "1"}}]}, {"selectors": [{"m": {"a": "1"}, "e": []}]}, FIELDS)
    assert not matches({"a": "1"}, {"a": "1", "b": "2"}, FIELDS, "labels")


def test_list_order_matters_unless_declared_unordered() -> None:
    assert not matches({"list": [1, 2]}, {"list": [2, 1]}, FIELDS)
    assert matches({"uses": [1, 2]}, {"uses": [2, 1]}, FIELDS)
    assert not matches({"uses": [1, 1, 2]}, {"uses": [1, 2, 2]}, FIELDS)
    assert not matches({"uses": [1]}, {"uses": [1, 2]}, FIELDS)


def test_unordered_entries_are_matched_one_to_one() -> None:
    wanted = [{"a": 1}, {"a": 1, "b": 2}]
    assert matches({"uses": wanted}, {"uses": [{"a": 1, "b": 2}, {"a": 1, "c": 3}]}, FIELDS)
    assert not matches({"uses": wanted}, {"uses": [{"a": 1, "c": 2}, {"a": 1, "c": 3}]}, FIELDS)


def test_declared_default_equals_missing() -> None:
    for one, other in (("all()", None), (None, "all()"), ("", "all()"), ("all()", "")):
        assert matches({"selector": one}, {"selector": other}, FIELDS)
    assert not matches({"selector": "all()"}, {"selector": "has(x)"}, FIELDS)
    assert not matches({"selector": None}, {"selector": "has(x)"}, FIELDS)
    assert matches({"number": 0}, {}, FIELDS)
    assert not matches({"number": 1}, {}, FIELDS)


def test_differing_fields_are_listed_in_order() -> None:
    wanted = {"off": False, "b": 1, "a": "x", "uses": [1, 2], "gone": None}
    assert differing_fields(wanted, {"b": 2, "a": "y", "uses": [2, 1], "gone": "there"}, FIELDS) == ["b", "a", "gone"]
    assert differing_fields(wanted, None, FIELDS) == ["b", "a", "uses"]
    assert differing_fields({"off": False}, None, FIELDS) == []


# -- properties ------------------------------------------------------------------------------------------------------

NETWORKS = st.builds(
    lambda number, length: str(IPv6Network((number >> (128 - length) << (128 - length), length))),
    st.integers(0, 2**128 - 1),
    st.integers(8, 128),
)
LEAVES = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "10.0.0.0/8"]), NETWORKS, st.just(None))
NAMES = st.sampled_from(["a", "b", "uses", "peers", "list"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


def is_empty(value: Any) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}


def as_shown(value: Any, rng: random.Random, name: str = "") -> Any:
    """The same as an API server may show it: all four at once."""
    if isinstance(value, dict):
        shown = {key: as_shown(item, rng, key) for key, item in value.items()}
        kept = {key: item for key, item in shown.items() if not is_empty(item)}
        return {**kept, "added": "default"} if kept else {}
    if isinstance(value, list):
        items = [as_shown(item, rng, name) for item in value]
        return rng.sample(items, len(items)) if name in FIELDS.unordered else items
    if isinstance(value, str) and ":" in value:
        return IPv6Network(value).exploded.upper()
    return value


@given(OBJECTS, st.randoms(use_true_random=False))
def test_object_matches_itself_in_any_normalized_form(wanted: dict[str, Any], rng: random.Random) -> None:
    assert matches(wanted, wanted, FIELDS)
    assert matches(wanted, as_shown(wanted, rng), FIELDS)
    assert differing_fields(wanted, as_shown(wanted, rng), FIELDS) == []


@given(OBJECTS, NAMES, LEAVES, LEAVES, st.randoms(use_true_random=False))
def test_changed_value_is_detected_in_any_normalized_form(
    others: dict[str, Any], name: str, one: Any, other: Any, rng: random.Random
) -> None:
    same = (is_empty(one) and is_empty(other)) or (one == other and isinstance(one, bool) == isinstance(other, bool))
    shown = as_shown({**others, name: other}, rng)
    assert differing_fields({**others, name: one}, shown, FIELDS) == ([] if same else [name])


@given(VALUES, VALUES)
def test_matches_never_raises(one: Any, other: Any) -> None:
    assert matches(one, other, FIELDS) in (True, False)
