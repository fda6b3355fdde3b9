"""The faults of the fault matrix: a rule, what breaks, and what repairs it if no command does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.e2e.fault_scene import BLUE_CIDR, MAC, PUB_CIDR, FaultScene
from tests.waiting import wait_for

IPPOOLS = "ippools.crd.projectcalico.org"

Break = Callable[[FaultScene], Iterator[None] | None]


@dataclass(frozen=True)
class Fault:
    """A fault, and the rule that finds it.

    Attributes:
        number: the rule's number.
        what: the fault, in words.
        apply: breaks something; as a generator, what follows the `yield` is done once the remedy has been run, to
            leave the lab as it was.
        also: the numbers of the other rules that find it.
        by_hand: what repairs it, in words, if that is not a command of the finding: the generator does it.
        hop: where `trace vm/web` has its first break; "" for none, and for faults that do not concern that VM.
        count: the number of findings; 0 for one of each rule.
        editor: what `kubectl edit` of the remedy runs.
    """

    number: str
    what: str
    apply: Break
    also: tuple[str, ...] = ()
    by_hand: str = ""
    hop: str = ""
    count: int = 0
    editor: str = "false"

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes of the rules that find it, its own first."""
        return tuple(f"YOSHI-{number}" for number in (self.number, *self.also))

    @property
    def identifier(self) -> str:
        """Return the name of the test case."""
        return f"{self.number}-{self.apply.__name__}"


FAULTS: list[Fault] = []
"""All faults, in the order of the table."""


def fault(number: str, what: str, **more: Any) -> Callable[[Break], Break]:
    """Return a decorator that adds a function to the faults; the parameters are those of Fault."""

    def add(apply: Break) -> Break:
        FAULTS.append(Fault(number, what, apply, **more))
        return apply

    return add


def begin(one: Fault, scene: FaultScene) -> Iterator[None] | None:
    """Break something; the returned generator is to be finished with `finish`."""
    started = one.apply(scene)
    if started is not None:
        next(started)
    return started


def finish(started: Iterator[None] | None) -> bool:
    """Leave the lab as it was; return whether something was to be done."""
    if started is None:
        return False
    assert list(started) == []
    return True


# -- allocations -----------------------------------------------------------------------------------------------------


@fault("0001", "a VM is deleted with kubectl")
def vm_deleted(scene: FaultScene) -> None:
    scene.halted("gone")
    scene.attach("gone")
    scene.kubectl("delete", "vm", "gone")


@fault("0002", "an address is written into the template of a VM by hand")
def address_pinned(scene: FaultScene) -> Iterator[None]:
    scene.halted("pinned", annotations={"cni.projectcalico.org/ipAddrs": json.dumps([BLUE_CIDR.replace("0/28", "9")])})
    yield
    scene.remove("pinned")


@fault("0003", "a VM is cloned with the address in its template")
def vm_cloned(scene: FaultScene) -> Iterator[None]:
    (address,) = scene.records("blue")
    scene.halted("clone", annotations={"cni.projectcalico.org/ipAddrs": json.dumps([address])})
    yield
    scene.remove("clone")


@fault("0004", "two VMs have the same MAC address")
def mac_copied(scene: FaultScene) -> Iterator[None]:
    scene.halted("clone", mac=MAC)
    scene.attach("clone")
    yield
    scene.remove("clone")


@fault("0006", "an allocation loses the uid of its VM")
def uid_lost(scene: FaultScene) -> None:
    (address,) = scene.records("blue")
    path = f"/status/allocations/{address}/uid"
    scene.patch("networkwizard", "blue", [{"op": "remove", "path": path}], subresource="status")


@fault("0007", "the range of a network is narrowed with kubectl")
def range_narrowed(scene: FaultScene) -> Iterator[None]:
    scene.patch("networkwizard", "blue", {"spec": {"range_start": "10.133.0.8", "range_end": "10.133.0.14"}})
    yield
    scene.yoshi.done("network", "update", "blue", "--range", "none")


