"""A failed read ends the planning: no planner treats it as absence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest

from kubectl_yoshi.engine.read import run_queries
from kubectl_yoshi.kube.errors import UnreachableError
from kubectl_yoshi.model.snapshot import Answer, Query, ServedApis, Snapshot
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.gc import GcRequest, plan_gc
from kubectl_yoshi.plan.network.deletion import NetworkDeleteRequest, plan_network_deletion
from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
from kubectl_yoshi.plan.network.update import NetworkUpdateRequest, plan_network_update
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from kubectl_yoshi.plan.sync.planner import SyncScope, plan_sync
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster, wizard


class FailingReader:
    """Reads from the fake API server; one round of reads fails.

    Attributes:
        rounds: how many rounds there were.
    """

    def __init__(self, cluster: FakeCluster, failing: int) -> None:
        self._cluster, self._failing = cluster, failing
        self.rounds = 0

    @property
    def served(self) -> ServedApis:
        return self._cluster.api.served

    def read(self, queries: Sequence[Query]) -> Mapping[Query, Answer]:
        self.rounds += 1
        if self.rounds == self._failing:
            raise UnreachableError("the API server does not answer")
        return run_queries(self._cluster.api, queries)  # type: ignore[arg-type]


def context(reader: FailingReader) -> PlanContext:
    return PlanContext(Snapshot(reader=reader), BACKENDS, RunContext())


BLUE = ("prod", "blue")
WEB_1 = (("prod", "web-1"),)
PLANNERS: dict[str, Callable[[PlanContext], object]] = {
    "attach": partial(plan_attach, AttachRequest(BLUE, WEB_1, restart=True)),
    "detach": partial(plan_detach, DetachRequest(BLUE, WEB_1)),
    "gc": partial(plan_gc, GcRequest(None, "prod", 0)),
    "network": partial(plan_network, NetworkRequest(*BLUE)),
    "new network": partial(plan_network, NetworkRequest("prod", "red", wizard("red", "10.134.0.0/20"))),
    "network update": partial(plan_network_update, NetworkUpdateRequest(*BLUE, {("range_end",): "10.133.0.99"})),
    "network delete": partial(plan_network_deletion, NetworkDeleteRequest(*BLUE, force=True)),
    "rebuild": partial(plan_rebuild, RebuildRequest(None, None)),
    "sync": partial(plan_sync, SyncScope(None)),
}


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
@pytest.mark.parametrize("name", PLANNERS)
def test_failed_read_in_any_round_ends_the_planning(name: str, cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.running()
    cluster.attach()
    cluster.vm("web-2")
    whole = FailingReader(cluster, failing=0)
    PLANNERS[name](context(whole))
    assert whole.rounds
    for failing in range(1, whole.rounds + 1):
        with pytest.raises(UnreachableError):
            PLANNERS[name](context(FailingReader(cluster, failing)))
