"""Whether a network that is there says what is asked for."""

from __future__ import annotations

import json

from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import parse_network
from kubectl_yoshi.model.objects import Json, name_of, namespace_of


def check_spec_matches(existing: Json, requested: Json) -> None:
    """A network of that name may only be "made" again if it says the same.

    Raises:
        PreconditionFailed: it says something else.
        UsageError: it cannot be read rightly.
    """
    if difference := _first_difference(existing, requested):
        key, existing_value, requested_value = difference
        raise PreconditionFailed(
            f"network {namespace_of(existing)}/{name_of(existing)} exists already, with another {key}: "
            f"{existing_value} instead of {requested_value}",
            "Choose another name, or delete it first; other fields than cidr and plugin: kubectl edit.",
        )


def check_created_spec(existing: Json, requested: Json) -> None:
    """A network that this run made must say what was asked for, whatever webhooks and old CRDs make of it.

    Raises:
        PreconditionFailed: it says something else.
    """
    try:
        difference = _first_difference(existing, requested)
    except UsageError as error:
        detail = error.message
    else:
        if not difference:
            return
        detail = "{} is {} instead of {}".format(*difference)
    raise PreconditionFailed(
        f"network {namespace_of(existing)}/{name_of(existing)} was not kept as it was asked for: {detail}",
        "See whether a webhook changes it, or the CRD is an older one: kubectl yoshi version.",
    )


def _first_difference(existing: Json, requested: Json) -> tuple[str, str, str] | None:
    """The path of the first field of the spec in which two networks differ, what is there, and what is wanted; None
    where they say the same."""
    existing_value, requested_value = _comparable_spec(existing), _comparable_spec(requested)
    for key in sorted({*requested_value, *existing_value}):
        if requested_value.get(key) != existing_value.get(key):
            return key, _format_value(existing_value.get(key)), _format_value(requested_value.get(key))
    return None


def _comparable_spec(obj: Json) -> Json:
    """The spec's fields by their paths, such as "calico.blockSize"; empty ones count as absent."""
    fields: Json = {}
    for key, value in (obj.get("spec") or {}).items():
        inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
        fields |= {path: item for path, item in inner.items() if item not in (None, [], {}, "")}
    network = parse_network(obj)
    if network.cidr is not None:
        fields["cidr"] = str(network.cidr)
    return fields


def _format_value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
