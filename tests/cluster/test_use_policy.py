"""The admission policies yoshi-address-format, -use and -use-blocks on the real API server: what can use an address.

Each case is one request with dryRun=All, which admission treats as any other, so that no case sees another's effect.
The networks are in a namespace of their own, as where tenants share them:

    blue    small, private      big     large, private, one block exists     six     large, IPv6
    pub     small, public       free    public, without a CIDR               layer2  small, Layer 2
    wide    large, Layer 2      own     small, private, in the namespace of the tenant alice

alice and bob have the role yoshi-user in the networks' namespace and may do everything with VMs, pods and Services in
one namespace each, a and b; carol may do that in c, and has no role for networks. root changes networks everywhere.
virt is KubeVirt's virt-controller, by what it is permitted; fake has its name, in a tenant's namespace.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

import lab
from kubectl_yoshi.backends.public.annotations import PUBLIC_IP
from kubectl_yoshi.cli.policies import load_policies, policy_ref
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import block_shard, build_block
from kubectl_yoshi.model.network import parse_network
from kubectl_yoshi.model.objects import POLICY, POLICY_BINDING
from kubectl_yoshi.plan.address_policies import (
    ADDRESS_USE_POLICIES,
    binding_name,
    build_binding,
    list_bound_namespaces,
)
from lab.api import MERGE_PATCH, Api, ApiError
from lab.programs import OLDEST_KUBERNETES
from lab.testing import Cluster
from tests.cluster.harness import (
    ForkServer,
    Json,
    Yoshi,
    delete,
    find,
    get,
    make,
    make_vms,
    patch,
    reported_address,
    vm,
    wait_for_role,
    wizard,
)
from tests.cluster.hostile_requests import GENERATORS, Tenant, joined_networks, requested_addresses, requested_macs
from tests.waiting import wait_for

RBAC = "rbac.authorization.k8s.io"
BLUE, BIG, PUB, LAYER2, OWN, SIX = "100.64.0", "100.65", "100.66.0", "100.67.0", "100.68.0", "fd00:64::"
HOSTILE_REQUESTS = 400
RANDOM_CHANGES = 400
MANY = 40_000
"""Enough annotations or addresses to keep an API server busy for half a minute where all are compared."""
MANY_SECONDS = 10.0
"""How long, in seconds, a request with that many may take on a busy machine."""
NEARLY_OWN = range(20, 24)
"""The last bytes of addresses in blue and big that are nearly those of VM web of alice."""
ALICES_MAC, BOBS_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


@dataclass(frozen=True)
class Scene:
    """The namespaces by their names in the cases, and the uids of the VMs by "namespace/name"."""

    cluster: Cluster
    forks: ForkServer
    namespaces: dict[str, str]
    uids: dict[str, str] = field(default_factory=dict)
    apis: dict[str, Api] = field(default_factory=dict)

    def user(self, name: str) -> str:
        """Return the user name of somebody of the module's docstring."""
        if name == "virt":
            return f"system:serviceaccount:{self.namespaces['kubevirt']}:kubevirt-controller"
        if name == "fake":
            return f"system:serviceaccount:{self.namespaces['b']}:kubevirt-controller"
        return f"{self.namespaces['nets']}-{name}"

    def api(self, name: str) -> Api:
        """Return a client of that user."""
        return self.apis.setdefault(name, self.cluster.api.impersonate(self.user(name)))


@pytest.fixture(scope="module", params=["newest", "oldest"])
def server(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[Cluster]:
    """The cluster, and the oldest Kubernetes that is supported, after `kubectl yoshi install`."""
    if request.param == "newest":
        yield request.getfixturevalue("installed")
        return
    if request.config.getoption("cluster") != "lab":
        pytest.skip("has a lab of that version, and another cluster was chosen")
    with lab.start(kubernetes=OLDEST_KUBERNETES) as running:
        Yoshi(running.kubeconfig, "lab", forks).done("install")
        yield Cluster(running.kubeconfig, "lab")


@pytest.fixture(scope="module")
def scene(server: Cluster, forks: ForkServer) -> Iterator[Scene]:
    with (
        server.namespace() as nets,
        server.namespace() as a,
        server.namespace() as b,
        server.namespace() as c,
        server.namespace() as kubevirt,
        server.namespace() as shared,
    ):
        namespaces = {"nets": nets, "a": a, "b": b, "c": c, "kubevirt": kubevirt, "shared": shared}
        found = Scene(server, forks, namespaces)
        made = [*_grant(found), *_install_policies(server, nets)]
        _wait_until_crds_are_known(found)
        _fill(found)
        _wait_until_active(found)
        yield found
        for resource, name in reversed(made):
            server.api.delete(server.api.find_resource(resource).path(name=name))


def _grant(scene: Scene) -> list[tuple[str, str]]:
    """Give every user what the module's docstring says; return the cluster-scoped objects."""
    prefix = scene.namespaces["nets"]
    everything = [
        {"apiGroups": ["kubevirt.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["*"]},
    ]
    role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": f"{prefix}-all"}}
    make(scene.cluster, {**role, "rules": everything})
    made = [("clusterroles", f"{prefix}-all")]
    bindings = [("alice", "a", f"{prefix}-all"), ("bob", "b", f"{prefix}-all"), ("carol", "c", f"{prefix}-all")]
    bindings += [("fake", "b", f"{prefix}-all"), ("alice", "nets", "yoshi-user"), ("bob", "nets", "yoshi-user")]
    bindings += [("alice", "a", "yoshi-user"), ("bob", "b", "yoshi-user")]
    bindings += [(user, "shared", "yoshi-user") for user in ("alice", "bob")]
    bindings += [(user, "", "yoshi-calico-reader") for user in ("alice", "bob")]
    bindings += [(user, "", f"{prefix}-all") for user in ("virt", "root")] + [("root", "", "yoshi-admin")]
    for user, where, role_name in bindings:
        name = f"{prefix}-{user}-{role_name.removeprefix(prefix)}"
        metadata = {"name": name, **({"namespace": scene.namespaces[where]} if where else {})}
        make(
            scene.cluster,
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding" if where else "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role_name},
                "subjects": [{"apiGroup": RBAC, "kind": "User", "name": scene.user(user)}],
            },
        )
        if not where:
            made.append(("clusterrolebindings", name))
    return made


def _install_policies(cluster: Cluster, namespace: str) -> list[tuple[str, str]]:
    """Create the policies of this module unless they exist, and the bindings for the networks of a namespace."""
    made = []
    for obj in load_policies():
        ref = policy_ref(obj)
        if "address" in ref.name and find(cluster, ref.resource.plural, ref.name) is None:
            make(cluster, obj)
            made.append((ref.resource.plural, ref.name))
    for name in ADDRESS_USE_POLICIES:
        policy, binding = (get(cluster, resource.plural, name) for resource in (POLICY, POLICY_BINDING))
        make(cluster, build_binding(policy, binding, namespace))
        made.append((POLICY_BINDING.plural, binding_name(name, namespace)))
    return made


def _wait_until_crds_are_known(scene: Scene) -> None:
    """Wait until the policies know the kinds of their parameters.

    A policy that is older than the CRD of its parameters learns of it within half a minute.
    """
    probe = {"network": "probe", "networkUID": "probe", "first": "192.0.2.0"}
    metadata = {"namespace": scene.namespaces["nets"], "name": "probe.192.0.2.0"}
    block = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "AddressBlock", "metadata": metadata, "spec": probe}
    path = f"/apis/plumber.k8s.pf9.io/v1/namespaces/{scene.namespaces['nets']}/addressblocks?dryRun=All"

    def is_known() -> bool:
        try:
            scene.cluster.api.post(path, block)
        except ApiError as error:
            assert "failed to configure policy" in str(error)
            return False
        return True

    wait_for(is_known, "the policies know the kinds of their parameters")


