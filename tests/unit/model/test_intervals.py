"""Intervals compared with a set of ints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.addresses import Intervals

ENDS = st.integers(0, 60)
SPANS = st.lists(st.tuples(ENDS, ENDS), max_size=8)
HUGE = st.integers(0, (1 << 128) - 1)


def numbers_of(spans: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


def is_normal(intervals: Intervals) -> bool:
    """Sorted, none empty, none touching the next."""
    ends = [end for span in intervals.spans for end in span]
    gaps = [after[0] - before[1] for before, after in zip(intervals.spans, intervals.spans[1:], strict=False)]
    return ends == sorted(ends) and all(gap > 1 for gap in gaps)


@given(SPANS)
def test_from_spans_is_the_set_of_their_numbers(spans: list[tuple[int, int]]) -> None:
    made = Intervals.from_spans(spans)
    assert set(made) == numbers_of(spans)
    assert list(made) == sorted(numbers_of(spans))
    assert is_normal(made)
    assert bool(made) == bool(numbers_of(spans))


@given(SPANS)
def test_equal_sets_compare_equal(spans: list[tuple[int, int]]) -> None:
    assert (
        Intervals.from_spans(spans)
        == Intervals.from_numbers(numbers_of(spans))
        == Intervals.from_spans(reversed(spans))
    )
    assert hash(Intervals.from_spans(spans)) == hash(Intervals.from_numbers(numbers_of(spans)))


@given(SPANS, SPANS)
def test_union_intersection_and_difference_match_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b, mine, theirs = Intervals.from_spans(one), Intervals.from_spans(other), numbers_of(one), numbers_of(other)
    for result, wanted in ((a | b, mine | theirs), (a & b, mine & theirs), (a - b, mine - theirs)):
        assert set(result) == wanted
        assert is_normal(result)


@given(SPANS)
def test_contains_matches_sets(spans: list[tuple[int, int]]) -> None:
    made, model = Intervals.from_spans(spans), numbers_of(spans)
    for number in range(-1, 63):
        assert (number in made) == (number in model)


@given(SPANS)
def test_size_and_nth_match_sorted_members(spans: list[tuple[int, int]]) -> None:
    made, model = Intervals.from_spans(spans), sorted(numbers_of(spans))
    assert made.size == len(model)
    assert [made.nth(index) for index in range(made.size)] == model
    with pytest.raises(IndexError):
        made.nth(made.size)


@given(SPANS, SPANS, st.none() | ENDS)
def test_first_not_in_returns_the_lowest_from_the_start(
    one: list[tuple[int, int]], other: list[tuple[int, int]], start: int | None
) -> None:
    free = [n for n in sorted(numbers_of(one) - numbers_of(other)) if start is None or n >= start]
    assert Intervals.from_spans(one).first_not_in(Intervals.from_spans(other), start) == (free[0] if free else None)


@given(HUGE, HUGE, HUGE, HUGE)
def test_arithmetic_is_exact_for_ipv6_numbers(a: int, b: int, c: int, d: int) -> None:
    one, other = Intervals.from_spans([(min(a, b), max(a, b))]), Intervals.from_spans([(min(c, d), max(c, d))])
    assert (one | other).size == one.size + other.size - (one & other).size
    assert (one - other) | (one & other) == one
    assert not (one - other) & other
    assert len((one - other).spans) <= 2


class Counting(int):
    """A number that counts how often numbers are compared."""

    compared = 0

    def __lt__(self, other: Any) -> bool:
        Counting.compared += 1
        return int(self) < int(other)


def test_first_not_in_is_logarithmic_in_the_runs() -> None:
    runs = 1 << 14
    held = Intervals(tuple((Counting(10 * n), Counting(10 * n + 5)) for n in range(runs)))
    Counting.compared = 0
    start = 10 * (runs // 2)
    assert Intervals.from_spans([(0, 10 * runs)]).first_not_in(held, start) == start + 6
    assert Counting.compared <= 2 * 3 * runs.bit_length()


def test_len_is_not_supported() -> None:
    with pytest.raises(TypeError, match="size"):
        len(Intervals.from_spans([(0, 1)]))
