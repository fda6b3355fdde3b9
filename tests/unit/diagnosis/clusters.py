"""Clusters, VMs and installed objects for the tests of rules."""

from __future__ import annotations

from kubectl_yoshi import __version__
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, PART_OF_LABEL, VERSION_ANNOTATION
from kubectl_yoshi.model.objects import CRD, POLICY, POLICY_BINDING, Json
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster


def healthy(keeps: bool = True) -> FakeCluster:
    """Return a cluster with current CRDs and enforced policies."""
    cluster = FakeCluster(keeps)
    cluster.api.served = served((*SERVED, CRD, POLICY, POLICY_BINDING))
    for resource in (NETWORKWIZARD, ADDRESSBLOCK):
        cluster.api.put(CRD, installed(resource.full_name))
    cluster.api.put(POLICY, installed("yoshi-allocations", failurePolicy="Fail"))
    binding = {"policyName": "yoshi-allocations", "validationActions": ["Deny"]}
    cluster.api.put(POLICY_BINDING, installed("yoshi-allocations", **binding))
    return cluster


def template_of(interface: Json, annotations: Json | None = None, **spec: object) -> Json:
    """Return the template of a VM with one interface, on the pod network."""
    networks = [{"name": interface["name"], "pod": {}}]
    body = {"domain": {"devices": {"interfaces": [interface]}}, "networks": networks, **spec}
    return {"metadata": {"annotations": annotations or {}}, "spec": body}


def installed(name: str, version: str = __version__, **spec: object) -> Json:
    """Return an object that `install` of a version created."""
    label, annotation = dict([PART_OF_LABEL]), {VERSION_ANNOTATION: version}
    return {"metadata": {"name": name, "labels": label, "annotations": annotation}, "spec": spec}