@fault("0008", "a network is deleted with kubectl while a VM is on it")
def network_deleted(scene: FaultScene) -> Iterator[None]:
    scene.yoshi.done("network", "create", "green", "--cidr", "10.134.0.0/28")
    scene.halted("orphan")
    scene.attach("orphan", "--network", "green")
    scene.kubectl("delete", "networkwizard", "green")
    yield
    scene.remove("orphan")


# -- VMs -------------------------------------------------------------------------------------------------------------


@fault("1101", "a running VM is attached to a network")
def attached_while_running(scene: FaultScene) -> Iterator[None]:
    scene.halted("app")
    scene.start("app")
    scene.attach("app")
    yield
    scene.remove("app")


@fault("1102", "the interface of a running VM loses its address", by_hand="the CNI plugin assigns it again")
def interface_without_address(scene: FaultScene) -> Iterator[None]:
    before = scene.running_instance("db")
    scene.patch_as_kubevirt("db", {"status": {"interfaces": [{"name": "default", "infoSource": "domain"}]}})
    yield
    scene.wait_until_restarted(before)


@fault("1103", "the guest of a VM has another address", by_hand="the guest is configured for DHCP")
def other_address(scene: FaultScene) -> Iterator[None]:
    before = scene.running_instance("db")
    other = {"ipAddress": "192.168.1.5", "ipAddresses": ["192.168.1.5"]}
    scene.patch_as_kubevirt("db", {"status": {"interfaces": [{**before["status"]["interfaces"][0], **other}]}})
    yield
    scene.wait_until_restarted(before)


@fault("1204", "the masquerade network of a guest overlaps the network", editor="sed -i s,10.137.0.0/24,10.138.0.0/24,")
def masquerade_overlaps(scene: FaultScene) -> Iterator[None]:
    scene.yoshi.done("network", "create", "wide", "--cidr", "10.137.0.0/24")
    scene.halted("inside")
    scene.attach("inside", "--network", "wide")
    networks = [{"name": "default", "pod": {"vmNetworkCIDR": "10.137.0.0/24"}}]
    scene.patch("vm", "inside", {"spec": {"template": {"spec": {"networks": networks}}}})
    yield
    scene.remove("inside")
    scene.yoshi.done("network", "delete", "wide", "--yes")


@fault("1206", "the interface is removed from the template of a VM", by_hand="the interface is added again")
def interface_removed(scene: FaultScene) -> Iterator[None]:
    scene.halted("bare")
    scene.attach("bare")
    devices = {"interfaces": None, "autoattachPodInterface": False}
    scene.patch("vm", "bare", {"spec": {"template": {"spec": {"domain": {"devices": devices}, "networks": None}}}})
    yield
    scene.remove("bare")


# -- public addresses ------------------------------------------------------------------------------------------------


@fault("2101", "MetalLB's pool is deleted", hop="pool")
def pool_deleted(scene: FaultScene) -> None:
    scene.metallb("delete", "ipaddresspool", "shop.pub")


@fault("2102", "MetalLB's pool is restricted to another namespace", hop="pool")
def pool_restricted(scene: FaultScene) -> None:
    body = {"spec": {"serviceAllocation": {"namespaces": ["other"]}}}
    scene.patch("ipaddresspool", "shop.pub", body, namespace="metallb-system")
    scene.kubectl("delete", "service", scene.service())
    scene.yoshi.done("vm", "attach", "web", "--public-network", "pub")


@fault("2103", "the advertisement is deleted", hop="advertisement")
def advertisement_deleted(scene: FaultScene) -> None:
    scene.metallb("delete", "bgpadvertisement", "shop.pub")


