"""Whether an object that was read already says what is wanted.

An API server does not show an object as it was written. It may omit what is false or empty (Go's `omitempty`; Calico's
aggregated API server does so to IPPools), add defaults, order lists in its own way and write IPv6 addresses in another
form. A plain comparison would find a difference that no patch removes.

So a missing field equals a false or empty one, fields that are not wanted may be there, and IPv6 addresses are compared
by value; which lists have no order, which maps must be whole and what a missing field means, each backend declares by
the names of the fields (`Fields`). A patch then sets only what differs, and tests what was read: a field that is not
shown is tested to be absent. Compared exactly are NetworkWizards and AddressBlocks, which the API server keeps as they
are written and where an empty map has a meaning, annotations, ConfigMaps, and the `config` of a
NetworkAttachmentDefinition, which is a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Interface, ip_interface
from typing import Any

from kubectl_yoshi.model.jsonpatch import same_json


@dataclass(frozen=True)
class Fields:
    """The meaning of a kind's fields, by field name at any depth.

    Attributes:
        unordered: lists whose order has no meaning.
        whole: maps and lists that must not have additional entries, such as labels and selectors.
        defaults: the meaning of a missing or empty field, if that is neither false nor empty.
    """

    unordered: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_FIELDS = Fields()


def matches(wanted: Any, observed: Any, fields: Fields = DEFAULT_FIELDS, name: str = "") -> bool:
    """Return whether a value that was read matches the wanted one.

    A false or empty value equals a missing one; 0 does not, unless it is declared as the default. Fields that `wanted`
    does not contain are ignored. IPv6 addresses and CIDRs are compared by value. true is not 1.

    Args:
        wanted: the wanted value; None, also inside a map, for a value that must be absent.
        observed: the value read; None if it is missing.
        fields: the meaning of the fields by name.
        name: the name of the field that has the value.
    """
    return _matches(wanted, observed, fields, name, whole=name in fields.whole)


def differing_fields(wanted: Mapping[str, Any], observed: Mapping[str, Any] | None, fields: Fields) -> list[str]:
    """Return the fields of `wanted`, in its order, that do not match what was read."""
    current = observed or {}
    return [name for name, value in wanted.items() if not matches(value, current.get(name), fields, name)]


def without_absent(value: Any) -> Any:
    """Return a wanted value as it is written: without the map fields that must be absent (None)."""
    if isinstance(value, Mapping):
        return {key: without_absent(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_absent(item) for item in value]
    return value


def _matches(wanted: Any, observed: Any, fields: Fields, name: str, whole: bool) -> bool:
    default = fields.defaults.get(name)
    if _is_empty(wanted, default) and _is_empty(observed, default):
        return True
    if isinstance(wanted, Mapping) and isinstance(observed, Mapping):
        keys = [*wanted, *observed] if whole else [*wanted]
        return all(
            _matches(wanted.get(key), observed.get(key), fields, key, whole or key in fields.whole) for key in keys
        )
    if isinstance(wanted, list) and isinstance(observed, list):
        if len(wanted) != len(observed):
            return False
        if name in fields.unordered:
            return _can_be_paired([[_matches(one, other, fields, name, whole) for other in observed] for one in wanted])
        return all(_matches(one, other, fields, name, whole) for one, other in zip(wanted, observed, strict=True))
    if isinstance(wanted, str) and isinstance(observed, str):
        return wanted == observed or _same_ipv6(wanted, observed)
    return same_json(wanted, observed)


def _is_empty(value: Any, default: Any) -> bool:
    """Return whether a value is false, empty, missing, or equal to the default."""
    if isinstance(value, Mapping):
        return all(_is_empty(item, None) for item in value.values())
    if value is None or value is False or value == "" or value == []:
        return True
    return default is not None and same_json(value, default)


def _can_be_paired(fits: Sequence[Sequence[bool]]) -> bool:
    """Return whether each row can be paired with a different matching column (augmenting paths, Kuhn's algorithm)."""
    row_of: dict[int, int] = {}

    def find_column(row: int, tried: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in tried:
                tried.add(column)
                if column not in row_of or find_column(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    return all(find_column(row, set()) for row in range(len(fits)))


def _same_ipv6(one: str, other: str) -> bool:
    """Return whether two texts are the same IPv6 address, CIDR or address range."""
    if ":" not in one or ":" not in other:
        return False
    first = _ipv6_values(one.split("-"))
    return first is not None and first == _ipv6_values(other.split("-"))


def _ipv6_values(texts: Iterable[str]) -> list[tuple[IPv6Interface, bool]] | None:
    """Return each address and whether it has a prefix length; None if one of the texts is not an IPv6 address."""
    values = []
    for text in texts:
        try:
            value = ip_interface(text.strip())
        except ValueError:
            return None
        if not isinstance(value, IPv6Interface):
            return None
        values.append((value, "/" in text))
    return values
