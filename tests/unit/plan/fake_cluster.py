"""A small fake cluster: the fake API server with KubeVirt and Calico, as far as addresses are concerned.

KubeVirt's subresources follow pkg/virt-api/rest/lifecycle.go of v1.8: stop turns Always (and running: true) into
Halted and leaves Manual and RerunOnFailure as they are; start is for Halted, Manual and RerunOnFailure only. Calico's
handles follow v3.32 (docs/design.md, "Calico's handles"): what a VM's handle holds, the VM gets, whatever it is pinned
to, and it keeps it when it stops. Everything happens when time passes, which it does only when somebody waits.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.backend import (
    HW_ADDR_ANNOTATION,
    IP_ADDRS_ANNOTATION,
    Calico,
    parse_pinned_addresses,
)
from kubectl_yoshi.backends.calico.ipam import block_name, handle_name, remove_address
from kubectl_yoshi.backends.kubevirt import KUBEVIRT
from kubectl_yoshi.backends.ovs.backend import Ovs
from kubectl_yoshi.backends.ovs.cloud_init import SECRET
from kubectl_yoshi.backends.ovs.interface import MULTUS_NETWORKS
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, HOST, LEASE, NAD, TEMPLATE
from kubectl_yoshi.backends.public.backend import Public
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.engine.loop import RunOptions, RunResult, run
from kubectl_yoshi.engine.wait import waiters
from kubectl_yoshi.kube.errors import TimedOutError
from kubectl_yoshi.model.addresses import Cidr, parse_address
from kubectl_yoshi.model.allocations import Allocation, parse_allocation
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import (
    APISERVICE,
    NODE,
    Json,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    name_of,
    namespace_of,
)
from kubectl_yoshi.model.vm import POD, VM, VM_SUBRESOURCES, VMI, Vm
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.gc import GcRequest, plan_gc
from kubectl_yoshi.plan.network.deletion import NetworkDeleteRequest, plan_network_deletion
from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
from kubectl_yoshi.plan.reserve import ReleaseRequest, ReserveRequest, plan_release, plan_reserve
from tests.cluster import checker
from tests.cluster.raw_state import CONFIGMAPS, SERVICES, RawState
from tests.unit.plan.fake_api import FakeApi

SERVICECIDR = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False)
SERVED = (
    NETWORKWIZARD, ADDRESSBLOCK, VM, VMI, VM_SUBRESOURCES, POD, NODE, SERVICECIDR, APISERVICE,
    RAW.pool, RAW.information, RAW.block, RAW.handle, RAW.config,
    NAD, TEMPLATE, HOST, DHCPSERVER, LEASE, CONFIGMAP, SECRET, KUBEVIRT,
)  # fmt: skip
BACKENDS = {"calico": Calico(), "ovs": Ovs(), "public": Public()}
LIMIT = 60.0
"""Seconds that a wait may take."""
GRACE = 10_000.0
"""Seconds after which every record of these tests is old."""


class KubeVirtApi(FakeApi):
    """The fake API server with KubeVirt's subresources, and Services' default status."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(SERVED, cluster.time_passes)
        self._cluster = cluster

    def called(self, ref: ObjectRef, subresource: str) -> None:
        self._cluster.kubevirt(ref, subresource)

    def _store(self, resource: Resource, obj: Json, there: Json | None) -> Json:
        if resource == SERVICE:
            obj.setdefault("status", {"loadBalancer": {}})
        return super()._store(resource, obj, there)


