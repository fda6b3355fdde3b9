"""Replace a name of the standard library also where modules of the program have imported it already."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tests.golden.seam import PACKAGE


def replace(owner: Any, name: str, replacement: Any) -> None:
    """Replace an attribute of a module or class of a library."""
    setattr(owner, name, replacement)


def rebind(module: ModuleType, name: str, replacement: Any) -> None:
    """Replace a module's attribute, and every global of the program's modules that is the same object."""
    original = getattr(module, name)
    setattr(module, name, replacement)
    for importer in [found for key, found in sys.modules.items() if key.partition(".")[0] == PACKAGE]:
        for key, value in vars(importer).copy().items():
            if value is original:
                setattr(importer, key, replacement)
