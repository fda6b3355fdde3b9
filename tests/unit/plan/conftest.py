"""The cluster that a test plans in."""

from __future__ import annotations

import pytest

from tests.unit.plan.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """KubeVirt and a Calico that keeps VMs' addresses, with network prod/blue, 10.133.0.0/24."""
    made = FakeCluster()
    made.network()
    return made


@pytest.fixture
def old_calico() -> FakeCluster:
    """The same with a Calico that forgets a VM's address when it stops (before v3.32)."""
    made = FakeCluster(keeps=False)
    made.network()
    return made
