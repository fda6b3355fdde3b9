"""Map plugin names to backends. A new backend is a folder here and two lines in this module.

A backend is imported when it is first used: most commands need one only, and importing all takes a tenth of the time of
a `vm attach`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from kubectl_yoshi.model.backend import Backend


@cache
def _calico() -> Backend:
    from kubectl_yoshi.backends.calico.backend import Calico

    return Calico()


@cache
def _public() -> Backend:
    from kubectl_yoshi.backends.public.backend import Public

    return Public()


@cache
def _ovs() -> Backend:
    from kubectl_yoshi.backends.ovs.backend import Ovs

    return Ovs()


class _Backends(Mapping[str, Backend]):
    """The backends by plugin."""

    _factories: Mapping[str, Callable[[], Backend]] = {"calico": _calico, "public": _public, "ovs": _ovs}

    def __getitem__(self, plugin: str) -> Backend:
        return self._factories[plugin]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

    def __contains__(self, plugin: object) -> bool:
        return plugin in self._factories


BACKENDS: Mapping[str, Backend] = _Backends()
