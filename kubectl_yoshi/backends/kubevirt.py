"""Determine KubeVirt's version, its defaults, and the labels of a VM's pods, by which a Service selects them."""

from __future__ import annotations

import hashlib
import re

from kubectl_yoshi.model.backend import HotPlug
from kubectl_yoshi.model.objects import Json, Resource, dig
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import Vm, find_instance

KUBEVIRT = Resource("kubevirt.io", "v1", "kubevirts", "KubeVirt")

ALLOW_MIGRATION_ANNOTATION = "kubevirt.io/allow-pod-bridge-network-live-migration"
"""Annotation of a template: KubeVirt live-migrates the VM although the pod network has bridge binding."""
INSTANCE_ID = "vmi.kubevirt.io/id"  # since KubeVirt 1.7; unique per VM
NAME = "vm.kubevirt.io/name"  # the template's hostname, which two VMs may share
MAX_ID_LENGTH = 63
HOT_PLUG_VERSION = (1, 4)
"""From this version on KubeVirt supports hot-plugging of interfaces without a feature gate."""


def version(snapshot: Snapshot) -> tuple[int, int] | None:
    """Return KubeVirt's version as (major, minor); None if it is missing or cannot be read."""
    for obj in snapshot.lookup(Query(KUBEVIRT)):
        match = re.match(r"v?(\d+)\.(\d+)", str(dig(obj, "status", "observedKubeVirtVersion", default="")))
        if match:
            return int(match[1]), int(match[2])
    return None


def default_binding(snapshot: Snapshot) -> str:
    """Return KubeVirt's binding of the pod network for a VM without interfaces (default "bridge")."""
    for obj in snapshot.lookup(Query(KUBEVIRT)):
        if chosen := dig(obj, "spec", "configuration", "network", "defaultNetworkInterface"):
            return str(chosen)
    return "bridge"


def hot_plug(vm: Vm, snapshot: Snapshot) -> HotPlug:
    """Return whether KubeVirt can hot-plug an interface into this VM, which happens with its next live migration.

    Source: https://kubevirt.io/user-guide, "Hotplug Network Interfaces".
    """
    found = snapshot.lookup(Query(KUBEVIRT))
    current_version = version(snapshot)
    if not found or current_version is None:
        return HotPlug(
            "cannot determine what KubeVirt supports: "
            f"{snapshot.unreadable_reason(Query(KUBEVIRT)) or 'no version is reported'}"
        )
    configuration = dig(found[0], "spec", "configuration", default={})
    feature_gates = dig(configuration, "developerConfiguration", "featureGates", default=[])
    if current_version < HOT_PLUG_VERSION and "HotplugNICs" not in feature_gates:
        return HotPlug(
            f"KubeVirt v{current_version[0]}.{current_version[1]} does not support that "
            f"(v{HOT_PLUG_VERSION[0]}.{HOT_PLUG_VERSION[1]} and later do)"
        )
    if configuration.get("vmRolloutStrategy") == "Stage":
        return HotPlug("KubeVirt's vmRolloutStrategy is Stage")
    conditions = dig(find_instance(vm, snapshot), "status", "conditions", default=[])
    migratable: Json = next((c for c in conditions if c.get("type") == "LiveMigratable"), {})
    if migratable.get("status") != "True":
        return HotPlug(f"it cannot be live-migrated: {migratable.get('message') or 'KubeVirt reports no reason'}")
    methods = dig(found[0], "spec", "workloadUpdateStrategy", "workloadUpdateMethods", default=[])
    if "LiveMigrate" in methods:
        return HotPlug(next_step=f"KubeVirt live-migrates {vm.ref} itself, which updates its interfaces")
    migrate = f"virtctl migrate {vm.name} -n {vm.namespace}"
    return HotPlug(next_step=f"the interfaces of {vm.ref} are updated by its next live migration: {migrate}")


def selectors(vm: Vm) -> tuple[dict[str, str], dict[str, str]]:
    """Return the selectors of a VM's pods: from KubeVirt 1.7 on, and before."""
    return {INSTANCE_ID: instance_id(vm.name)}, {"kubevirt.io": "virt-launcher", NAME: vm.hostname}


def pod_labels(vm: Vm) -> dict[str, str]:
    """Return the labels that a VM's pods have or will have: the template's, overridden by KubeVirt's own.

    Source: kubevirt, pkg/virt-controller/services/template.go, podLabels.
    """
    new, old = selectors(vm)
    template_labels = dig(vm.raw, "spec", "template", "metadata", "labels", default={})
    return {**{str(key): str(value) for key, value in template_labels.items()}, **old, **new}


def pod_selector(vm: Vm, snapshot: Snapshot) -> dict[str, str]:
    """Return the selector of the VM's pods for this version of KubeVirt.

    For an unknown version, it is the one that all versions support.
    """
    new, old = selectors(vm)
    current_version = version(snapshot)
    return new if current_version is not None and current_version >= (1, 7) else old


def instance_id(name: str) -> str:
    """Return the value of the label vmi.kubevirt.io/id (kubevirt: pkg/apimachinery/labels.go)."""
    if len(name) <= MAX_ID_LENGTH:
        return name
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return f"{name[: MAX_ID_LENGTH - 9]}-{digest[:8]}"
