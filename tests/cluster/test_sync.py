"""`sync` as real processes on a real API server: once, twice, and watching."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.testing import Cluster
from tests.cluster.harness import Json, Yoshi, get, make, make_vms, resource_versions, wizard
from tests.cluster.watching import watching
from tests.waiting import wait_for

pytestmark = pytest.mark.I7

README_NETWORK = """
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  name: newarjunpool
spec:
  plugin: "calico"
  cidr: "{cidr}"
"""
README_VM = """
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: vmcalicobridge2
  annotations:
    'plumber.k8s.pf9.io/networkName': 'newarjunpool'
spec:
  running: false
  template:
    spec:
      domain:
        devices: {{}}
"""
NETWORK_NAME = "plumber.k8s.pf9.io/networkName"
PIN = "cni.projectcalico.org/ipAddrs"
KINDS = ("networkwizards", "addressblocks", "virtualmachines", "events")

Cidr = Callable[[int], str]


def pin(cluster: Cluster, namespace: str, name: str) -> str:
    vm = get(cluster, "virtualmachine", name, namespace=namespace)
    annotations = (vm["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    return str(json.loads(annotations.get(PIN, '[""]'))[0])


def events_of(cluster: Cluster, namespace: str, name: str) -> list[Json]:
    found = get(cluster, "events", field_selector=f"involvedObject.name={name}", namespace=namespace)
    return [event for event in found["items"] if event["source"].get("component") == "kubectl-yoshi"]


# -- once ------------------------------------------------------------------------------------------------------------


def test_sync_reconciles_the_legacy_readme_network_and_vm(
    yoshi: Yoshi, cluster: Cluster, namespace: str, cidr: Cidr
) -> None:
    text = README_NETWORK.format(cidr=cidr(16)) + "---" + README_VM.format()
    cluster.kubectl("-n", namespace, "apply", "-f", "-", input=text)
    shown = yoshi.done("sync", "--dry-run")
    assert f"{namespace}.newarjunpool created (dry run)" in shown
    assert pin(cluster, namespace, "vmcalicobridge2") == ""
    assert "+  annotations:" in yoshi.done("diff", "sync", code=1)

    yoshi.done("sync")
    address = pin(cluster, namespace, "vmcalicobridge2")
    listed = json.loads(yoshi.done("ips", "list", "-o", "json"))["items"]
    assert [(row["spec"]["address"], row["status"]["state"]) for row in listed] == [(address, "Bound")]
    status = get(cluster, "networkwizard", "newarjunpool", namespace=namespace)["status"]
    assert (status["created"], status["reason"]) == (True, "")
    pool = get(cluster, "ippools.crd.projectcalico.org", f"{namespace}.newarjunpool")
    assert pool["spec"]["vxlanMode"] == "Always"

    before = resource_versions(cluster, namespace, *KINDS)
    assert yoshi.done("sync") == "unchanged: 1 network and 1 VM are as requested\n"
    assert resource_versions(cluster, namespace, *KINDS) == before
    assert yoshi.done("diff", "sync") == ""
    assert yoshi.done("ips", "check") == "1 addresses, all as recorded\n"


def test_sync_error_of_one_vm_is_an_event_and_does_not_stop_others(
    yoshi: Yoshi, cluster: Cluster, namespace: str, cidr: Cidr
) -> None:
    make(cluster, wizard(namespace, "blue", plugin="calico", cidr=cidr(24)))
    make_vms(cluster, namespace, "lost", annotations={NETWORK_NAME: "nowhere"})
    make_vms(cluster, namespace, "odd", annotations={NETWORK_NAME: "a/b/c"})
    make_vms(cluster, namespace, "web-1", "web-2", annotations={NETWORK_NAME: "blue"})
    ran = yoshi.run("sync")
    assert ran.code == 1
    assert f'network "nowhere" not found in namespace "{namespace}"' in ran.err
    assert all(pin(cluster, namespace, name) for name in ("web-1", "web-2"))
    (event,) = events_of(cluster, namespace, "lost")
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "AddressRefused", 1)
    assert event["involvedObject"]["uid"] == get(cluster, "vm", "lost", namespace=namespace)["metadata"]["uid"]
    assert "nowhere" in cluster.kubectl("-n", namespace, "describe", "vm", "lost")
    assert len(events_of(cluster, namespace, "odd")) == 1
    assert not events_of(cluster, namespace, "web-1")
    before = resource_versions(cluster, namespace, *KINDS)
    assert yoshi.run("sync").code == 1
    assert resource_versions(cluster, namespace, *KINDS) == before, "an event is not repeated each time"


def test_sync_removes_the_objects_of_a_network_deleted_with_kubectl(
    yoshi: Yoshi, cluster: Cluster, namespace: str, cidr: Cidr
) -> None:
    make(cluster, wizard(namespace, "blue", plugin="calico", cidr=cidr(24)))
    yoshi.done("sync")
    assert get(cluster, "ippools.crd.projectcalico.org", f"{namespace}.blue")
    cluster.kubectl("-n", namespace, "delete", "networkwizard", "blue")
    yoshi.done("sync")
    pools = get(cluster, "ippools.crd.projectcalico.org")["items"]
    assert f"{namespace}.blue" not in {pool["metadata"]["name"] for pool in pools}


def test_sync_writes_the_reason_of_a_failed_network_to_its_status(
    yoshi: Yoshi, cluster: Cluster, namespace: str, cidr: Cidr
) -> None:
    wide = cidr(24)
    make(cluster, wizard(namespace, "first", plugin="calico", cidr=wide))
    yoshi.done("sync")
    time.sleep(1.1)  # creation times have whole seconds
    make(cluster, wizard(namespace, "second", plugin="calico", cidr=wide.replace("/24", "/25")))
    make_vms(cluster, namespace, "web-1", annotations={NETWORK_NAME: "second"})
    assert f"overlaps network {namespace}/first" in yoshi.run("sync").err
    status = get(cluster, "networkwizard", "second", namespace=namespace)["status"]
    assert status["created"] is False
    assert f"overlaps network {namespace}/first" in status["reason"]
    assert pin(cluster, namespace, "web-1") == ""
    cluster.kubectl("-n", namespace, "delete", "networkwizard", "first")
    yoshi.done("sync")
    assert pin(cluster, namespace, "web-1")
    status = get(cluster, "networkwizard", "second", namespace=namespace)["status"]
    assert (status["created"], status["reason"]) == (True, "")


def test_concurrent_syncs_agree(yoshi: Yoshi, cluster: Cluster, namespace: str, cidr: Cidr) -> None:
    make(cluster, wizard(namespace, "blue", plugin="calico", cidr=cidr(24)))
    names = [f"web-{number}" for number in range(12)]
    make_vms(cluster, namespace, *names, annotations={NETWORK_NAME: "blue"})
    for ran in yoshi.together(*[("sync",)] * 4):
        assert ran.code == 0, str(ran)
    assert len({pin(cluster, namespace, name) for name in names}) == 12
    held = get(cluster, "networkwizard", "blue", namespace=namespace)["status"]
    assert len(held["allocations"]) == held["used"] == 12


def test_sync_usage_errors(yoshi: Yoshi) -> None:
    assert "exclude each other" in yoshi.refused("sync", "--watch", "--dry-run", code=2)
    assert "cannot be combined with diff" in yoshi.refused("diff", "sync", "--watch", code=2)


# -- watching --------------------------------------------------------------------------------------------------------


def test_sync_watch_reconciles_new_objects(
    yoshi: Yoshi, cluster: Cluster, namespace: str, cidr: Cidr, tmp_path: Path
) -> None:
    with watching(cluster.kubeconfig, tmp_path, "-n", namespace) as watcher:
        make(cluster, wizard(namespace, "blue", plugin="calico", cidr=cidr(24)))
        wait_for(lambda: watcher.said("is ready"), "the network is made")
        make_vms(cluster, namespace, "web-1", annotations={NETWORK_NAME: "blue"})
        wait_for(lambda: pin(cluster, namespace, "web-1"), "the VM has an address")

        make_vms(cluster, namespace, "web-2")
        make_vms(cluster, namespace, "web-3", annotations={NETWORK_NAME: "green"})
        wait_for(lambda: events_of(cluster, namespace, "web-3"), "web-3 has an Event")
        cluster.kubectl("-n", namespace, "annotate", "vm", "web-2", f"{NETWORK_NAME}=blue")
        wait_for(lambda: pin(cluster, namespace, "web-2"), "the changed VM has an address")
        make(cluster, wizard(namespace, "green", plugin="calico", cidr=cidr(24)))
        wait_for(lambda: pin(cluster, namespace, "web-3"), "who waited for it has an address")

        cluster.kubectl("-n", namespace, "delete", "networkwizard", "green")
        stays = f"ippool/{namespace}.green is kept: VM {namespace}/web-3 is pinned to "
        wait_for(lambda: watcher.complained(stays), "what a VM needs to start stays")
        wait_for(lambda: watcher.err.read_text().count("error: VM ") >= 2, "the VMs of the network are reported")
        assert all(line[:4].isdigit() and line[19] == "Z" for line in watcher.out.read_text().splitlines())
        assert watcher.ended(signal.SIGTERM) == 0
    assert watcher.out.read_text().endswith(" ended\n")
    assert "Traceback" not in watcher.err.read_text()


def test_sync_watch_exits_0_on_ctrl_c(yoshi: Yoshi, cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with watching(cluster.kubeconfig, tmp_path, "-n", namespace) as watcher:
        assert watcher.ended(signal.SIGINT) == 0


def test_sync_watch_fails_if_the_server_is_unreachable_at_start(yoshi: Yoshi) -> None:
    assert "cannot reach" in yoshi.refused("sync", "--watch", "--server=https://127.0.0.1:1")
