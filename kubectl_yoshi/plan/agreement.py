"""Whether a network that is there says what is asked for."""

from __future__ import annotations

import json

from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.network import parse_network
from kubectl_yoshi.model.objects import Json, name_of, namespace_of


def must_agree(there: Json, wanted: Json) -> None:
    """A network of that name may only be "made" again if it says the same.

    Raises:
        Refused: it says something else.
        UsageMistake: it cannot be read rightly.
    """
    if differing := _difference(there, wanted):
        key, theirs, mine = differing
        raise Refused(
            f"network {namespace_of(there)}/{name_of(there)} exists already, with another {key}: "
            f"{theirs} instead of {mine}",
            "Choose another name, or delete it first; other fields than cidr and plugin: kubectl edit.",
        )


def must_be_as_made(there: Json, wanted: Json) -> None:
    """A network that this run made must say what was asked for, whatever webhooks and old CRDs make of it.

    Raises:
        Refused: it says something else.
    """
    try:
        differing = _difference(there, wanted)
    except UsageMistake as mistake:
        differs = mistake.message
    else:
        if not differing:
            return
        differs = "{} is {} instead of {}".format(*differing)
    raise Refused(
        f"network {namespace_of(there)}/{name_of(there)} was not kept as it was asked for: {differs}",
        "See whether a webhook changes it, or the CRD is an older one: kubectl yoshi version.",
    )


def _difference(there: Json, wanted: Json) -> tuple[str, str, str] | None:
    """The path of the first field of the spec in which two networks differ, what is there, and what is wanted; None
    where they say the same."""
    theirs, mine = _spec_as_compared(there), _spec_as_compared(wanted)
    for key in sorted({*mine, *theirs}):
        if mine.get(key) != theirs.get(key):
            return key, _written(theirs.get(key)), _written(mine.get(key))
    return None


def _spec_as_compared(obj: Json) -> Json:
    """The spec's fields by their paths, such as "calico.blockSize"; empty ones count as absent."""
    fields: Json = {}
    for key, value in (obj.get("spec") or {}).items():
        inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
        fields |= {path: item for path, item in inner.items() if item not in (None, [], {}, "")}
    network = parse_network(obj)
    if network.cidr is not None:
        fields["cidr"] = str(network.cidr)
    return fields


def _written(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
