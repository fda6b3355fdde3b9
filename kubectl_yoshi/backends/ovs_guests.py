"""Telling a guest its address without DHCP: where a VM's cloud-init network data is, and how it is written."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from kubectl_yoshi.backends import cloud_init
from kubectl_yoshi.backends.cloud_init import Address4Guest
from kubectl_yoshi.backends.ovs_spec import Layer2
from kubectl_yoshi.backends.ovs_vm import TEMPLATE
from kubectl_yoshi.model.change import Change, PatchBuilder, Verb
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, uid_of
from kubectl_yoshi.model.vm import Vm

SECRET = Resource("", "v1", "secrets", "Secret")
VOLUMES = (*TEMPLATE, "spec", "volumes")
DRIVE = "cloudInitConfigDrive"
KINDS = ("cloudInitNoCloud", DRIVE)
INLINE, ENCODED, REFERENCE = "networkData", "networkDataBase64", "networkDataSecretRef"
SECRET_KEYS = ("networkdata", "networkData")
"""Keys of a Secret in which KubeVirt looks for network data."""


@dataclass(frozen=True)
class _Place:
    """Where network data is.

    Attributes:
        volume: its place in the VM's list.
        kind: one of KINDS.
        key: the field, or the Secret's key.
        text: what is there.
        secret: the Secret; None where it is on the VM.
    """

    volume: int
    kind: str
    key: str
    text: str
    secret: Json | None = None

    @property
    def drive(self) -> bool:
        return self.kind == DRIVE


def write(
    patch: PatchBuilder, vm: Vm, network: Network, layer: Layer2, number: int, nic: str, mac: str, facts: Facts
) -> tuple[Change, ...]:
    """Adds the address to the VM's network data: to the patch of the VM, or as a change of the Secret that has it.

    Raises:
        Refused: the VM has no cloud-init volume, or its network data may not be read, or cannot hold it.
    """
    place = _place(vm, facts)
    if place is None:
        raise Refused(
            f"VM {vm.subject} has no cloud-init volume to write its address into",
            f"Give it one (cloudInitNoCloud), or leave --cloud-init out and set {network.address(number)} in it.",
        )
    assert network.cidr is not None
    wanted = Address4Guest(
        nic, mac, network.address(number), network.cidr.prefixlen, network.gateway,
        layer.dns, layer.mtu,
    )  # fmt: skip
    shared = place.secret is not None
    text = cloud_init.with_address(place.text, wanted, place.drive, vm.pod_interface is not None, shared)
    return _changed(patch, vm, place, text)


def tells(vm: Vm, number: int, network: Network, facts: Facts) -> bool:
    """Whether the VM's network data has the address, as far as it may be read."""
    try:
        place = _place(vm, facts)
    except Refused:
        return False
    return place is not None and f"{network.address(number)}" in re.split(r"""[\s"'/,\[\]]+""", place.text)


def erase(patch: PatchBuilder, vm: Vm, mac: str, facts: Facts) -> tuple[Change, ...]:
    """Takes the address of an interface out of the VM's network data, if it is there and may be seen."""
    try:
        place = _place(vm, facts)
    except Refused:
        return ()
    if place is None or not mac:
        return ()
    return _changed(patch, vm, place, cloud_init.without_address(place.text, mac, place.drive))


def _place(vm: Vm, facts: Facts) -> _Place | None:
    for at, volume in enumerate(dig(vm.raw, *VOLUMES, default=[])):
        for kind in KINDS:
            source = volume.get(kind)
            if source is None:
                continue
            if name := dig(source, REFERENCE, "name"):
                return _in_secret(vm, at, kind, str(name), facts)
            if source.get(ENCODED):
                return _Place(at, kind, ENCODED, b64decode(source[ENCODED]).decode())
            return _Place(at, kind, INLINE, str(source.get(INLINE) or ""))
    return None


def _in_secret(vm: Vm, at: int, kind: str, name: str, facts: Facts) -> _Place:
    read = Read(SECRET, vm.namespace, name)
    found = facts.ask(read)
    ref = SECRET.ref(name, vm.namespace)
    if not found:
        why = facts.why_unknown(read) or "it does not exist"
        raise Refused(
            f"the network data of VM {vm.subject} is in {ref}, which cannot be read: {why}",
            "Let somebody attach it who may read it, or leave --cloud-init out and set the address in the guest.",
        )
    data = found[0].get("data") or {}
    key = next((key for key in SECRET_KEYS if key in data), SECRET_KEYS[0])
    shown = {key: data[key]} if key in data else {}  # what else is in it is nobody's business in a `diff`
    return _Place(at, kind, key, b64decode(data.get(key) or "").decode(), {**found[0], "data": shown})


def _changed(patch: PatchBuilder, vm: Vm, place: _Place, text: str) -> tuple[Change, ...]:
    if text == place.text:
        return ()
    if place.secret is not None:
        return (_secret_change(vm, place, text),)
    if place.key == INLINE and len(text.encode()) > cloud_init.LONGEST:
        raise Refused(
            f"the network data of VM {vm.subject} would be longer than {cloud_init.LONGEST} bytes",
            "Put it in a Secret (networkDataSecretRef), or leave --cloud-init out.",
        )
    value = text if place.key == INLINE else b64encode(text.encode()).decode()
    volume = dig(vm.raw, *VOLUMES, place.volume)
    path = (*VOLUMES, str(place.volume), place.kind, place.key)
    patch.test((*VOLUMES, str(place.volume)), volume).add(path, value)
    return ()


def _secret_change(vm: Vm, place: _Place, text: str) -> Change:
    assert place.secret is not None
    ref = _ref(place.secret)
    there = dig(place.secret, "data", place.key)
    path, value = ("data", place.key), b64encode(text.encode()).decode()
    patch = PatchBuilder.of_uid(uid_of(place.secret)).test(path, there).add(path, value)
    says = f"{'set' if there else 'write'} the network data of {vm.ref} in {ref}"
    return Change(Verb.PATCH, ref, says, patch.ops, before=place.secret, subject=vm.subject)


def _ref(secret: Json) -> ObjectRef:
    return SECRET.ref(str(dig(secret, "metadata", "name")), str(dig(secret, "metadata", "namespace")))
