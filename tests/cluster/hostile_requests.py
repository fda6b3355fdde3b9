"""Random writes of VMs, VMIs, pods and Services by a tenant who wants addresses of others, and what they have then.

Addresses are written in every notation that a consumer might understand, in every field that requests one.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.api import MERGE_PATCH
from tests.cluster.harness import JSON_PATCH, Json, vm

ANNOTATIONS = ("cni.projectcalico.org/ipAddrs", "cni.projectcalico.org/ipAddrsNoIpam")
L2_ANNOTATION = "ip.plumber.k8s.pf9.io/net1"
SERVICE_ANNOTATIONS = (
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/loadBalancerIPs",
    "lbipam.cilium.io/ips",
    "kube-vip.io/loadbalancerIPs",
    "projectcalico.org/loadBalancerIPs",
    "plumber.k8s.pf9.io/publicIP",
)
NAMES = 6


@dataclass(frozen=True)
class Attack:
    """A write.

    Attributes:
        method: POST, PATCH, PUT or DELETE.
        path: of the collection or the object.
        body: the object or patch.
        kind: the content type of a patch.
    """

    method: str
    path: str
    body: Any = None
    kind: str = JSON_PATCH


@dataclass(frozen=True)
class Tenant:
    """Who sends requests.

    Attributes:
        namespace: that of the tenant.
        vms: name -> uid of VMs that exist.
        addresses, macs: what the tenant wants.
        networks: Layer 2 networks, as namespace/name.
    """

    namespace: str
    vms: dict[str, str]
    addresses: Sequence[str]
    macs: Sequence[str]
    networks: Sequence[str] = ()


def notation(address: str, rng: random.Random) -> str:
    """Return an address in one of the forms that a parser may accept."""
    parsed = ipaddress.ip_address(address)
    forms = [address, address, address, parsed.exploded, address.upper(), f" {address}", f"{address}/32"]
    if parsed.version == 4:
        parts = address.split(".")
        forms += [f"::ffff:{address}", f"::FFFF:{int(parsed) >> 16:x}:{int(parsed) & 0xFFFF:x}"]
        forms += [".".join(f"{int(part):03d}" for part in parts), f"0:0:0:0:0:ffff:{address}"]
    return rng.choice(forms)


def some_list(tenant: Tenant, rng: random.Random) -> str:
    """Return the value of an annotation of Calico: a JSON list, some characters of which may be escaped."""
    wanted = [notation(rng.choice(tenant.addresses), rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    text = json.dumps([*rng.choice([[], ["10.9.9.9"], ["10.9.9.9"] * 500]), *wanted])
    if rng.random() < 0.2:
        place = rng.randrange(2, len(text) - 2)
        text = text if text[place] in '",[] \\' else f"{text[:place]}\\u{ord(text[place]):04x}{text[place + 1 :]}"
    return rng.choice([text, text, text.replace(",", " ,\n")])


def some_metadata(tenant: Tenant, rng: random.Random) -> Json:
    """Return annotations that request addresses."""
    annotations = {rng.choice(ANNOTATIONS): some_list(tenant, rng)}
    if rng.random() < 0.2:
        annotations = {L2_ANNOTATION: notation(rng.choice(tenant.addresses), rng)}
    if rng.random() < 0.2:
        annotations["cni.projectcalico.org/hwAddr"] = mac_notation(rng.choice(tenant.macs), rng)
    return {"annotations": annotations}


def mac_notation(mac: str, rng: random.Random) -> str:
    """Return a MAC address in one of the forms that Go parses."""
    digits = mac.replace(":", "")
    dotted = ".".join(digits[place : place + 4] for place in (0, 4, 8))
    return rng.choice([mac, mac.upper(), mac.replace(":", "-"), dotted])


def owned(tenant: Tenant, rng: random.Random, kind: str) -> Json:
    """Return forged metadata of an object that belongs to a VM or VMI."""
    name = rng.choice([*tenant.vms])
    reference = {"apiVersion": "kubevirt.io/v1", "kind": kind, "name": name, "uid": tenant.vms[name]}
    labels = {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": name}
    return rng.choice([{}, {"ownerReferences": [reference]}, {"ownerReferences": [reference], "labels": labels}])


def vm_writes(tenant: Tenant, rng: random.Random) -> Attack:
    """Create or change a VM."""
    path = f"/apis/kubevirt.io/v1/namespaces/{tenant.namespace}/virtualmachines"
    spec: Json = {"domain": {"devices": {"interfaces": [{"name": "net1", "bridge": {}}]}}}
    if rng.random() < 0.3:
        spec["domain"]["devices"]["interfaces"][0]["macAddress"] = mac_notation(rng.choice(tenant.macs), rng)
    if tenant.networks and rng.random() < 0.3:
        spec["networks"] = [{"name": "net1", "multus": {"networkName": rng.choice(tenant.networks)}}]
    template = {"metadata": some_metadata(tenant, rng), "spec": spec}
    if rng.random() < 0.3:
        new = vm(tenant.namespace, f"evil-{rng.randrange(NAMES)}")
        return Attack("POST", path, {**new, "spec": {**new["spec"], "template": template}})
    path += f"/{rng.choice([*tenant.vms])}"
    if rng.random() < 0.5:
        return Attack("PATCH", path, {"spec": {"template": template}}, MERGE_PATCH)
    return Attack("PATCH", path, [{"op": "add", "path": "/spec/template", "value": template}])


def vmi_writes(tenant: Tenant, rng: random.Random) -> Attack:
    """Create a VMI."""
    metadata = {**owned(tenant, rng, "VirtualMachine"), **some_metadata(tenant, rng)}
    metadata |= {"namespace": tenant.namespace, "name": rng.choice([*tenant.vms, f"evil-{rng.randrange(NAMES)}"])}
    body = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": metadata}
    path = f"/apis/kubevirt.io/v1/namespaces/{tenant.namespace}/virtualmachineinstances"
    return Attack("POST", path, {**body, "spec": {"domain": {"devices": {}}}})


def pod_writes(tenant: Tenant, rng: random.Random) -> Attack:
    """Create a pod that waits to be scheduled, or annotate one."""
    path = f"/api/v1/namespaces/{tenant.namespace}/pods"
    name = f"evil-{rng.randrange(NAMES)}"
    if rng.random() < 0.3:
        return Attack("PATCH", f"{path}/{name}", {"metadata": some_metadata(tenant, rng)}, MERGE_PATCH)
    wanted = rng.choice([{}, some_metadata(tenant, rng)])
    metadata = {**owned(tenant, rng, "VirtualMachineInstance"), **wanted, "name": name}
    spec = {"containers": [{"name": "c", "image": "c"}], "schedulingGates": [{"name": "tests/wait"}]}
    return Attack("POST", path, {"metadata": metadata, "spec": spec})


def service_writes(tenant: Tenant, rng: random.Random) -> Attack:
    """Create or change a Service."""
    path = f"/api/v1/namespaces/{tenant.namespace}/services"
    name = f"evil-{rng.randrange(NAMES)}"
    spec: Json = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    metadata: Json = {"name": name}
    text = notation(rng.choice(tenant.addresses), rng)
    where = rng.choice(["loadBalancerIP", "externalIPs", *SERVICE_ANNOTATIONS])
    if where in SERVICE_ANNOTATIONS:
        metadata["annotations"] = {where: rng.choice([text, f"9.9.9.9,{text}", f"{text} , 9.9.9.9"])}
    else:
        spec[where] = [text] if where == "externalIPs" else text
    if rng.random() < 0.5:
        return Attack("PATCH", f"{path}/{name}", {"metadata": metadata, "spec": spec}, MERGE_PATCH)
    return Attack("POST", path, {"metadata": metadata, "spec": rng.choice([spec, {"ports": [{"port": 80}]}])})


GENERATORS: tuple[Callable[[Tenant, random.Random], Attack], ...] = (vm_writes, vmi_writes, pod_writes, service_writes)


def requested_addresses(obj: Json) -> Iterator[str]:
    """Yield the addresses that an object requests, as the most liberal of all parsers reads them."""
    metadata, spec = obj["metadata"], obj.get("spec", {})
    template = spec.get("template", {}) if obj["kind"] == "VirtualMachine" else {}
    annotations = {**metadata.get("annotations", {}), **template.get("metadata", {}).get("annotations", {})}
    texts: list[str] = [spec.get("loadBalancerIP", ""), *spec.get("externalIPs", [])]
    for key, text in annotations.items():
        if key in ANNOTATIONS:
            texts += json.loads(text)
        elif key.startswith("ip.plumber.") or key in SERVICE_ANNOTATIONS:
            texts += text.split(",")
    yield from filter(None, map(_liberal_address, texts))


def _template(obj: Json) -> Json:
    template: Json = obj["spec"].get("template", {}) if obj["kind"] == "VirtualMachine" else obj
    return template


def _liberal_address(text: str) -> str:
    stripped = re.sub(r"(^|\.)0+(?=\d)", r"\1", text.strip().partition("/")[0])
    try:
        address = ipaddress.ip_address(stripped)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def joined_networks(obj: Json) -> set[str]:
    """Return the Layer 2 networks that a VM or VMI is on."""
    networks = _template(obj).get("spec", {}).get("networks", [])
    return {network["multus"]["networkName"] for network in networks if "multus" in network}


def requested_macs(obj: Json) -> set[str]:
    """Return the MAC addresses that a VM or VMI requests, in lower case without separators."""
    template = _template(obj)
    interfaces: Iterable[Json] = template.get("spec", {}).get("domain", {}).get("devices", {}).get("interfaces", [])
    annotations = template.get("metadata", {}).get("annotations", {})
    texts = [interface.get("macAddress", "") for interface in interfaces]
    texts.append(annotations.get("cni.projectcalico.org/hwAddr", ""))
    return {re.sub("[-:.]", "", text).lower() for text in texts if text}