def _fill(scene: Scene) -> None:
    """Create the VMs, the networks, and their allocations."""
    cluster, names = scene.cluster, scene.namespaces
    for namespace in ("a", "b", "c"):
        for found in make_vms(cluster, names[namespace], "web", "db"):
            scene.uids[f"{namespace}/{found['metadata']['name']}"] = found["metadata"]["uid"]
    interfaces = [interface("net1", "02:00:00:00:01:0a"), interface("net2", "02:00:00:00:02:0a")]
    template = {"spec": {"domain": {"devices": {"interfaces": interfaces}}}}
    patch(cluster, "virtualmachines", "db", {"spec": {"template": template}}, namespace=names["b"])
    nets = names["nets"]
    blue = {
        f"{BLUE}.1": _allocation(scene, "a/web", mac=ALICES_MAC),
        f"{BLUE}.2": _allocation(scene, "b/web", mac=BOBS_MAC),
        f"{BLUE}.3": {"kind": "Reservation", "namespace": nets},
        f"{BLUE}.4": {"kind": "Reservation", "namespace": nets, "for": f"namespace/{names['a']}"},
        f"{BLUE}.5": {"kind": "Reservation", "namespace": nets, "for": f"vm/{names['a']}/web"},
        f"{BLUE}.6": {"kind": "VirtualMachine", "namespace": names["a"], "name": "db"},
        f"{BLUE}.7": {"kind": "VirtualMachine", "namespace": names["a"], "name": "old", "uid": "of-an-earlier-vm"},
        f"{BLUE}.8": {"kind": "Network", "namespace": nets, "name": "blue"},
        **_nearly_own(scene, f"{BLUE}."),
    }  # fmt: skip
    pub = {f"{PUB}.1": _allocation(scene, "a/web"), "192.0.2.7": _allocation(scene, "b/web")}
    pub |= {f"{PUB}.4": blue[f"{BLUE}.4"], "fd00:65::a": _allocation(scene, "a/web")}
    free = {"198.51.100.5": _allocation(scene, "a/web"), "198.51.100.6": _allocation(scene, "b/web")}
    layer2 = {
        f"{LAYER2}.1": _allocation(scene, "a/web", mac="02:00:00:00:01:0a"),
        f"{LAYER2}.2": _allocation(scene, "b/web", mac="02:00:00:00:01:0b"),
    }
    _make_network(scene, "nets", "blue", blue, plugin="calico", cidr=f"{BLUE}.0/24")
    _make_network(scene, "nets", "big", {}, plugin="calico", cidr=f"{BIG}.0.0/20")
    _make_network(scene, "nets", "six", {}, plugin="calico", cidr=f"{SIX}/64")
    _make_network(scene, "nets", "pub", pub, plugin="public", cidr=f"{PUB}.0/24")
    _make_network(scene, "nets", "free", free, plugin="public")
    _make_network(
        scene, "nets", "layer2", layer2, plugin="ovs", cidr=f"{LAYER2}.0/24", ovs={"bridge": "br0", "hostConfig": False}
    )
    ovs = {"bridge": "br0", "hostConfig": False, "vlan": 9}
    _make_network(scene, "nets", "wide", {}, plugin="ovs", cidr="100.71.0.0/20", ovs=ovs)
    wide = {"100.71.0.1": _allocation(scene, "a/web", mac="02:00:00:00:02:0a")}
    _make_block(scene, "wide", "100.71.0.0", {**wide, "100.71.0.2": _allocation(scene, "b/web")})
    _make_network(scene, "a", "own", {f"{OWN}.1": _allocation(scene, "a/web")}, plugin="calico", cidr=f"{OWN}.0/24")
    first, second = _allocation(scene, "a/web"), _allocation(scene, "b/web")
    big = {f"{BIG}.0.1": first, f"{BIG}.0.2": second, **_nearly_own(scene, f"{BIG}.0.")}
    _make_block(scene, "big", f"{BIG}.0.0", big)
    _make_block(scene, "six", SIX, {f"{SIX}1": first, f"{SIX}2": second})


def _allocation(scene: Scene, holder: str, **more: str) -> Json:
    namespace, name = holder.split("/")
    return {
        "kind": "VirtualMachine", "namespace": scene.namespaces[namespace], "name": name, "uid": scene.uids[holder],
        **more,
    }  # fmt: skip


def _nearly_own(scene: Scene, prefix: str) -> Json:
    """Return allocations of which each differs from one of VM web of alice in one respect."""
    own = _allocation(scene, "a/web")
    other_namespace = {**own, "namespace": scene.namespaces["b"]}
    others = [
        {**own, "uid": "of-an-earlier-vm"},
        {**own, "name": "db"},
        other_namespace,
        {**own, "kind": "Reservation"},
    ]
    return {f"{prefix}{NEARLY_OWN[0] + place}": allocation for place, allocation in enumerate(others)}


def _make_network(scene: Scene, namespace: str, name: str, allocations: Json, **spec: object) -> None:
    where = scene.namespaces[namespace]
    make(scene.cluster, wizard(where, name, **spec))
    status = {"status": {"created": True, "allocations": allocations}}
    patch(scene.cluster, "networkwizards", name, status, namespace=where, subresource="status")


def _make_block(scene: Scene, network: str, first: str, allocations: Json) -> None:
    where = scene.namespaces["nets"]
    parent = parse_network(get(scene.cluster, "networkwizards", network, namespace=where))
    block = build_block(parent, block_shard(parent, int(parse_address(first))))
    name = block["metadata"]["name"]
    make(scene.cluster, block)
    status = {"status": {"allocations": allocations}}
    patch(scene.cluster, "addressblocks", name, status, namespace=where, subresource="status")


