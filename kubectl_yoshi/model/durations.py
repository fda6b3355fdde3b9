"""Durations as kubectl's flags take them."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds of a Go duration ("30s", "1m30s", "1.5h", "500ms") or a plain number of them; None where it is none."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        return None
    return sum(float(count) * _UNITS[unit] for count, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text))
