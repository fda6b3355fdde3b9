"""A cluster in memory with a public network and a VM, as MetalLB, its router and Calico show a healthy one."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from kubectl_yoshi.backends.calico.node_status import V1_NODE_STATUS
from kubectl_yoshi.backends.metallb import frr
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.diagnosis.public import ENDPOINT_SLICE
from kubectl_yoshi.model.objects import NAMESPACE, NODE, Json, ObjectRef, Resource, name_of, namespace_of
from kubectl_yoshi.model.vm import VM, VMI
from lab.manifests import OWN_CRDS
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_public import ANNOUNCED, make_public

ADDRESS = "203.0.113.7"
ROUTER = "10.240.0.5"
NODE_NAME = "node1"
METALLB_NAMESPACE = "metallb-system"
REPORTED = (
    metallb.L2_STATUS, metallb.BGP_STATUS, metallb.CONFIGURATION_STATE, ENDPOINT_SLICE, NAMESPACE,
)  # fmt: skip
FRR = (frr.SESSION_STATE, frr.NODE_STATE)
STATUS_OF = {"metallb-l2": metallb.L2_STATUS, "metallb-bgp": metallb.BGP_STATUS}


def public_cluster(announce: str = "metallb-l2", *more: Resource) -> FakeCluster:
    """Return a cluster with network prod/pub, and VM web-1, which runs with ADDRESS; everything works.

    Args:
        announce: what announces the network.
        more: further resources that are served, such as those of FRR.
    """
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, *ANNOUNCED, *REPORTED, V1_NODE_STATUS, *more))
    cluster.api.put(NODE, named(NODE_NAME))
    cluster.api.put(NAMESPACE, named("prod", labels={"kubernetes.io/metadata.name": "prod"}))
    assert not make_public(cluster, "pub", "203.0.113.0/24", announce).errors
    cluster.running("web-1")
    cluster.api.change(VMI.ref("web-1", "prod"), lambda vmi: vmi["status"].update(nodeName=NODE_NAME))
    assert not cluster.attach("web-1", network="prod/pub", ip=ADDRESS).errors
    service = service_of(cluster)
    put_endpoint(cluster)
    if announce in STATUS_OF:
        assign(cluster)
        place = {"node": NODE_NAME, "serviceName": service.name, "serviceNamespace": "prod"}
        cluster.api.put(STATUS_OF[announce], named("l2-1", METALLB_NAMESPACE, status=place))
        valid = {"status": {"result": "Valid"}}
        cluster.api.put(metallb.CONFIGURATION_STATE, named("controller", METALLB_NAMESPACE, **valid))
    if announce == "metallb-bgp":
        put_session(cluster, "Established")
        put_frr(cluster, f" address-family ipv4 unicast\n  network {ADDRESS}/32\n exit-address-family\n")
    if announce == "calico-bgp":
        peers = [{"peerIP": ROUTER, "state": "Established", "type": "Global"}]
        body = {"spec": {"node": NODE_NAME, "classes": ["BGP"]}, "status": {"bgp": {"peersV4": peers}}}
        cluster.api.put(V1_NODE_STATUS, named("node1-status", **body))
    return cluster


def named(name: str, namespace: str = "", labels: Json | None = None, **content: Any) -> Json:
    """Return an object with a name."""
    metadata = {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        **({"labels": labels} if labels else {}),
    }
    return {"metadata": metadata, **content}


def service_of(cluster: FakeCluster) -> ObjectRef:
    """Return the reference of the Service of web-1."""
    [service] = cluster.api.every(SERVICE)
    return SERVICE.ref(name_of(service), namespace_of(service))


def set_ingress(cluster: FakeCluster, *addresses: str) -> None:
    """Write the status of the VM's Service."""
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}
    cluster.api.change(service_of(cluster), lambda service: service.update(status=status))


def assign(cluster: FakeCluster) -> None:
    """Do what MetalLB's controller does."""
    set_ingress(cluster, ADDRESS)


def set_strategy(cluster: FakeCluster, strategy: str) -> None:
    """Start or stop the VM."""
    cluster.api.change(VM.ref("web-1", "prod"), lambda vm: vm["spec"].update(runStrategy=strategy))
    cluster.time_passes()


def put_endpoint(cluster: FakeCluster, **conditions: bool) -> None:
    """Write the EndpointSlice of the VM's Service: one endpoint, ready by default."""
    service = service_of(cluster).name
    endpoint = {"addresses": ["192.168.0.1"], "nodeName": NODE_NAME, "conditions": {"ready": True, **conditions}}
    labels = {"kubernetes.io/service-name": service}
    content = {"addressType": "IPv4", "endpoints": [endpoint]}
    cluster.api.put(ENDPOINT_SLICE, named(f"{service}-abc", "prod", labels, **content))


def silence(cluster: FakeCluster) -> None:
    """Delete what MetalLB's speakers report."""
    for resource in STATUS_OF.values():
        for status in cluster.api.every(resource):
            cluster.api.drop(resource.ref(name_of(status), namespace_of(status)))


def drop_all(cluster: FakeCluster, resource: Resource) -> None:
    """Delete all objects of a resource."""
    for obj in cluster.api.every(resource):
        cluster.api.drop(resource.ref(name_of(obj), namespace_of(obj) or None))


def put_session(cluster: FakeCluster, state: str, node: str = NODE_NAME) -> None:
    """Write the BGPSessionState of a node."""
    status = {"node": node, "peer": ROUTER, "vrf": "default", "bgpStatus": state, "bfdStatus": "N/A"}
    cluster.api.put(frr.SESSION_STATE, named(f"{node}-abc", METALLB_NAMESPACE, status=status))


def put_frr(cluster: FakeCluster, config: str, conversion: str = "success", reload: str = "success") -> None:
    """Write the FRRNodeState of the VM's node."""
    status = {"runningConfig": config, "lastConversionResult": conversion, "lastReloadResult": reload}
    cluster.api.put(frr.NODE_STATE, named(NODE_NAME, status=status))


@cache
def _schemas() -> list[tuple[Resource, Draft202012Validator]]:
    """Return the resources of MetalLB, Multus and luigi with their schemas, from the lab's CRDs."""
    found = []
    for file in [file for folder in ("metallb", "luigi", "multus") for file in (OWN_CRDS / folder).glob("*.yaml")]:
        crd = yaml.safe_load(file.read_text())
        names, group = crd["spec"]["names"], crd["spec"]["group"]
        for version in crd["spec"]["versions"]:
            resource = Resource(group, version["name"], names["plural"], names["kind"])
            found.append((resource, Draft202012Validator(version["schema"]["openAPIV3Schema"])))
    return found


def check_schemas(cluster: FakeCluster) -> None:
    """Check that the objects of MetalLB, Multus and luigi in a cluster fit their CRDs."""
    for resource, validator in _schemas():
        for obj in cluster.api.every(resource):
            validator.validate(obj)
