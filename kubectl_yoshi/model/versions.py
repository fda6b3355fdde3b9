"""Versions of this program, as CRDs and networks name them."""

from __future__ import annotations

import re

from kubectl_yoshi import __version__


def is_newer(version: str) -> bool:
    """Whether a version, such as "0.10.0", is a later one than this; "" is none."""
    return _numbers(version) > _numbers(__version__)


def _numbers(version: str) -> tuple[int, ...]:
    """A version as it is compared: 0.10.0 is later than 0.9.1; () where there is none."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
