"""The fixtures of the tests of kube, for those of the engine."""

from __future__ import annotations

from tests.unit.kube.conftest import _no_cluster, api, clock, server, warnings

__all__ = ["_no_cluster", "api", "clock", "server", "warnings"]
