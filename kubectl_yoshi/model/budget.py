"""How large an object may become.

etcd takes no request of more than 1.5 MiB (https://etcd.io/docs/v3.6/dev-guide/limit/), and whoever lists an object
pays for all of it. So nothing is written that would pass LARGEST; what several writers add at the same moment stays
below etcd's limit.
"""

from __future__ import annotations

import json
from typing import Any

from kubectl_yoshi.model.change import Change, Verb, applied
from kubectl_yoshi.model.errors import Refused

LARGEST = 1 << 20
"""Bytes of an object as JSON, which is how etcd holds custom resources."""


def size_of(value: Any) -> int:
    """Bytes of a value as compact JSON in UTF-8."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def size_after(change: Change) -> int:
    """Bytes of an object after a change, as far as it is known what it was before; 0 where nothing is added."""
    if change.verb in (Verb.CREATE, Verb.REPLACE):
        return size_of(change.body)
    if change.verb is Verb.APPLY:
        return size_of(change.before or {}) + size_of(change.body)
    if change.verb is not Verb.PATCH:
        return 0
    added = sum(len(op["path"]) + size_of(op["value"]) for op in change.body if op["op"] in ("add", "replace"))
    if not added:
        return 0
    most = size_of(change.before or {}) + added
    return most if most <= LARGEST or change.before is None else size_of(applied(change.body, change.before))


def must_fit(change: Change) -> None:
    """Refuses a change after which its object would be too large, unless it becomes smaller by it.

    Raises:
        Refused: it would.
    """
    size = size_after(change)
    if size <= LARGEST or (change.before is not None and size <= size_of(change.before)):
        return
    raise Refused(
        f"{change.ref} would become {size / LARGEST:.2f} MiB, and more than 1 MiB is never written to one object",
        "Use another network for more, or shorter notes; `kubectl yoshi network describe` shows how full each is.",
    )