def _wait_until_active(scene: Scene) -> None:
    """Wait until the API server applies the policies and has read their parameters."""
    for case in (ip(f"{BLUE}.2", "alice"), ip(f"{BIG}.0.2", "alice"), ip(f"{BLUE}.1\\u0031", "alice")):
        wait_for(partial(case.send, scene), f"the API server refuses {case.name}")
    wait_for_role(scene.cluster, scene.user("alice"), scene.namespaces["nets"])


@dataclass(frozen=True)
class Case:
    """A request and its result.

    Attributes:
        user: who sends it.
        name: what it is.
        request: returns method, path and body.
        refusal: what the message contains; "" if the request is admitted.
    """

    user: str
    name: str
    request: Callable[[Scene], tuple[str, str, Any]]
    refusal: str = ""

    def send(self, scene: Scene) -> str:
        """Send the request as a dry run; return the message of its refusal, "" for none."""
        method, path, body = self.request(scene)
        api = scene.api(self.user)
        try:
            if method == "PATCH":
                api.patch(f"{path}?dryRun=All", body, MERGE_PATCH)
            else:
                api.post(f"{path}?dryRun=All", body)
        except ApiError as error:
            return str(error)
        return ""

    def __str__(self) -> str:
        return f"{self.user} {self.name}"[:80]


def refused(case: Case, message: str) -> Case:
    """Return the case with the message of its refusal."""
    return Case(case.user, case.name, case.request, message)


VMS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines"
VMIS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances"
HOMES = {"alice": "a", "bob": "b", "carol": "c", "root": "a", "virt": "a", "fake": "b"}
IP_ADDRS = "cni.projectcalico.org/ipAddrs"
L2_ADDRESS = "ip.plumber.k8s.pf9.io/net1"


def patch_vm(name: str, user: str, template: Json, vm_name: str = "web", namespace: str = "") -> Case:
    """Return a change of the template of an existing VM."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        where = scene.namespaces[namespace or HOMES[user]]
        return "PATCH", f"{VMS.format(where)}/{vm_name}", {"spec": {"template": template}}

    return Case(user, name, request)


def ip(address: str, user: str, vm_name: str = "web", annotation: str = IP_ADDRS, namespace: str = "") -> Case:
    """Return the change that puts an address on a VM."""
    text = f'["{address}"]' if annotation.startswith("cni.") else address
    name = f"{address} on VM {vm_name}" + (f" by {annotation}" if annotation != IP_ADDRS else "")
    return patch_vm(name, user, {"metadata": {"annotations": {annotation: text}}}, vm_name, namespace)


def request_address(address: str, user: str, vm_name: str = "web") -> Case:
    """Return the change that requests a public address for a VM."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        path = f"{VMS.format(scene.namespaces[HOMES[user]])}/{vm_name}"
        return "PATCH", path, {"metadata": {"annotations": {PUBLIC_IP: address}}}

    return Case(user, f"{address} requested for VM {vm_name}", request)


def new_vm(address: str, user: str, vm_name: str) -> Case:
    """Return the creation of a VM with an address."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        where = scene.namespaces[HOMES[user]]
        return "POST", VMS.format(where), vm(where, vm_name, template_annotations={IP_ADDRS: f'["{address}"]'})

    return Case(user, f"{address} on new VM {vm_name}", request)


def mac(address: str, user: str, network: str = "") -> Case:
    """Return the change that puts a MAC address on the interface of a VM, on a Layer 2 network or on none."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        spec: Json = {"domain": {"devices": {"interfaces": [interface("net1", address)]}}}
        spec |= {"networks": [segment(scene, network)]} if network else {}
        return patch_vm("", user, {"spec": spec}).request(scene)

    return Case(user, f"MAC address {address} {network}", request)


def join(network: str, user: str) -> Case:
    """Return the change that puts a VM, whose interfaces have MAC addresses of others already, on a Layer 2 network."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        return patch_vm("", user, {"spec": {"networks": [segment(scene, network)]}}, "db").request(scene)

    return Case(user, f"joins {network}", request)


def hw_addr(address: str, user: str, second: str = "") -> Case:
    """Return the change that puts MAC addresses on a VM, one on an interface, together with an address of its own."""
    annotations = {IP_ADDRS: f'["{BLUE}.2"]', "cni.projectcalico.org/hwAddr": address}
    spec: Json = {"domain": {"devices": {"interfaces": [interface("net1", second)]}}} if second else {}
    return patch_vm(f"hwAddr {address} {second}", user, {"metadata": {"annotations": annotations}, "spec": spec})


def hw_addr_on(network: str, address: str, user: str, own: str = "") -> Case:
    """Return the change that puts a MAC address on a VM on a Layer 2 network, by Calico's annotation only."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        annotations = {"cni.projectcalico.org/hwAddr": address, **({IP_ADDRS: f'["{own}"]'} if own else {})}
        template = {"metadata": {"annotations": annotations}, "spec": {"networks": [segment(scene, network)]}}
        return patch_vm("", user, template).request(scene)

    return Case(user, f"hwAddr {address} on {network} {own}", request)


def own_and(own: str, other: str, annotation: str) -> Case:
    """Return the change that puts an own address on a VM of bob as vm attach does, and requests another."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        annotations = {IP_ADDRS: f'["{own}"]', "cni.projectcalico.org/hwAddr": BOBS_MAC}
        requested = {annotation: other} if annotation == PUBLIC_IP else {}
        template = {"metadata": {"annotations": {**annotations, **({} if requested else {annotation: other})}}}
        method, path, body = patch_vm("", "bob", template).request(scene)
        return method, path, {**body, "metadata": {"annotations": requested}}

    return Case("bob", f"{own} and {other} by {annotation}", request)


def interface(name: str, address: str) -> Json:
    return {"name": name, "bridge": {}, "macAddress": address}


def segment(scene: Scene, network: str) -> Json:
    return {"name": "net1", "multus": {"networkName": f"{scene.namespaces['nets']}/{network}"}}


def new_vmi(address: str, user: str, owner: str = "", vmi_name: str = "web") -> Case:
    """Return the creation of a VMI, owned by a VM or by none."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        where = scene.namespaces[HOMES[user] if user != "virt" or not owner else owner.split("/")[0]]
        metadata = {"namespace": where, "name": vmi_name, "annotations": {IP_ADDRS: f'["{address}"]'}}
        if owner:
            uid = scene.uids.get(owner, "unknown")
            reference = {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachine",
                "name": owner.split("/")[1],
                "uid": uid,
            }
            metadata["ownerReferences"] = [reference]
        body = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata}
        return "POST", VMIS.format(where), {**body, "spec": {"domain": {"devices": {}}}}

    return Case(user, f"{address} on VMI {vmi_name} of {owner or 'no VM'}", request)