@fault("2104", "the endpoint of a VM is not ready", by_hand="the guest becomes ready", hop="endpoint")
def endpoint_unready(scene: FaultScene) -> Iterator[None]:
    (pod,) = (pod for pod in scene.get("pods")["items"] if pod["metadata"]["labels"]["vm.kubevirt.io/name"] == "web")
    name = pod["metadata"]["name"]

    def ready(status: str) -> None:
        now = scene.get("pod", name)["status"]["conditions"]
        conditions = [{**one, "status": status} if one["type"] == "Ready" else one for one in now]
        scene.patch("pod", name, {"status": {"conditions": conditions}}, subresource="status")

    ready("False")
    yield
    ready("True")


@fault(
    "2105",
    "another Service takes the address of a VM",
    also=("0003",),
    by_hand="the other Service is deleted, or the VM moved",
    hop="assigned",
)
def address_taken(scene: FaultScene) -> Iterator[None]:
    (address,) = scene.records("pub")
    metadata = {"name": "thief", "annotations": {"metallb.io/loadBalancerIPs": address}}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "none"}}
    scene.kubectl("delete", "service", scene.service())
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    scene.kubectl("create", "-f", "-", input=json.dumps(body))
    wait_for(lambda: scene.get("service", "thief")["status"]["loadBalancer"])
    scene.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--ip", address)
    yield
    scene.kubectl("delete", "service", "thief")


@fault("2108", "the node of a VM is excluded from load balancing", hop="node")
def node_excluded(scene: FaultScene) -> None:
    node = scene.lab.nodes[0].name
    scene.kubectl("label", "node", node, "node.kubernetes.io/exclude-from-external-load-balancers=")


@fault("2109", "the Service of a VM is deleted", hop="service")
def service_deleted(scene: FaultScene) -> None:
    scene.kubectl("delete", "service", scene.service())


@fault("2109", "the selector of the Service is changed by hand", hop="service")
def selector_changed(scene: FaultScene) -> None:
    scene.patch("service", scene.service(), {"spec": {"selector": {"app": "other"}}})


@fault("2110", "the speaker on the node of a VM is stopped", by_hand="the speaker is started", hop="node")
def speaker_stopped(scene: FaultScene) -> Iterator[None]:
    node = scene.lab.nodes[0].name
    with scene.stopped(f"speaker-{node}"):
        statuses = "servicebgpstatuses.metallb.io"
        scene.metallb("delete", statuses, "-l", f"metallb.io/node={node}")  # as with the speaker's pod, their owner
        yield


@fault("2111", "the controller of MetalLB is stopped", by_hand="the controller is started", hop="assigned")
def controller_stopped(scene: FaultScene) -> Iterator[None]:
    with scene.stopped("metallb-controller"):
        scene.kubectl("delete", "service", scene.service())
        scene.yoshi.done("vm", "attach", "web", "--public-network", "pub")
        yield


@fault("2201", "the router is stopped", by_hand="the router is started", count=2, hop="session")
def router_stopped(scene: FaultScene) -> Iterator[None]:
    with scene.stopped("gobgpd"):
        yield
    scene.reconnect()


@fault("2204", "the BGP peer is deleted", hop="node")
def peer_deleted(scene: FaultScene) -> None:
    scene.metallb("delete", "bgppeers.metallb.io", "--all")


RELEASED = "addresses are released, or the network is deleted"


@fault("2202", "a pool that overlaps another one is created", by_hand="the pool is deleted", count=3, hop="session")
def pool_overlaps(scene: FaultScene) -> Iterator[None]:
    metadata = {"name": "overlap", "namespace": "metallb-system"}
    pool = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata}
    created = {**pool, "spec": {"addresses": [PUB_CIDR], "autoAssign": False}}
    scene.lab.kubectl("create", "-f", "-", input=json.dumps(created))
    yield
    scene.metallb("delete", "ipaddresspool", "overlap")


# -- networks --------------------------------------------------------------------------------------------------------


