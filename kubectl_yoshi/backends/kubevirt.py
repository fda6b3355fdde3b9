"""What KubeVirt puts on the pods of a VM, so that a Service finds them."""

from __future__ import annotations

import hashlib
import re

from kubectl_yoshi.model.backend import HotPlug
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.objects import Json, Resource, dig
from kubectl_yoshi.model.vm import Vm, instance_of

KUBEVIRT = Resource("kubevirt.io", "v1", "kubevirts", "KubeVirt")

INSTANCE_ID = "vmi.kubevirt.io/id"  # since KubeVirt 1.7, one VM's alone
NAME = "vm.kubevirt.io/name"  # the template's hostname, which two VMs may share
LONGEST_ID = 63
PLUGS = (1, 4)
"""From this version on KubeVirt plugs interfaces into running VMs without being told to by a feature gate."""


def version(facts: Facts) -> tuple[int, int] | None:
    """KubeVirt's version as (major, minor); None where it does not tell, or may not be read."""
    for obj in facts.ask(Read(KUBEVIRT)):
        match = re.match(r"v?(\d+)\.(\d+)", str(dig(obj, "status", "observedKubeVirtVersion", default="")))
        if match:
            return int(match[1]), int(match[2])
    return None


def default_binding(facts: Facts) -> str:
    """How KubeVirt binds the pod network for a VM that names no interface: "bridge" unless it is told otherwise."""
    for obj in facts.ask(Read(KUBEVIRT)):
        if chosen := dig(obj, "spec", "configuration", "network", "defaultNetworkInterface"):
            return str(chosen)
    return "bridge"


def hot_plug(vm: Vm, facts: Facts) -> HotPlug:
    """Whether KubeVirt plugs an interface into this VM while it runs (https://kubevirt.io/user-guide, "Hotplug Network
    Interfaces"): it does so with the VM's next live migration."""
    found = facts.ask(Read(KUBEVIRT))
    known = version(facts)
    if not found or known is None:
        return HotPlug(f"what KubeVirt can do is unknown: {facts.why_unknown(Read(KUBEVIRT)) or 'it does not tell'}")
    configuration = dig(found[0], "spec", "configuration", default={})
    gates = dig(configuration, "developerConfiguration", "featureGates", default=[])
    if known < PLUGS and "HotplugNICs" not in gates:
        return HotPlug(f"KubeVirt v{known[0]}.{known[1]} does not do that (from v{PLUGS[0]}.{PLUGS[1]} on)")
    if configuration.get("vmRolloutStrategy") == "Stage":
        return HotPlug("KubeVirt's vmRolloutStrategy is Stage")
    conditions = dig(instance_of(vm, facts), "status", "conditions", default=[])
    migratable: Json = next((c for c in conditions if c.get("type") == "LiveMigratable"), {})
    if migratable.get("status") != "True":
        return HotPlug(f"it cannot be live-migrated: {migratable.get('message') or 'KubeVirt does not say why'}")
    methods = dig(found[0], "spec", "workloadUpdateStrategy", "workloadUpdateMethods", default=[])
    if "LiveMigrate" in methods:
        return HotPlug(next_step=f"KubeVirt itself migrates {vm.ref} live, and its interfaces change with that")
    migrate = f"virtctl migrate {vm.name} -n {vm.namespace}"
    return HotPlug(next_step=f"the interfaces of {vm.ref} change with its next live migration: {migrate}")


def selectors(vm: Vm) -> tuple[dict[str, str], dict[str, str]]:
    """The labels by which a VM's pods are found from KubeVirt 1.7 on, and those before."""
    return {INSTANCE_ID: instance_id(vm.name)}, {"kubevirt.io": "virt-launcher", NAME: vm.hostname}


def pod_labels(vm: Vm) -> dict[str, str]:
    """The labels that a VM's pods have, or will have: the template's, and over them KubeVirt's own (kubevirt:
    pkg/virt-controller/services/template.go, podLabels)."""
    new, old = selectors(vm)
    own = dig(vm.raw, "spec", "template", "metadata", "labels", default={})
    return {**{str(key): str(value) for key, value in own.items()}, **old, **new}


def pod_selector(vm: Vm, facts: Facts) -> dict[str, str]:
    """The labels by which this KubeVirt's pods of the VM are found; where it is unknown, those that every one has."""
    new, old = selectors(vm)
    known = version(facts)
    return new if known is not None and known >= (1, 7) else old


def instance_id(name: str) -> str:
    """The value of the label vmi.kubevirt.io/id (kubevirt: pkg/apimachinery/labels.go)."""
    if len(name) <= LONGEST_ID:
        return name
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return f"{name[: LONGEST_ID - 9]}-{digest[:8]}"