def new_pod(address: str, user: str, *, owned: bool = False, annotation: str = IP_ADDRS, text: str = "") -> Case:
    """Return the creation of a pod, owned by a VMI or by nothing, with labels of virt-launcher's pods."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        where = scene.namespaces[HOMES[user]]
        labels = {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "web"}
        metadata: Json = {"namespace": where, "name": "launcher", "labels": labels}
        metadata["annotations"] = {annotation: (text or f'["{address}"]').replace("NETS", scene.namespaces["nets"])}
        if owned:
            reference = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "web", "uid": "x"}
            metadata["ownerReferences"] = [reference]
        spec = {"containers": [{"name": "c", "image": "c"}], "serviceAccountName": "default"}
        return "POST", f"/api/v1/namespaces/{where}/pods", {"metadata": metadata, "spec": spec}

    words = f"{text or address} on a pod {'of a VMI' if owned else ''}"
    return Case(user, words + (f" by {annotation}" if annotation != IP_ADDRS else ""), request)


def service(address: str, user: str, where: str) -> Case:
    """Return the creation of a Service with an address in a field, or in an annotation."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        namespace = scene.namespaces[HOMES[user]]
        metadata: Json = {"namespace": namespace, "name": "site"}
        spec: Json = {"type": "LoadBalancer", "ports": [{"port": 80}]}
        if where == "loadBalancerIP":
            spec[where] = address
        elif where == "externalIPs":
            spec[where] = [address]
        else:
            metadata["annotations"] = {where: address}
        return "POST", f"/api/v1/namespaces/{namespace}/services", {"metadata": metadata, "spec": spec}

    return Case(user, f"{address} on a Service by {where}", request)


FOREIGN = "is allocated to a VM in another namespace, and VM {b}/web may not use it (kubectl yoshi ips show "
ONLY_VMS = "is only for VMs, and KubeVirt did not create this object for one"
FIELDS = (
    "loadBalancerIP",
    "externalIPs",
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/loadBalancerIPs",
    "lbipam.cilium.io/ips",
    "kube-vip.io/loadbalancerIPs",
    "projectcalico.org/loadBalancerIPs",
    "plumber.k8s.pf9.io/publicIP",
)

