"""Commands that go on: lists with -w, and sync --watch."""

from __future__ import annotations

import os
import signal

from tests.golden.cluster import NETWORKS, Cluster, vms
from tests.golden.controllers import VMS
from tests.golden.scenario import Run, Scenario, Step, Watch, prepare
from tests.golden.scenarios.calico import BLUE
from tests.golden.watches import Watches

WANTS = "plumber.k8s.pf9.io/networkName"


def refuse(cluster: Cluster, watches: Watches) -> None:
    watches.refuse()


def terminate(cluster: Cluster, watches: Watches) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def add_network(cluster: Cluster, watches: Watches) -> None:
    cluster.network("red", plugin="calico", cidr="10.21.0.0/24")


def delete_network(cluster: Cluster, watches: Watches) -> None:
    cluster.server.remove(NETWORKS, "prod", "red")


def ask_for_network(cluster: Cluster, watches: Watches) -> None:
    cluster.server.edit(VMS, "prod", "web-2", lambda vm: vm["metadata"].update(annotations={WANTS: "blue"}))


def ask_for_nothing_that_exists(cluster: Cluster, watches: Watches) -> None:
    cluster.server.edit(VMS, "prod", "web-1", lambda vm: vm["metadata"]["annotations"].update({WANTS: "nowhere"}))


BEFORE: list[Step] = [vms("web-1", "web-2"), *prepare(BLUE, "vm attach web-1 --network blue")]

SCENARIOS = [
    Scenario(
        "network list",
        [
            *BEFORE,
            Run("network list -w", watch=Watch(2, [("blue", add_network), ("red", delete_network), ("red", refuse)])),
        ],
        real_waits=True,
    ),
    Scenario(
        "vm list and ips list",
        [
            *BEFORE,
            Run("vm list -w", watch=Watch(3, [("web-1", refuse)])),
            Run("ips list -w", watch=Watch(4, [("web-1", refuse)])),
        ],
        real_waits=True,
    ),
    Scenario(
        "sync of a namespace",
        [
            *BEFORE,
            Run(
                "sync --watch",
                watch=Watch(
                    2,
                    [
                        ("watching", ask_for_network),
                        ("web-2", add_network),
                        ("red", ask_for_nothing_that_exists),
                        ("nowhere", terminate),
                    ],
                ),
            ),
        ],
        real_waits=True,
    ),
    Scenario(
        "sync of all namespaces",
        [*BEFORE, Run("sync -A --watch", watch=Watch(2, [("watching", terminate)]))],
        real_waits=True,
    ),
]
