"""A list parsed in pieces equals the list parsed whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.kube.client import MIN_REMAINING_FOR_CACHE, PAGE_SIZE, Api
from kubectl_yoshi.kube.list_stream import ListItemParser
from kubectl_yoshi.model.objects import Resource
from tests.unit.kube.fault_server import FaultServer, cuts_within, refuses, says

THINGS = Resource("try.example", "v1", "things", "Thing")
LEAVES = st.text(max_size=5) | st.integers() | st.none() | st.sampled_from(['"items":[', "]", "}{", "ü€𝄞", "\\"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
ITEMS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=5)


def taken(text: bytes, size: int) -> tuple[list[Any], Any]:
    coming = ListItemParser()
    items = [item for at in range(0, len(text), size) for item in coming.feed(text[at : at + size])]
    return items, coming.list_without_items()


@given(ITEMS, st.integers(1, 40), st.booleans(), st.booleans())
def test_streamed_list_equals_the_parsed_document(
    items: list[Any], size: int, sorted_keys: bool, ascii_only: bool
) -> None:
    whole = {"kind": "ThingList", "metadata": {"resourceVersion": "7"}, "items": items}
    text = json.dumps(whole, separators=(",", ":"), sort_keys=sorted_keys, ensure_ascii=ascii_only).encode()
    assert taken(text, size) == (items, {**whole, "items": []})


@pytest.mark.parametrize(
    "text", [b'{"items":[{"a":1},{"b"', b'{"items":[{"a":1}', b"<html>", b'{"items":[nonsense]}', b""]
)
def test_truncated_or_invalid_list_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        taken(text, 8)


# -- the API's lists -------------------------------------------------------------------------------------------------


def page(first: int, last: int, more: str = "", left: int = 0) -> dict[str, Any]:
    items = [{"metadata": {"name": f"a-{number}"}} for number in range(first, last)]
    meta = {"resourceVersion": "41", **({"continue": more, "remainingItemCount": left} if more else {})}
    return {"kind": "ThingList", "apiVersion": "try.example/v1", "metadata": meta, "items": items}


def names(items: tuple[Any, ...]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def test_long_list_is_read_in_one_response_not_older_than_its_first_page(api: Api, server: FaultServer) -> None:
    count = PAGE_SIZE + MIN_REMAINING_FOR_CACHE
    whole = page(0, count)
    whole["metadata"]["resourceVersion"] = "43"
    server.then(
        says(200, page(0, PAGE_SIZE, "next", MIN_REMAINING_FOR_CACHE)),
        says(200, json.dumps(whole, separators=(",", ":"))),
    )
    listing = api.listing(THINGS, "prod", transform=lambda obj: {"metadata": obj["metadata"], "kind": obj["kind"]})
    assert names(listing.items) == [f"a-{number}" for number in range(count)]
    assert listing.items[0] == {"metadata": {"name": "a-0"}, "kind": "Thing"}
    assert listing.resource_version == "43"
    assert len(server.requests) == 2
    asked = server.requests[1].path.partition("?")[2].split("&")
    assert set(asked) == {"resourceVersion=41", "resourceVersionMatch=NotOlderThan"}


def test_shorter_list_is_read_in_pages(api: Api, server: FaultServer) -> None:
    server.then(
        says(200, page(0, PAGE_SIZE, "next", MIN_REMAINING_FOR_CACHE - 1)), says(200, page(PAGE_SIZE, PAGE_SIZE + 9))
    )
    assert len(api.list(THINGS, "prod")) == PAGE_SIZE + 9
    assert "continue=next" in server.requests[1].path


@pytest.mark.parametrize(
    "trouble",
    [
        cuts_within,
        refuses(400, "BadRequest", "resourceVersionMatch is forbidden"),
        refuses(504, "Timeout", "Too large resource version"),
        says(200, '{"kind":"ThingList","items":[{"metadata":{"name":"a-0"}}'),
        says(200, "<html>"),
    ],
)
def test_failed_streamed_list_falls_back_to_pages(api: Api, server: FaultServer, trouble: Any) -> None:
    last = page(PAGE_SIZE, PAGE_SIZE + MIN_REMAINING_FOR_CACHE)
    server.then(says(200, page(0, PAGE_SIZE, "next", MIN_REMAINING_FOR_CACHE)), trouble, says(200, last))
    assert names(api.list(THINGS, "prod")) == [f"a-{number}" for number in range(PAGE_SIZE + MIN_REMAINING_FOR_CACHE)]
    assert "continue=next" in server.requests[-1].path
