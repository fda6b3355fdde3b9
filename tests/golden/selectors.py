"""Label selectors as the API server takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

TERM = re.compile(
    r"\s*(?:(?P<absent>!)?(?P<name>[\w./-]+)\s*(?:(?P<operator>==|!=|=)\s*(?P<value>[\w.-]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*"
)


class BadSelector(Exception):
    """The text is no label selector."""


def labels_match(selector: str, labels: Mapping[str, str]) -> bool:
    """Return whether labels match a selector; "" matches all.

    Raises:
        BadSelector: the selector cannot be parsed.
    """
    return all(_matches(term, labels) for term in re.split(r",(?![^(]*\))", selector) if selector)


def _matches(term: str, labels: Mapping[str, str]) -> bool:
    match = TERM.fullmatch(term)
    if match is None:
        raise BadSelector(term)
    value = labels.get(match["name"])
    if match["operator"]:
        return (value == match["value"]) is (match["operator"] != "!=")
    if match["set"]:
        return (value in re.split(r"\s*,\s*", match["values"].strip())) is (match["set"] == "in")
    return (value is None) is bool(match["absent"])
