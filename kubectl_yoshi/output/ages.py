"""Ages as kubectl shows them (k8s.io/apimachinery/pkg/util/duration.HumanDuration)."""

from __future__ import annotations

from datetime import datetime, timezone

UNKNOWN = "<unknown>"


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """The age of something made at an RFC 3339 time: "5s", "3m12s", "2d3h"; "<unknown>" where there is no time."""
    if not timestamp:
        return UNKNOWN
    try:
        created = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return UNKNOWN
    if created.tzinfo is None:
        created = created.replace(tzinfo=timezone.utc)
    return human_duration(((now or datetime.now(timezone.utc)) - created).total_seconds())


def human_duration(seconds: float) -> str:
    """A time span in at most two units, with kubectl's thresholds."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    minutes, hours = total // 60, total // 3600
    days = hours // 24
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