class FakeCluster:
    """See the module.

    Attributes:
        api: the API server.
        keeps: Calico keeps a VM's address in a handle (v3.32 and later).
        slow: VMs that do not stop while time passes.
    """

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self.slow: set[str] = set()
        self.asked: dict[tuple[str, str], list[str]] = {}
        self.api = KubeVirtApi(self)
        self.rng = random.Random(5)
        version = "v3.32.1" if keeps else "v3.31.0"
        self.api.put(RAW.information, _named("default", spec={"calicoVersion": version, "datastoreReady": True}))
        self.api.put(RAW.config, _named("default", spec={"strictAffinity": False}))

    # -- making things -------------------------------------------------------------------------------------------

    def network(self, name: str = "blue", cidr: str = "10.133.0.0/24", namespace: str = "prod", **spec: Any) -> Network:
        """Create a working network."""
        done = self.make_network(name, cidr, namespace, **spec)
        assert not done.errors
        return parse_network(self.api.get(NETWORKWIZARD.ref(name, namespace)))

    def make_network(self, name: str, cidr: str, namespace: str = "prod", **spec: Any) -> RunResult:
        return self.run(plan_network, NetworkRequest(namespace, name, wizard(name, cidr, namespace, **spec)))

    def sync_network(self, name: str = "blue", namespace: str = "prod") -> RunResult:
        return self.run(plan_network, NetworkRequest(namespace, name))

    def delete_network(self, name: str = "blue", namespace: str = "prod", **more: Any) -> RunResult:
        return self.run(plan_network_deletion, NetworkDeleteRequest(namespace, name, **more))

    def vm(
        self, name: str = "web-1", namespace: str = "prod", pin: str = "", template: Json | None = None, **spec: Any
    ) -> Vm:
        """Create a VM, halted unless `spec` says otherwise."""
        spec = spec or {"runStrategy": "Halted"}
        body = template or {"spec": {"domain": {"devices": {}}}}
        if pin:
            body = {"metadata": {"annotations": {IP_ADDRS_ANNOTATION: json.dumps([pin])}}, **body}
        return Vm(self.api.put(VM, _named(name, namespace, spec={**spec, "template": body})))

    def running(self, name: str = "web-1", namespace: str = "prod", **more: Any) -> Vm:
        """Create a running VM."""
        more = more if {"runStrategy", "running"} & more.keys() else {"runStrategy": "Always", **more}
        made = self.vm(name, namespace, **more)
        self.asked[(namespace, name)] = ["start"]
        self.time_passes()
        assert self.api.look(VMI.ref(name, namespace))
        return made

    def delete_vm(self, name: str = "web-1", namespace: str = "prod") -> None:
        """Delete a VM: Calico forgets it if it runs, and keeps its address if it does not."""
        vm = Vm(self.api.get(VM.ref(name, namespace)))
        if self.api.look(VMI.ref(name, namespace)):
            self._end(vm, forget=True)
        self.api.drop(vm.ref)

    def second_client(self, seed: int) -> FakeCluster:
        """Return the same cluster for another client, whose requests take a random time."""
        other = copy.copy(self)
        other.api, other.rng = self.api.second_client(), random.Random(seed)  # type: ignore[assignment]
        delays = random.Random(seed)
        other.api.before.append(lambda verb, ref: time.sleep(delays.random() * 0.002))
        return other

    def run_concurrently(self, *actions: Callable[[FakeCluster], Any], seed: int = 0) -> list[Any]:
        """Run actions in parallel, each with its own client; return their results or errors."""

        def run_one(action: Callable[[FakeCluster], Any], number: int) -> Any:
            try:
                return action(self.second_client(100 * seed + number))
            except YoshiError as error:
                return error

        with ThreadPoolExecutor(len(actions)) as pool:
            return list(pool.map(run_one, actions, range(len(actions))))

    # -- running plans -------------------------------------------------------------------------------------------

    def run(self, plan: Callable[..., Any], request: Any, **options: Any) -> RunResult:
        settings = RunOptions(waiters=waiters(limit_seconds=LIMIT), rng=self.rng, **options)
        return run(partial(plan, request), self.api, BACKENDS, settings)  # type: ignore[arg-type]

    def attach(
        self, *names: str, network: str = "prod/blue", ip: str = "", dry_run: str = "none", **more: Any
    ) -> RunResult:
        where, _, name = network.partition("/")
        vms = tuple(_pair(one) for one in names or ("web-1",))
        address = parse_address(ip) if ip else None
        return self.run(plan_attach, AttachRequest((where, name), vms, address, **more), dry_run=dry_run)

    def detach(self, *names: str, network: str = "prod/blue", **more: Any) -> RunResult:
        where, _, name = network.partition("/")
        vms = tuple(_pair(one) for one in names or ("web-1",))
        return self.run(plan_detach, DetachRequest((where, name), vms, **more))

    def reserve(self, *addresses: str, network: str = "blue", **more: Any) -> RunResult:
        wanted = tuple(map(parse_address, addresses))
        return self.run(plan_reserve, ReserveRequest(("prod", network), wanted, **more))

    def release(self, *addresses: str, network: str = "blue") -> RunResult:
        return self.run(plan_release, ReleaseRequest(("prod", network), tuple(map(parse_address, addresses))))

    def collect(self, grace: float = 0.0, **more: Any) -> RunResult:
        return self.run(plan_gc, GcRequest(grace_seconds=grace, **more))

    def forbid_ipam_writes(self, reviews: bool = True) -> None:
        """Continue as a tenant (yoshi-user): Calico's IPAM is read-only.

        Without `reviews` no authorizer says so before the write is refused.
        """
        self.api.reviews = reviews
        for resource in (RAW.block, RAW.handle):
            for verb in ("update", "delete"):
                self.api.refuse(verb, resource)

    # -- looking -------------------------------------------------------------------------------------------------

    def records(self, network: str = "blue", namespace: str = "prod") -> dict[str, Allocation]:
        """Return address -> allocation, of the network and its blocks."""
        objects = [self.api.get(NETWORKWIZARD.ref(network, namespace))]
        objects += [
            block
            for block in self.api.every(ADDRESSBLOCK)
            if namespace_of(block) == namespace and dig(block, "spec", "network") == network
        ]
        found: dict[str, Allocation] = {}
        for obj in objects:
            for address, value in dig(obj, "status", "allocations", default={}).items():
                assert address not in found, f"{address} has two records"
                found[address] = parse_allocation(value, namespace)
        return found

    def holders(self, network: str = "blue", namespace: str = "prod") -> dict[str, str]:
        """Return address -> owner."""
        return {address: record.holder for address, record in self.records(network, namespace).items()}

    def networks(self) -> list[str]:
        """Return the names of all networks."""
        return [name_of(obj) for obj in self.api.every(NETWORKWIZARD)]

    def now(self, name: str = "web-1", namespace: str = "prod") -> Vm:
        """Return the VM as it is now."""
        return Vm(self.api.get(VM.ref(name, namespace)))

    def pin(self, name: str = "web-1", namespace: str = "prod") -> str:
        """Return the address on a VM's template; "" for none."""
        found = parse_pinned_addresses(self.now(name, namespace).template_annotations)
        assert len(found) <= 1
        return str(found[0]) if found else ""

    def mac(self, name: str = "web-1", namespace: str = "prod") -> str:
        """Return the MAC address on a VM's template."""
        return self.now(name, namespace).template_annotations.get(HW_ADDR_ANNOTATION, "")

    def runs_with(self, name: str = "web-1", namespace: str = "prod") -> str:
        """Return the address of a VM's instance; "" if it does not run."""
        vmi = self.api.look(VMI.ref(name, namespace))
        return str(dig(vmi, "status", "interfaces", 0, "ipAddress", default=""))

    def held_in_calico(self) -> dict[str, str]:
        """Return address -> handle of all blocks; check that blocks and handles are consistent."""
        found = self._held()
        counted: dict[str, int] = {}
        for handle in self.api.every(RAW.handle):
            counted[name_of(handle)] = sum(handle["spec"]["block"].values())
            assert counted[name_of(handle)]
        assert counted == {handle: [*found.values()].count(handle) for handle in found.values()}
        return found

    def _held(self) -> dict[str, str]:
        """Return address -> handle of all blocks; handles may count more after an interrupted release."""
        found: dict[str, str] = {}
        for block in self.api.every(RAW.block):
            spec = block["spec"]
            base = ip_network(spec["cidr"])
            free = [ordinal for ordinal, index in enumerate(spec["allocations"]) if index is None]
            assert sorted(spec["unallocated"]) == free
            assert {index for index in spec["allocations"] if index is not None} == set(range(len(spec["attributes"])))
            for ordinal, index in enumerate(spec["allocations"]):
                if index is not None:
                    found[str(base[ordinal])] = spec["attributes"][index]["handle_id"]
        return found

    def violations(self) -> list[str]:
        """Return the violations that the checker of tests/cluster finds, without any of the program's own code."""
        raw_state = self._raw_state()
        return checker.violations(raw_state, {namespace_of(obj) for obj in (*raw_state.networks, *raw_state.vms)})

    def check(self) -> None:
        """Check invariants I1 to I5, and that every counter is right."""
        raw_state = self._raw_state()
        found = [*self.violations(), *checker.miscounted(raw_state.networks, raw_state.blocks)]
        assert not found, "\n".join(found)

    def _raw_state(self) -> RawState:
        every = self.api.every
        others = {SERVICES: every(SERVICE), CONFIGMAPS: every(CONFIGMAP)}
        return RawState(every(NETWORKWIZARD), every(ADDRESSBLOCK), every(VM), every(VMI), every(POD), others=others)

    # -- KubeVirt ------------------------------------------------------------------------------------------------

    def kubevirt(self, ref: ObjectRef, subresource: str) -> None:
        """Answer virtualmachines/stop, start and restart."""
        vm, runs = self.now(ref.name, str(ref.namespace)), self.api.look(VMI.ref(ref.name, ref.namespace)) is not None
        strategy = vm.run_strategy
        allowed = {
            "stop": strategy in ("Always", "Once") or (runs and strategy in ("Manual", "RerunOnFailure")),
            "start": not runs and strategy in ("Halted", "Manual", "RerunOnFailure"),
            "restart": runs and strategy != "Halted",
        }
        if not allowed[subresource]:
            from tests.unit.plan.fake_api import _error

            raise _error(409, "Conflict", f"cannot {subresource}: runs: {runs}, {strategy}", "update", ref)
        if subresource == "stop" and strategy in ("Always", "Once"):
            self._set_running(vm, False)
        elif subresource == "start" and strategy == "Halted":
            self._set_running(vm, True)
        else:
            self.asked.setdefault((vm.namespace, vm.name), []).append(subresource)

    def _set_running(self, vm: Vm, running: bool) -> None:
        def change(obj: Json) -> None:
            if "running" in obj["spec"]:
                obj["spec"]["running"] = running
            else:
                obj["spec"]["runStrategy"] = "Always" if running else "Halted"

        self.api.change(vm.ref, change)

    def time_passes(self) -> None:
        """Let KubeVirt do what it was asked to."""
        for vm in map(Vm, self.api.every(VM)):
            asked = self.asked.pop((vm.namespace, vm.name), [])
            runs = self.api.look(VMI.ref(vm.name, vm.namespace)) is not None
            if runs and (vm.run_strategy == "Halted" or "stop" in asked or "restart" in asked):
                if vm.name in self.slow:
                    self.asked[(vm.namespace, vm.name)] = asked
                    continue
                self._end(vm)
                runs = False
            if not runs and (vm.run_strategy in ("Always", "Once") or {"start", "restart"} & {*asked}):
                self._begin(vm)

    def _begin(self, vm: Vm) -> None:
        annotations = dict(vm.template_annotations)
        address = self._assign(vm)
        owner = {"apiVersion": VM.api_version, "kind": VM.kind, "name": vm.name, "uid": vm.uid, "controller": True}
        status: Json = {"phase": "Running", "interfaces": [{"name": "default", "ipAddress": address}]}
        pod_status: Json = {"phase": "Running", "podIPs": [{"ip": address}], "podIP": address}
        if not address:
            status, pod_status = {"phase": "Scheduling"}, {"phase": "Pending"}
        vmi = _named(vm.name, vm.namespace, status=status, spec=dig(vm.raw, "spec", "template", "spec", default={}))
        vmi["metadata"] |= {"annotations": annotations, "ownerReferences": [owner]}
        self.api.put(VMI, vmi)
        pod = _named(f"virt-launcher-{vm.name}", vm.namespace, status=pod_status)
        pod["metadata"] |= {
            "labels": {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": vm.name.split(".")[0]},
            "annotations": {
                **annotations,
                "kubevirt.io/domain": vm.name,
                **({"cni.projectcalico.org/podIPs": f"{address}/32"} if address else {}),
                **multus_annotation(vm),
            },
        }
        self.api.put(POD, pod)

    def _end(self, vm: Vm, forget: bool = False) -> None:
        self.api.drop(VMI.ref(vm.name, vm.namespace))
        self.api.drop(POD.ref(f"virt-launcher-{vm.name}", vm.namespace))
        if forget or not self.keeps:
            self._forget(vm)

    # -- Calico --------------------------------------------------------------------------------------------------

    def hold(self, address: str, handle: str, **attribute: Any) -> None:
        """Assign an address to a handle in Calico; `attribute` is what else it records."""
        here = ip_address(address)
        block = self._block_of(address)
        ref = RAW.block.ref(block_name(block))
        size = block.num_addresses
        empty = {
            "cidr": str(block), "affinity": "host:node1", "allocations": [None] * size, "attributes": [],
            "unallocated": list(range(size)), "sequenceNumber": 1, "sequenceNumberForAllocation": {},
            "deleted": False, "strictAffinity": False,
        }  # fmt: skip
        obj = self.api.look(ref) or _named(ref.name, spec=empty)
        spec = obj["spec"]
        ordinal = int(here) - int(block[0])
        assert spec["allocations"][ordinal] is None, f"{address} is already assigned in block"
        spec["attributes"].append({"handle_id": handle, **attribute})
        spec["allocations"][ordinal] = len(spec["attributes"]) - 1
        spec["unallocated"].remove(ordinal)
        spec["sequenceNumberForAllocation"][str(ordinal)] = spec["sequenceNumber"]
        spec["sequenceNumber"] += 1
        self.api.put(RAW.block, obj)
        there = self.api.look(RAW.handle.ref(handle)) or _named(handle, spec={"handleID": handle, "block": {}})
        counts = there["spec"]["block"]
        counts[str(block)] = counts.get(str(block), 0) + 1
        self.api.put(RAW.handle, there)

    def interrupt_release(self, address: str, name: str = "web-1") -> None:
        """Release a VM's address in the IPAM block only: its handle still counts it."""
        if address not in self._held():
            self.hold(address, handle_name("prod", name))
        block = RAW.block.ref(block_name(self._block_of(address)))
        self.api.put(RAW.block, remove_address(self.api.get(block), int(ip_address(address))))

    def _handle(self, vm: Vm) -> str:
        return handle_name(vm.namespace, vm.name) if self.keeps else f"k8s-pod-network.container-{vm.name}"

    def _assign(self, vm: Vm) -> str:
        """Assign an address as Calico's CNI plugin does on ADD."""
        handle = self._handle(vm)
        held = [address for address, of in self._held().items() if of == handle]
        if held:
            return held[0]
        if self.api.look(RAW.handle.ref(handle)):
            return ""  # it takes what the handle counts for an allocation in progress
        wanted = parse_pinned_addresses(vm.template_annotations)
        address = str(wanted[0]) if wanted else f"192.168.0.{len(self._held()) + 1}"
        self.hold(address, handle)
        return address

    def _block_of(self, address: str) -> Cidr:
        """Return the block of an address: an existing one, else as large as its pool says."""
        here = ip_address(address)
        for block in self.api.every(RAW.block):
            if here in ip_network(block["spec"]["cidr"]):
                return ip_network(block["spec"]["cidr"])
        sizes = [p["spec"]["blockSize"] for p in self.api.every(RAW.pool) if here in ip_network(p["spec"]["cidr"])]
        size = sizes[0] if sizes else 26 if here.version == 4 else 122
        return ip_network((address, size), strict=False)

    def hold_by_pod(self, address: str, pod: str = "") -> None:
        """Assign an address to an ordinary pod in Calico, of namespace dev if its name is recorded."""
        noted = {"secondary": {"namespace": "dev", "pod": pod, "node": "node1"}} if pod else {}
        self.hold(address, f"k8s-pod-network.some-container-{int(ip_address(address)) & 255}", **noted)

    def forget(self, name: str, namespace: str = "prod") -> None:
        """Release what Calico holds for a VM, as `calicoctl ipam release` does."""
        self._forget(self.now(name, namespace))

    def drop_pod(self, name: str, namespace: str = "prod") -> None:
        """Delete the launcher pod of a VM."""
        self.api.drop(POD.ref(f"virt-launcher-{name}", namespace))

    def _forget(self, vm: Vm) -> None:
        handle = self._handle(vm)
        for address, of in self._held().items():
            if of == handle:
                block = RAW.block.ref(block_name(self._block_of(address)))
                self.api.put(RAW.block, remove_address(self.api.get(block), int(ip_address(address))))
                self.api.drop(RAW.handle.ref(handle))


def is_killed(cluster: FakeCluster, writes: int, command: Callable[[FakeCluster], object]) -> bool:
    """Run a command and kill it before it writes once more than this; return False if it ended before."""
    left = writes

    def kill(verb: str, ref: ObjectRef) -> None:
        nonlocal left
        if verb not in ("get", "list"):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

    cluster.api.before.append(kill)
    try:
        command(cluster)
    except KeyboardInterrupt:
        return True
    finally:
        cluster.api.before.remove(kill)
    return False


def wizard(name: str, cidr: str, namespace: str = "prod", **spec: Any) -> Json:
    """Return a NetworkWizard to create."""
    return {
        "apiVersion": NETWORKWIZARD.api_version,
        "kind": NETWORKWIZARD.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"plugin": "calico", "cidr": cidr, **spec},
    }