@fault("3301", "a network is filled to 86 %", by_hand=RELEASED)
def network_filled(scene: FaultScene) -> Iterator[None]:
    yield from _filled(scene, 12)


@fault("3302", "a network is filled to 100 %", by_hand=RELEASED)
def network_full(scene: FaultScene) -> Iterator[None]:
    yield from _filled(scene, 14)


def _filled(scene: FaultScene, count: int) -> Iterator[None]:
    scene.yoshi.done("network", "create", "tiny", "--cidr", "10.135.0.0/28")
    addresses = [f"10.135.0.{number}" for number in range(1, count + 1)]
    scene.yoshi.done("ips", "reserve", "tiny", *addresses)
    yield
    scene.yoshi.done("network", "delete", "tiny", "--force", "--yes")


@fault("3303", "an IPPool that overlaps a network is created", by_hand="the pool is deleted")
def overlap_created(scene: FaultScene) -> Iterator[None]:
    pool = {"metadata": {"name": "foreign"}, "spec": {"cidr": "10.133.0.0/26"}}
    kind = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool"}
    scene.kubectl("create", "-f", "-", input=json.dumps({**kind, **pool}))
    yield
    scene.kubectl("delete", IPPOOLS, "foreign")


@fault("3304", "a namespace has as many addresses as its quota allows", by_hand="the quota is raised")
def quota_used(scene: FaultScene) -> Iterator[None]:
    yield from _with_quota(scene, 1)


@fault("3305", "the quota is lowered below what a namespace has", by_hand="the quota is raised")
def quota_exceeded(scene: FaultScene) -> Iterator[None]:
    scene.halted("second")
    scene.attach("second")
    yield from _with_quota(scene, 1)
    scene.remove("second")


def _with_quota(scene: FaultScene, quota: int) -> Iterator[None]:
    scene.yoshi.done("network", "update", "blue", "--max-addresses-per-namespace", str(quota))
    yield
    scene.yoshi.done("network", "update", "blue", "--max-addresses-per-namespace", "none")


@fault("3402", "Calico's pool of a network is disabled")
def pool_disabled(scene: FaultScene) -> None:
    scene.kubectl("patch", IPPOOLS, "shop.blue", "--type=merge", "-p", '{"spec": {"disabled": true}}')


@fault("3403", "a network requires a newer version of yoshi", editor="sed -i /requires:/d")
def version_required(scene: FaultScene) -> None:
    scene.kubectl("annotate", "networkwizard", "blue", "plumber.k8s.pf9.io/requires=99.0.0")


@fault("3404", "the deletion of a network was killed an hour ago")
def deletion_killed(scene: FaultScene) -> None:
    scene.yoshi.done("network", "create", "old", "--cidr", "10.136.0.0/28")
    scene.patch("networkwizard", "old", {"status": {"deleting": "2026-01-01T00:00:00Z"}}, subresource="status")


@fault("3405", "a network is restored from a backup without its status", also=("0002",))
def status_lost(scene: FaultScene) -> None:
    scene.patch("networkwizard", "blue", [{"op": "remove", "path": "/status"}], subresource="status")


@fault("3501", "the CRDs are those of an older version")
def crds_older(scene: FaultScene) -> None:
    name = "networkwizards.plumber.k8s.pf9.io"
    scene.kubectl("annotate", "crd", name, "plumber.k8s.pf9.io/version=0.0.1", "--overwrite")


@fault("5501", "the admission policies are removed")
def policies_removed(scene: FaultScene) -> None:
    scene.yoshi.done("install", "--policy", "off")


@fault("5502", "the admission policies only warn", count=5)
def policies_warn(scene: FaultScene) -> None:
    scene.yoshi.done("install", "--policy", "audit")


@fault("5503", "the binding of a policy to the networks of a namespace is deleted")
def binding_deleted(scene: FaultScene) -> None:
    scene.kubectl("delete", "validatingadmissionpolicybinding", "yoshi-address-use.shop")
