"""Options of commands as they are where no flag was given."""

from __future__ import annotations

import dataclasses
from typing import Any


def unsaid(options: type[Any]) -> dict[str, Any]:
    """Every field of an options class: an empty tuple for what may be repeated, else None."""
    return {field.name: () if "tuple" in str(field.type) else None for field in dataclasses.fields(options)}