def refusal(done: RunResult, owner: str = "prod/web-1") -> YoshiError:
    """Return the error of an owner in a run."""
    return done.errors[owner]


def requested_network(vm: Vm) -> str | None:
    """Return the annotation of a VM with its requested networks."""
    return annotations_of(vm.raw).get("plumber.k8s.pf9.io/networkName")


def multus_annotation(vm: Vm) -> dict[str, str]:
    """The annotation of a launcher pod with the VM's Multus networks; a pod of a VM without any has none."""
    networks = dig(vm.raw, "spec", "template", "spec", "networks", default=[])
    named = [dig(one, "multus", "networkName") for one in networks]
    pairs = [(f"{vm.namespace}/" * ("/" not in name) + name).split("/") for name in named if name]
    asked = [{"namespace": namespace, "name": name} for namespace, name in pairs]
    return {MULTUS_NETWORKS: json.dumps(asked)} if asked else {}


def _named(name: str, namespace: str = "", **more: Any) -> Json:
    return {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **more}


def _pair(name: str) -> tuple[str, str]:
    where, slash, rest = name.partition("/")
    return (where, rest) if slash else ("prod", name)


__all__ = ["GRACE", "LIMIT", "FakeCluster", "TimedOutError", "is_killed", "refusal", "requested_network", "wizard"]
