"""The cluster that a command is run on."""

from __future__ import annotations

import pytest

from tests.unit.plan.fake_cluster import World


@pytest.fixture
def world() -> World:
    """KubeVirt and Calico, with network prod/blue, 10.133.0.0/24."""
    made = World()
    made.network()
    return made
