"""Parse durations as kubectl's flags take them, and format them for messages."""

from __future__ import annotations

import re

from kubectl_yoshi.model.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration ("30s", "1m30s", "1.5h", "500ms"), or of a plain number of seconds.

    Raises:
        UsageError: the text is not a duration.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if not re.fullmatch(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+", text):
        raise UsageError(f'"{text}" is not a duration; write it as 30s, 2m or 1h30m')
    return sum(float(count) * _UNITS[unit] for count, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text))


def format_duration(seconds: float) -> str:
    """Format a duration for messages: "42s", "4m12s", "1h5m"; at least one second."""
    total = max(int(seconds + 0.999), 1)
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    return f"{rest}s"
