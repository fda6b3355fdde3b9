"""Writes as the API server applies them: to a subresource, and JSON Patch.

It patches with the library evanphx/json-patch, whose `test` is laxer than RFC 6902:

what                                RFC 6902   API server
----------------------------------  ---------  ----------
test of null where the key misses   fails      holds
test of null under a missing key    fails      fails
test of null where null is          holds      holds
add or remove under a missing key   fails      fails
remove of a missing key             fails      fails

tests/cluster tries the first line on a real one.
"""

from __future__ import annotations

import copy
from typing import Any


class DoesNotFit(Exception):
    """The whole patch is refused."""


def apply_patch(ops: list[dict[str, Any]], obj: Any) -> Any:
    """Return the patched object; the input is not changed.

    Raises:
        DoesNotFit: a test does not hold, or a path is missing.
    """
    result = copy.deepcopy(obj)
    for op in ops:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
        here = result
        for key in parents:
            here = _look(here, key)
            if not isinstance(here, dict | list):
                raise DoesNotFit(op)
        if op["op"] == "test":
            there = _look(here, last)
            if there != op["value"] or isinstance(there, bool) != isinstance(op["value"], bool):
                raise DoesNotFit(op)
        elif isinstance(here, list):
            _in_list(here, last, op)
        elif not isinstance(here, dict):
            raise DoesNotFit(op)
        elif op["op"] == "add":
            here[last] = copy.deepcopy(op["value"])
        elif last not in here:
            raise DoesNotFit(op)
        elif op["op"] == "replace":
            here[last] = copy.deepcopy(op["value"])
        else:
            del here[last]
    return result


def _look(here: Any, key: str) -> Any:
    if isinstance(here, list):
        return here[int(key)] if key.isdecimal() and int(key) < len(here) else None
    return here.get(key) if isinstance(here, dict) else None


def _in_list(here: list[Any], last: str, op: dict[str, Any]) -> None:
    index = len(here) if last == "-" else int(last)
    if op["op"] == "add" and index <= len(here):
        here.insert(index, copy.deepcopy(op["value"]))
    elif op["op"] == "replace" and index < len(here):
        here[index] = copy.deepcopy(op["value"])
    elif op["op"] == "remove" and index < len(here):
        del here[index]
    else:
        raise DoesNotFit(op)


def only_subresource(subresource: str, after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return the object with only the status changed by a status write, or all but the status by others."""
    outside, status = (before, after) if subresource == "status" else (after, before)
    result = {key: copy.deepcopy(value) for key, value in outside.items() if key != "status"}
    if "status" in status:
        result["status"] = copy.deepcopy(status["status"])
    return result
