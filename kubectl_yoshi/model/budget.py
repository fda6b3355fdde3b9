"""How large an object may become.

etcd takes no request of more than 1.5 MiB (https://etcd.io/docs/v3.6/dev-guide/limit/), and whoever lists an object
pays for all of it. So nothing is written that would pass LARGEST; what several writers add at the same moment stays
below etcd's limit.
"""

from __future__ import annotations

import json
from typing import Any

from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import apply_json_patch
from kubectl_yoshi.model.plan import Change, Verb

MAX_OBJECT_BYTES = 1 << 20
"""Bytes of an object as JSON, which is how etcd holds custom resources."""


def json_size(value: Any) -> int:
    """Bytes of a value as compact JSON in UTF-8."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def size_after_change(change: Change) -> int:
    """Bytes of an object after a change, as far as it is known what it was before; 0 where nothing is added."""
    if change.verb in (Verb.CREATE, Verb.REPLACE):
        return json_size(change.body)
    if change.verb is Verb.APPLY:
        return json_size(change.before or {}) + json_size(change.body)
    if change.verb is not Verb.PATCH:
        return 0
    added = sum(len(op["path"]) + json_size(op["value"]) for op in change.body if op["op"] in ("add", "replace"))
    if not added:
        return 0
    upper_bound = json_size(change.before or {}) + added
    return (
        upper_bound
        if upper_bound <= MAX_OBJECT_BYTES or change.before is None
        else json_size(apply_json_patch(change.body, change.before))
    )


def check_size(change: Change) -> None:
    """Refuses a change after which its object would be too large, unless it becomes smaller by it.

    Raises:
        PreconditionFailed: it would.
    """
    size = size_after_change(change)
    if size <= MAX_OBJECT_BYTES or (change.before is not None and size <= json_size(change.before)):
        return
    raise PreconditionFailed(
        f"{change.ref} would become {size / MAX_OBJECT_BYTES:.2f} MiB, and more than 1 MiB is never written to one "
        "object",
        "Use another network for more, or shorter notes; `kubectl yoshi network describe` shows how full each is.",
    )
