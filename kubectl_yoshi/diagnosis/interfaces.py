"""What a VM's interface on a network is, as its template says and as its instance runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address

from kubectl_yoshi.backends import kubevirt
from kubectl_yoshi.diagnosis.facts import Connection, Facts
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.objects import Json, annotations_of, dig, name_of, namespace_of
from kubectl_yoshi.model.vm import Vm, binding_of

DEFAULT_INTERFACE = "default"
"""The name of the interface that KubeVirt adds to a VM without any."""


@dataclass(frozen=True)
class Interface:
    """A VM's interface on a network.

    Attributes:
        connection: the VM and the network.
        facts: what was read.
        spec: the interface in the VM's template; {} for the one that KubeVirt adds.
    """

    connection: Connection
    facts: Facts
    spec: Json

    @property
    def name(self) -> str:
        """Return its name."""
        return str(self.spec.get("name") or DEFAULT_INTERFACE)

    @cached_property
    def binding(self) -> str:
        """Return its binding, such as "bridge"; KubeVirt's own configuration is read only if the VM names none."""
        return binding_of(self.spec) or kubevirt.default_binding(self.facts.snapshot)

    @cached_property
    def mac(self) -> str:
        """Return the MAC address that it has after each start; "" if it gets another one each time."""
        network = self.connection.network
        interface_mac, template_mac = self.facts.backend(network).macs_of(self.connection.vm, network)
        return interface_mac or template_mac


def find_interface(connection: Connection, facts: Facts) -> Interface | None:
    """Return the interface of a VM that has, or gets, the address of a network; it is looked for once.

    Returns:
        None if there is none, or if the network's addresses are not on interfaces.
    """
    found = facts.derived(_found_interfaces)
    name = (connection.vm.full_name, connection.network.full_name)
    if name not in found:
        spec = facts.backend(connection.network).interface_of(connection.vm, connection.network)
        found[name] = None if spec is None else Interface(connection, facts, spec)
    return found[name]


def _found_interfaces(facts: Facts) -> dict[tuple[str, str], Interface | None]:
    """Return the interfaces that `find_interface` has found, by VM and network."""
    return {}


def list_reported_addresses(instance: Json, interface: str) -> tuple[Address, ...]:
    """Return the addresses that a VMI's status shows for one of its interfaces, or for its only one."""
    is_only = len(dig(instance, "spec", "domain", "devices", "interfaces", default=[])) <= 1
    found = []
    for status in dig(instance, "status", "interfaces", default=[]):
        if status.get("name") == interface or is_only:
            for text in dict.fromkeys([status.get("ipAddress") or "", *(status.get("ipAddresses") or ())]):
                try:
                    found.append(ip_address(str(text).partition("/")[0]))
                except ValueError:
                    continue
    return tuple(found)


def list_initial_addresses(instance: Json, connection: Connection, facts: Facts) -> tuple[Address, ...]:
    """Return the addresses of a network that a VMI was started with, according to its annotations."""
    template = {"metadata": {"annotations": dict(annotations_of(instance))}, "spec": instance.get("spec") or {}}
    metadata = {"name": name_of(instance), "namespace": namespace_of(instance)}
    started = Vm({"metadata": metadata, "spec": {"template": template}})
    network = connection.network
    return facts.backend(network).addresses_on_vm(started, network.full_name)


def derive_mac(vm: Vm) -> str:
    """Return a locally administered MAC address (IEEE 802) that is derived from the identity of a VM."""
    digest = hashlib.sha256(f"{vm.full_name}/{vm.uid}".encode()).hexdigest()
    return ":".join(["02", *(digest[start : start + 2] for start in range(0, 10, 2))])


def has_guest_agent(instance: Json) -> bool:
    """Return whether the guest agent of a VMI is connected."""
    conditions = dig(instance, "status", "conditions", default=[])
    return any(one.get("type") == "AgentConnected" and one.get("status") == "True" for one in conditions)
