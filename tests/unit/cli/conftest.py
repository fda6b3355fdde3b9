"""The cluster that a command is run on."""

from __future__ import annotations

import pytest

from tests.unit.plan.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """KubeVirt and Calico, with network prod/blue, 10.133.0.0/24."""
    made = FakeCluster()
    made.network()
    return made