CASES = [
    # VMs, small networks
    ip(f"{BLUE}.1", "alice"),
    refused(ip(f"{BLUE}.1", "bob"), f"address {BLUE}.1 of network {{nets}}/blue {FOREIGN}{BLUE}.1)"),
    refused(ip(f"{BLUE}.1", "alice", "db"), "is allocated to VM {a}/web, and VM {a}/db may not use it"),
    refused(ip(f"{BLUE}.99", "bob"), "is not allocated, and VM {b}/web may not use it"),
    refused(ip(f"{BLUE}.3", "alice"), "is reserved, and VM {a}/web may not use it"),
    refused(ip(f"{BLUE}.4", "alice"), "is reserved"),
    refused(ip(f"{BLUE}.5", "alice"), "is reserved"),
    refused(ip(f"{BLUE}.8", "alice"), "is that of the network itself"),
    *(refused(own_and(own, other, annotation), "in another namespace")
      for own, other in ((f"{BLUE}.2", f"{BLUE}.1"), (f"{BIG}.0.2", f"{BIG}.0.1"))
      for annotation in (L2_ADDRESS, "cni.projectcalico.org/floatingIPs")),
    refused(own_and(f"{BLUE}.2", f"{PUB}.1", PUBLIC_IP), "in another namespace"),
    refused(own_and(f"{BIG}.0.2", f"{BIG}.0.1", PUBLIC_IP), "in another namespace"),
    refused(own_and(f"{BLUE}.2", f'["{BLUE}.2"]"{BLUE}.1', IP_ADDRS), "in another namespace"),
    refused(own_and(f"{BIG}.0.2", f'["{BIG}.0.2"]"{BIG}.0.1', IP_ADDRS), "in another namespace"),
    *(refused(ip(f"{prefix}.{number}", "alice"), f"address {prefix}.{number} of network {{nets}}/")
      for prefix in (BLUE, f"{BIG}.0") for number in NEARLY_OWN),
    ip(f"{BLUE}.6", "alice", "db"),
    refused(ip(f"{BLUE}.6", "bob", "db"), "in another namespace"),
    ip(f"{BLUE}.1", "root"),
    ip(f"{BLUE}.2", "root"),
    ip(f"{BLUE}.99", "root"),
    ip("10.9.9.9", "bob"),
    refused(new_vm(f"{BLUE}.7", "alice", "old"), "is allocated to an earlier VM of this name"),
    refused(new_vm(f"{BLUE}.1", "bob", "new"), "in another namespace"),
    new_vm("10.9.9.9", "bob", "new"),
    refused(ip(f"{BLUE}.1", "bob", annotation="cni.projectcalico.org/ipAddrsNoIpam"), "in another namespace"),
    refused(ip(f"{BLUE}.1", "bob", annotation="cni.projectcalico.org/floatingIPs"), "in another namespace"),
    refused(ip(f"{BLUE}.2", "virt"), "in another namespace"),
    # notations
    refused(ip("100.64.0.\\u0031", "bob"), "addresses must be written plainly"),
    refused(ip("::ffff:100.64.0.1", "bob"), "addresses must be written plainly"),
    refused(ip("::FFFF:6440:1", "bob"), "addresses must be written plainly"),
    refused(ip(f'{BLUE}.99","{BLUE}.1', "bob"), "is not allocated"),
    refused(ip(f"{BLUE}.99", "bob", annotation=L2_ADDRESS), "is not allocated"),
    refused(ip('10.9.9.9","' * 400 + "10.9.9.9", "bob"), "at most 4096 characters"),
    # requests of public addresses
    request_address(f"{PUB}.1", "alice"),
    request_address(f"{PUB}.99", "bob"),
    refused(request_address(f"{PUB}.1", "bob"), f"address {PUB}.1 of network {{nets}}/pub {FOREIGN}{PUB}.1)"),
    refused(request_address(f"{PUB}.9, {PUB}.1", "bob", "db"), f"address {PUB}.1 of network {{nets}}/pub is allocated"),
    request_address(f"{PUB}.1", "alice", "db"),  # as `ips move` does
    request_address("192.0.2.7", "virt"),
    refused(request_address("192.0.2.7", "alice"), "in another namespace"),
    request_address(f"{PUB}.4", "alice"),
    refused(request_address(f"{PUB}.4", "bob"), "is reserved"),
    request_address(f"{PUB}.1", "root", "db"),
    request_address(f"{BIG}.0.1", "alice"),
    request_address(f"{BIG}.0.9", "bob"),
    refused(request_address(f"{BIG}.0.1", "bob"), f"address {BIG}.0.1 of network {{nets}}/big {FOREIGN}{BIG}.0.1)"),
    # large networks
    ip(f"{BIG}.0.1", "alice"),
    refused(ip(f"{BIG}.0.1", "bob"), f"address {BIG}.0.1 of network {{nets}}/big {FOREIGN}{BIG}.0.1)"),
    refused(ip(f"{BIG}.0.9", "bob"), "is not allocated"),
    ip(f"{BIG}.5.9", "bob"),  # no block exists, and bob may allocate the address
    refused(ip(f"{BIG}.5.9", "carol"), "is only for users who can allocate addresses of this network"),
    refused(ip(f"{BIG}.0.9", "carol"), f"address {BIG}.0.9 of network {{nets}}/big is"),
    ip(f"{BIG}.0.9", "root"),
    ip("100.65.16.1", "carol"),
    ip(f"{SIX}1", "alice"),
    refused(ip(f"{SIX}1", "bob"), "in another namespace"),
    refused(ip("FD00:64:0:0:0:0:0:1", "bob"), f"address {SIX}1 of network {{nets}}/six"),
    refused(ip("FD00:65::A", "bob"), "address fd00:65::a of network {nets}/pub"),
    # the networks of one's own namespace
    ip(f"{OWN}.1", "alice"),
    refused(ip(f"{OWN}.1", "alice", "db"), "is allocated to VM {a}/web"),
    # Layer 2 networks, MAC addresses
    ip(f"{LAYER2}.1", "alice", annotation=L2_ADDRESS),
    refused(ip(f"{LAYER2}.1", "bob", annotation=L2_ADDRESS), "in another namespace"),
    mac("02:00:00:00:01:0a", "alice", "layer2"),
    mac("02:00:00:00:01:0a", "bob"),  # on no network
    mac("02:00:00:00:01:0a", "bob", "wide"),
    refused(
        mac("02-00-00-00-01-0A", "bob", "layer2"),
        f"the MAC address 02:00:00:00:01:0a is allocated with address {LAYER2}.1 of network {{nets}}/layer2, and VM",
    ),
    hw_addr(BOBS_MAC, "bob"),
    refused(hw_addr(ALICES_MAC.upper(), "bob"), f"the MAC address {ALICES_MAC} is allocated"),
    hw_addr(BOBS_MAC, "bob", "02:00:00:00:09:09"),
    refused(hw_addr(BOBS_MAC, "bob", ALICES_MAC), f"the MAC address {ALICES_MAC} is allocated"),
    refused(hw_addr_on("layer2", "02:00:00:00:01:0a", "bob"), "the MAC address 02:00:00:00:01:0a is allocated"),
    refused(hw_addr_on("wide", "02:00:00:00:02:0a", "bob"), "the MAC address 02:00:00:00:02:0a is allocated"),
    refused(hw_addr_on("wide", "02:00:00:00:02:0a", "bob", "100.71.0.2"), "the MAC address 02:00:00:00:02:0a is"),
    refused(join("layer2", "bob"), "the MAC address 02:00:00:00:01:0a is allocated"),
    refused(join("wide", "bob"), "the MAC address 02:00:00:00:02:0a is allocated"),
    mac("02:00:00:00:09:09", "bob", "layer2"),
    mac("02:00:00:00:09:09", "bob", "wide"),
    mac("02:00:00:00:02:0a", "alice", "wide"),
    refused(mac("0200.0000.020A", "bob", "wide"), "the MAC address 02:00:00:00:02:0a is allocated with address 100.71"),
    refused(ip("100.71.0.1", "bob", annotation=L2_ADDRESS), "in another namespace"),
    mac(ALICES_MAC, "root"),
    # VMIs
    new_vmi(f"{BLUE}.1", "virt", "a/web"),
    new_vmi(f"{BIG}.0.1", "virt", "a/web"),
    refused(new_vmi(f"{BLUE}.2", "virt", "a/web"), "in another namespace"),
    refused(new_vmi(f"{BIG}.0.2", "virt", "a/web"), "in another namespace"),
    refused(new_vmi(f"{BLUE}.1", "virt"), "is allocated to an earlier VM of this name"),
    refused(new_vmi(f"{BLUE}.1", "virt", "a/db", "db"), "is allocated to VM {a}/web"),
    refused(new_vmi(f"{BLUE}.1", "alice", "a/web"), ONLY_VMS),
    refused(new_vmi(f"{BIG}.0.1", "alice", "a/web"), ONLY_VMS),
    refused(new_vmi(f"{BLUE}.2", "fake", "b/web"), ONLY_VMS),
    refused(new_vmi(f"{BLUE}.1", "bob", "b/web"), "in another namespace"),
    new_vmi("10.9.9.9", "alice"),
    new_vmi(f"{BLUE}.1", "root", "a/web"),
    # pods
    new_pod(f"{BLUE}.1", "virt", owned=True),
    new_pod(f"{BIG}.0.1", "virt", owned=True),
    refused(new_pod(f"{BLUE}.1", "virt"), ONLY_VMS),
    refused(new_pod(f"{BLUE}.1", "alice", owned=True), ONLY_VMS),
    refused(new_pod(f"{BLUE}.1", "bob", owned=True), f"address {BLUE}.1 of network {{nets}}/blue {ONLY_VMS}"),
    refused(new_pod(f"{BIG}.7.7", "bob"), ONLY_VMS),
    refused(new_pod(f"{BLUE}.2", "fake", owned=True), ONLY_VMS),
    new_pod(f"{BLUE}.1", "root"),
    new_pod("10.9.9.9", "bob"),
    refused(new_pod("", "bob", annotation="cni.projectcalico.org/ipv4pools", text='["NETS.blue"]'), "the IPPool"),
    refused(new_pod("", "bob", annotation="cni.projectcalico.org/ipv4pools", text=f'["{BIG}.0.0/20"]'), "the IPPool"),
    refused(new_pod("", "bob", annotation="cni.projectcalico.org/ipv4pools", text='["\\u0062lue"]'), "IPPools must be"),
    new_pod("", "bob", annotation="cni.projectcalico.org/ipv4pools", text='["default-ipv4-ippool"]'),
    # Services
    *(service(f"{PUB}.1", "alice", where) for where in FIELDS),
    *(refused(service(f"{PUB}.1", "bob", where), "and Service {b}/site may not use it") for where in FIELDS),
    service(f"{PUB}.4", "alice", "loadBalancerIP"),
    refused(service(f"{PUB}.4", "bob", "loadBalancerIP"), "is reserved"),
    refused(service(f"{PUB}.9", "alice", "loadBalancerIP"), "is not allocated"),
    refused(service(f"9.9.9.9,{PUB}.1", "bob", "metallb.io/loadBalancerIPs"), "in another namespace"),
    refused(service("192.0.2.7", "alice", "externalIPs"), "in another namespace"),
    service("192.0.2.7", "bob", "externalIPs"),
    service("192.0.2.8", "alice", "externalIPs"),
    service("198.51.100.5", "alice", "loadBalancerIP"),
    refused(service("198.51.100.6", "alice", "loadBalancerIP"), "address 198.51.100.6 of network {nets}/free is"),
    refused(service(f"{BLUE}.1", "bob", "externalIPs"), "in another namespace"),
    refused(service(f"{BIG}.0.1", "bob", "externalIPs"), "in another namespace"),
    refused(service(f"{LAYER2}.2", "alice", "externalIPs"), "in another namespace"),
    refused(service("100.066.000.001", "bob", "loadBalancerIP"), "addresses must be written plainly"),
    refused(service(f"::ffff:{PUB}.1", "bob", "loadBalancerIP"), "addresses must be written plainly"),
    service(f"{PUB}.9", "root", "loadBalancerIP"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_address_is_used_by_its_holder_only(scene: Scene, case: Case) -> None:
    message = case.send(scene)
    if not case.refusal:
        assert message == ""
        return
    assert "403" in message or "422" in message
    assert "ValidatingAdmissionPolicy 'yoshi-address-" in message
    assert case.refusal.format(**scene.namespaces) in message


def annotated_vm(name: str, annotations: Json) -> Case:
    """Return a change of a VM's template by bob."""
    return patch_vm(name, "bob", {"metadata": {"annotations": annotations}})


def annotated(case: Case, name: str, annotations: Json) -> Case:
    """Return the creation of an object with more annotations."""

    def request(scene: Scene) -> tuple[str, str, Any]:
        method, path, body = case.request(scene)
        body["metadata"].setdefault("annotations", {}).update(annotations)
        return method, path, body

    return Case(case.user, name, request)


def many_external_ips() -> Case:
    def request(scene: Scene) -> tuple[str, str, Any]:
        method, path, body = service(f"{PUB}.1", "bob", "externalIPs").request(scene)
        body["spec"]["externalIPs"] += [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(MANY)]
        return method, path, body

    return Case("bob", "Service with many externalIPs", request)


KEYS = {f"k{number:x}": "" for number in range(MANY)}
LIST_OF_MANY = f'["{BLUE}.1"' + ',"10.9.9.9"' * MANY + "]"
TOO_MANY, TOO_LONG = "can have at most 1,000 annotations", "at most 4096 characters"
LARGE_REQUESTS = [
    refused(annotated_vm("VM with many annotations", {IP_ADDRS: f'["{BLUE}.1"]', **KEYS}), TOO_MANY),
    refused(annotated_vm("VM with many addresses", {IP_ADDRS: LIST_OF_MANY}), TOO_LONG),
    refused(annotated_vm("VM with many pools", {"cni.projectcalico.org/ipv4pools": '["a"' + ',"b"' * MANY}), TOO_LONG),
    refused(request_address(f"{PUB}.1" + ",9.9.9.9" * (MANY // 2), "bob"), TOO_LONG),
    refused(annotated(new_pod(f"{BLUE}.1", "bob"), "pod with many annotations", KEYS), TOO_MANY),
    refused(annotated(new_pod("10.9.9.9", "bob"), "pod of no network, with many annotations", KEYS), TOO_MANY),
    refused(annotated(new_vmi(f"{BLUE}.1", "bob"), "VMI with many annotations", KEYS), TOO_MANY),
    refused(annotated(service(f"{PUB}.1", "bob", FIELDS[2]), "Service with many annotations", KEYS), "in another"),
    annotated(service("9.9.9.9", "bob", FIELDS[2]), "Service of no network, with many annotations", KEYS),
    refused(many_external_ips(), TOO_LONG),
]  # fmt: skip


@pytest.mark.parametrize("case", LARGE_REQUESTS, ids=str)
def test_large_request_is_answered_soon(scene: Scene, case: Case) -> None:
    start = time.monotonic()
    message = case.send(scene)
    assert time.monotonic() - start < MANY_SECONDS
    assert case.refusal in message if case.refusal else not message


@pytest.fixture
def large_vm(scene: Scene) -> Iterator[str]:
    """The path of a VM of bob with more annotations than the policies compare, as if it had been there before them."""
    where, name = scene.namespaces["b"], "yoshi-address-format"
    annotations = {f"k{number}": "" for number in range(1001)}
    large = vm(where, "large", template_annotations=annotations)
    [binding] = [obj for obj in load_policies() if policy_ref(obj) == POLICY_BINDING.ref(name)]
    delete(scene.cluster, POLICY_BINDING.plural, name)
    wait_for(lambda: not Case("bob", "", lambda _: ("POST", VMS.format(where), large)).send(scene), f"no {name}")
    make(scene.cluster, large)
    make(scene.cluster, binding)
    _wait_until_active(scene)
    yield f"{VMS.format(where)}/large"
    delete(scene.cluster, "virtualmachines", "large", namespace=where)


def test_vm_with_too_many_annotations_can_be_changed_otherwise(scene: Scene, large_vm: str) -> None:
    bob = scene.api("bob")

    def annotate(value: str | None) -> Json:
        return {"spec": {"template": {"metadata": {"annotations": {"k1": value, "k2": value}}}}}

    bob.patch(large_vm, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}})
    with pytest.raises(ApiError, match=TOO_MANY):
        bob.patch(large_vm, annotate("x"))
    bob.patch(large_vm, annotate(None))
    assert bob.patch(large_vm, {"metadata": {"labels": {"tier": "web"}}})["metadata"]["labels"]["tier"] == "web"


@pytest.fixture
def without_match_conditions(scene: Scene) -> Iterator[None]:
    """Copies of the policies for the use of addresses that compare every request. Their own label is refused."""
    cluster, nets = scene.cluster, scene.namespaces["nets"]
    made = []
    for name in ADDRESS_USE_POLICIES:
        copy = f"{nets}-{name}"
        policy = get(cluster, POLICY.plural, name)
        spec = {key: value for key, value in policy["spec"].items() if key != "matchConditions"}
        probe = f"dyn(object).metadata.?labels[?'probe'].orValue('') != '{name}'"
        spec["validations"] = [*spec["validations"], {"expression": probe}]
        make(cluster, {**policy, "metadata": {"name": copy}, "spec": spec})
        made.append((POLICY, copy))
        for bound in (name, binding_name(name, nets)):
            binding = get(cluster, POLICY_BINDING.plural, bound)
            metadata = {"name": f"{nets}-{bound}"}
            make(cluster, {**binding, "metadata": metadata, "spec": {**binding["spec"], "policyName": copy}})
            made.append((POLICY_BINDING, f"{nets}-{bound}"))
    for name in ADDRESS_USE_POLICIES:
        probe_vm = Case("bob", "", partial(_labelled_vm, name))
        wait_for(lambda name=name, probe=probe_vm: f"'{nets}-{name}'" in probe.send(scene), f"the copy of {name}")
    yield
    for resource, name in reversed(made):
        delete(cluster, resource.plural, name)


def _labelled_vm(label: str, scene: Scene) -> tuple[str, str, Any]:
    return "PATCH", f"{VMS.format(scene.namespaces['b'])}/web", {"metadata": {"labels": {"probe": label}}}


def random_change(user: str, rng: random.Random) -> Case:
    """Return a change of a VM that requests addresses and MAC addresses, often as kubectl yoshi writes them."""
    own_number, own_mac = (1, ALICES_MAC) if user == "alice" else (2, BOBS_MAC)
    addresses = [f"{prefix}.{number}" for prefix in (BLUE, f"{BIG}.0") for number in (1, 2, 9, *NEARLY_OWN)]
    addresses += [f"{LAYER2}.1", f"{OWN}.1", f"{BIG}.5.9", f"{SIX}1", f"{SIX}2", "FD00:64::1", "192.0.2.7", "10.9.9.9"]
    macs = [ALICES_MAC, BOBS_MAC, BOBS_MAC.upper(), "02:00:00:00:01:0a", "02:00:00:00:02:0a"]
    own = [f"{BLUE}.{own_number}", f"{BLUE}.{own_number}", f"{BIG}.0.{own_number}"]
    address, other = rng.choice(rng.choice([own, addresses])), rng.choice(addresses)
    annotations: Json = {}
    if rng.random() < 0.9:
        texts = [f'["{address}"]'] * 12 + [f'["{address}","{other}"]', f' ["{address}"]', f'[ "{address}" ]', "[]"]
        annotations[IP_ADDRS] = rng.choice(texts)
    if rng.random() < 0.7:
        annotations["cni.projectcalico.org/hwAddr"] = rng.choice([own_mac, rng.choice(macs)])
    for key in ("ipAddrsNoIpam", "floatingIPs"):
        if rng.random() < 0.05:
            annotations[f"cni.projectcalico.org/{key}"] = f'["{other}"]'
    if rng.random() < 0.05:
        annotations["cni.projectcalico.org/ipv4pools"] = '["blue"]'
    if rng.random() < 0.1:
        annotations[L2_ADDRESS] = other
    if rng.random() < 0.2:
        annotations["example.com/team"] = address
    with_mac = {"macAddress": rng.choice(macs)} if rng.random() < 0.2 else {}
    joined = rng.choice(["layer2", "wide"]) if rng.random() < 0.2 else ""
    requested = {PUBLIC_IP: rng.choice([f"{PUB}.1", f"{PUB}.9", "192.0.2.7"])} if rng.random() < 0.1 else {}
    vm_name = rng.choice(["web", "web", "web", "db"])

    def request(scene: Scene) -> tuple[str, str, Any]:
        spec: Json = {"domain": {"devices": {"interfaces": [{"name": "net1", "bridge": {}, **with_mac}]}}}
        spec["networks"] = [segment(scene, joined) if joined else {"name": "net1", "pod": {}}]
        template = {"metadata": {"annotations": annotations}, "spec": spec}
        body = {"metadata": {"annotations": requested}, "spec": {"template": template}}
        return "PATCH", f"{VMS.format(scene.namespaces[HOMES[user]])}/{vm_name}", body

    return Case(user, f"VM {vm_name}: {annotations}, {with_mac}, {joined or 'no network'}, {requested}", request)


def test_match_conditions_pass_only_what_the_validations_admit(scene: Scene, request: pytest.FixtureRequest) -> None:
    """What a match condition exempts from the validations, they would have admitted too."""
    rng = random.Random(15)
    changes = [random_change(user, rng) for _ in range(RANDOM_CHANGES // 2) for user in ("alice", "bob")]
    admitted = [case for case in [*changes, *CASES] if not case.send(scene)]
    assert len(admitted) > RANDOM_CHANGES / 8
    request.getfixturevalue("without_match_conditions")
    refusals = {str(case.name): message for case in admitted if (message := case.send(scene))}
    assert not refusals


@pytest.fixture
def violations(scene: Scene) -> Iterator[Json]:
    """A VM, a pod and a Service of bob with addresses of alice, as if they had been there before the policies."""
    where = scene.namespaces["b"]
    annotations = {IP_ADDRS: f'["{BLUE}.1"]'}
    pod = new_pod(f"{BLUE}.1", "bob").request(scene)[2]
    site = service(f"{PUB}.1", "bob", "loadBalancerIP").request(scene)[2]
    objects = [
        vm(where, "bad", template_annotations=annotations),
        {"apiVersion": "v1", "kind": "Pod", **pod},
        {"apiVersion": "v1", "kind": "Service", **site},
    ]
    yield make(scene.cluster, *objects)
    for kind, name in (("virtualmachines", "bad"), ("pods", "launcher"), ("services", "site")):
        delete(scene.cluster, kind, name, namespace=where)


def test_what_violated_the_policy_before_can_be_changed_and_deleted(scene: Scene, violations: list[Json]) -> None:
    bob, where = scene.api("bob"), scene.namespaces["b"]
    metadata = {"labels": {"tier": "web"}, "annotations": {"note": "x"}, "finalizers": ["tests.yoshi/hold"]}
    paths = [VMS.format(where), f"/api/v1/namespaces/{where}/pods", f"/api/v1/namespaces/{where}/services"]
    for found, path in zip(violations, paths, strict=True):
        at = f"{path}/{found['metadata']['name']}"
        bob.patch(at, {"metadata": metadata})
        scene.cluster.api.patch(f"{at}/status", {"status": {"conditions": []}})  # as kubelet and controllers do
        bob.delete(at)
        bob.patch(at, {"metadata": {"finalizers": None}})
    kinds = ("virtualmachines", "pods", "services")
    for found, kind in zip(violations, kinds, strict=True):
        gone = partial(find, scene.cluster, kind, found["metadata"]["name"], namespace=where)
        wait_for(lambda gone=gone: gone() is None, f"{kind} is gone")


def test_address_of_another_vm_can_be_removed_and_not_written_again(scene: Scene, violations: list[Json]) -> None:
    bob, where = scene.api("bob"), scene.namespaces["b"]
    at = f"{VMS.format(where)}/bad"
    template = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}}
    assert bob.patch(at, template)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 5
    bob.patch(at, {"spec": {"template": {"metadata": {"annotations": {IP_ADDRS: None}}}}})
    again = ip(f"{BLUE}.1", "bob", "bad").send(scene)
    assert "in another namespace" in again
    site = f"/api/v1/namespaces/{where}/services/site"
    bob.patch(site, {"spec": {"ports": [{"port": 443, "name": "https"}], "loadBalancerIP": f"{PUB}.1"}})
    with pytest.raises(ApiError, match="is not allocated"):
        bob.patch(site, {"spec": {"externalIPs": [f"{PUB}.77"]}})


def test_tenants_attach_vms_with_the_policies_in_force(scene: Scene) -> None:
    """The VM is patched right after the allocation is written, which the policy has to know by then."""
    cluster, names = scene.cluster, scene.namespaces
    administrator = Yoshi(cluster.kubeconfig, cluster.context, scene.forks, names["shared"])
    for network, cidr in (("green", "100.69.0.0/24"), ("huge", "100.70.0.0/20")):
        administrator.done("network", "create", network, "--cidr", cidr)
    assert names["shared"] in list_bound_namespaces(get(cluster, POLICY_BINDING.plural)["items"])
    for user in ("alice", "bob"):
        tenant = administrator.within(names[HOMES[user]])
        machines = [f"{user}-{number}" for number in range(8)]
        make_vms(cluster, tenant.namespace, *machines)
        impersonation = ("--as", scene.user(user))
        for network in ("green", "huge"):
            full_name = f"{names['shared']}/{network}"
            for name in machines[:4]:
                reported_address(tenant.run(*impersonation, "vm", "attach", name, "--network", full_name, "--replace"))
            runs = [
                (*impersonation, "vm", "attach", name, "--network", full_name, "--replace") for name in machines[4:]
            ]
            assert all(ran.code == 0 for ran in tenant.together(*runs))
        detached = tenant.run(*impersonation, "vm", "detach", machines[0], "--network", f"{names['shared']}/huge")
        assert detached.code == 0, str(detached)
    wait_for(lambda: bool(ip("100.70.0.1", "bob").send(scene)), "the API server compares with the network huge")
    assert "in another namespace" in ip("100.70.0.2", "bob").send(scene)


def test_explain_says_what_the_policies_decide(scene: Scene) -> None:
    names = scene.namespaces
    tenant = Yoshi(scene.cluster.kubeconfig, scene.cluster.context, scene.forks, names["nets"])

    def explain(user: str, subject: str) -> Json:
        shown = json.loads(tenant.done("--as", scene.user(user), "policy", "explain", subject, "-o", "json"))
        return (shown["items"][0] if shown["kind"] == "List" else shown)["status"]

    found = explain("alice", f"{BLUE}.1")
    assert found["holder"] == f"{names['a']}/web"
    assert found["usableBy"] == [f"VM {names['a']}/web", f"Services in namespace {names['a']}"]
    assert (found["userMayChangeAllocation"], found["userMayUseAnyAddress"]) == (True, False)
    assert (found["policies"], found["namespaces"]) == ("Unknown", "Unknown"), "tenants may not read policies"
    assert not explain("bob", f"{BLUE}.1")["userMayChangeAllocation"]
    administrator = json.loads(tenant.done("policy", "explain", f"{BLUE}.3", "-o", "json"))["status"]
    assert administrator["userMayUseAnyAddress"]
    assert (administrator["policies"], administrator["namespaces"]) == ("enforce", "All")
    shown = tenant.done("policy", "explain", f"vm/{names['a']}/web")
    assert f"VM {names['a']}/web:" in shown
    assert "admitted" in shown
    assert "is in no network that you can access" in tenant.refused("policy", "explain", "10.9.9.9")


def test_hostile_tenant_gets_no_address_of_others(scene: Scene) -> None:
    """Random writes of VMs, VMIs, pods and Services; small networks, existing blocks, and MAC addresses."""
    names = scene.namespaces
    own = {f"{BLUE}.2", f"{BIG}.0.2", f"{PUB}.2", f"{LAYER2}.2", f"{SIX}2", "192.0.2.7", "198.51.100.6"}
    wanted = [f"{prefix}.{number}" for prefix in (BLUE, f"{BIG}.0", PUB, LAYER2) for number in (1, 2, 3, 9)]
    wanted += ["192.0.2.7", "198.51.100.5", "198.51.100.6", f"{SIX}1", f"{SIX}2", f"{SIX}9"]
    layer2 = f"{names['nets']}/layer2"
    macs = [ALICES_MAC, BOBS_MAC, "02:00:00:00:01:0a", "02:00:00:00:01:0b"]
    vms = {name: scene.uids[f"b/{name}"] for name in ("web", "db")}
    tenant = Tenant(names["b"], vms, wanted, macs, [layer2])

    def attack(seed: int) -> Counter[str]:
        rng, bob = random.Random(seed), scene.cluster.api.impersonate(scene.user("bob"))
        answers: Counter[str] = Counter()
        for _ in range(HOSTILE_REQUESTS // 4):
            request = rng.choice(GENERATORS)(tenant, rng)
            try:
                if request.method == "POST":
                    bob.post(request.path, request.body)
                else:
                    bob.patch(request.path, request.body, request.kind)
                answers["admitted"] += 1
            except ApiError as error:
                answers["by policy" if "yoshi-address-" in str(error) else "otherwise"] += 1
        return answers

    with ThreadPoolExecutor(4) as pool:
        answers = sum(pool.map(attack, range(4)), Counter())
    assert answers["admitted"] > HOSTILE_REQUESTS / 100, answers
    assert answers["by policy"] > HOSTILE_REQUESTS / 4, answers

    kinds = "virtualmachines,virtualmachineinstances,pods,services"
    for obj in get(scene.cluster, kinds, namespace=names["b"])["items"]:
        stolen = {address for address in requested_addresses(obj) if address in wanted} - own
        if obj["kind"] in ("VirtualMachineInstance", "Pod"):
            stolen |= set(requested_addresses(obj)) & {*wanted}
        assert not stolen, obj
        if any(address.startswith(BLUE) for address in requested_addresses(obj)):
            assert ALICES_MAC.replace(":", "") not in requested_macs(obj), obj
        if layer2 in joined_networks(obj) or any(address.startswith(LAYER2) for address in requested_addresses(obj)):
            assert "02000000010a" not in requested_macs(obj), obj
        if obj["kind"] == "VirtualMachine":
            assert obj["metadata"]["name"] == "web" or not own & set(requested_addresses(obj)), obj
