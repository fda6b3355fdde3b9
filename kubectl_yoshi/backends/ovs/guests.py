"""Telling a guest its address without DHCP: where a VM's cloud-init network data is, and how it is written."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from kubectl_yoshi.backends.ovs import cloud_init
from kubectl_yoshi.backends.ovs.cloud_init import GuestAddress
from kubectl_yoshi.backends.ovs.interface import TEMPLATE
from kubectl_yoshi.backends.ovs.spec import Layer2
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, uid_of
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import Vm

SECRET = Resource("", "v1", "secrets", "Secret")
VOLUMES = (*TEMPLATE, "spec", "volumes")
CONFIG_DRIVE = "cloudInitConfigDrive"
KINDS = ("cloudInitNoCloud", CONFIG_DRIVE)
INLINE, ENCODED, REFERENCE = "networkData", "networkDataBase64", "networkDataSecretRef"
SECRET_KEYS = ("networkdata", "networkData")
"""Keys of a Secret in which KubeVirt looks for network data."""


@dataclass(frozen=True)
class _NetworkDataLocation:
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
    def is_config_drive(self) -> bool:
        return self.kind == CONFIG_DRIVE


def write_address(
    patch: PatchBuilder, vm: Vm, network: Network, layer: Layer2, number: int, nic: str, mac: str, snapshot: Snapshot
) -> tuple[Change, ...]:
    """Adds the address to the VM's network data: to the patch of the VM, or as a change of the Secret that has it.

    Raises:
        PreconditionFailed: the VM has no cloud-init volume, or its network data may not be read, or cannot hold it.
    """
    location = _find_location(vm, snapshot)
    if location is None:
        raise PreconditionFailed(
            f"VM {vm.full_name} has no cloud-init volume to write its address into",
            f"Give it one (cloudInitNoCloud), or leave --cloud-init out and set {network.address(number)} in it.",
        )
    assert network.cidr is not None
    wanted = GuestAddress(
        nic, mac, network.address(number), network.cidr.prefixlen, network.gateway,
        layer.dns, layer.mtu,
    )  # fmt: skip
    shared = location.secret is not None
    text = cloud_init.set_address(location.text, wanted, location.is_config_drive, vm.pod_interface is not None, shared)
    return _apply_text(patch, vm, location, text)


def has_address(vm: Vm, number: int, network: Network, snapshot: Snapshot) -> bool:
    """Whether the VM's network data has the address, as far as it may be read."""
    try:
        location = _find_location(vm, snapshot)
    except PreconditionFailed:
        return False
    return location is not None and f"{network.address(number)}" in re.split(r"""[\s"'/,\[\]]+""", location.text)


def remove_address(patch: PatchBuilder, vm: Vm, mac: str, snapshot: Snapshot) -> tuple[Change, ...]:
    """Takes the address of an interface out of the VM's network data, if it is there and may be seen."""
    try:
        location = _find_location(vm, snapshot)
    except PreconditionFailed:
        return ()
    if location is None or not mac:
        return ()
    return _apply_text(patch, vm, location, cloud_init.remove_address(location.text, mac, location.is_config_drive))


def _find_location(vm: Vm, snapshot: Snapshot) -> _NetworkDataLocation | None:
    for index, volume in enumerate(dig(vm.raw, *VOLUMES, default=[])):
        for kind in KINDS:
            source = volume.get(kind)
            if source is None:
                continue
            if name := dig(source, REFERENCE, "name"):
                return _find_in_secret(vm, index, kind, str(name), snapshot)
            if source.get(ENCODED):
                return _NetworkDataLocation(index, kind, ENCODED, b64decode(source[ENCODED]).decode())
            return _NetworkDataLocation(index, kind, INLINE, str(source.get(INLINE) or ""))
    return None


def _find_in_secret(vm: Vm, index: int, kind: str, name: str, snapshot: Snapshot) -> _NetworkDataLocation:
    query = Query(SECRET, vm.namespace, name)
    found = snapshot.lookup(query)
    ref = SECRET.ref(name, vm.namespace)
    if not found:
        reason = snapshot.unreadable_reason(query) or "it does not exist"
        raise PreconditionFailed(
            f"the network data of VM {vm.full_name} is in {ref}, which cannot be read: {reason}",
            "Let somebody attach it who may read it, or leave --cloud-init out and set the address in the guest.",
        )
    data = found[0].get("data") or {}
    key = next((key for key in SECRET_KEYS if key in data), SECRET_KEYS[0])
    visible_data = {key: data[key]} if key in data else {}  # what else is in it is nobody's business in a `diff`
    return _NetworkDataLocation(
        index, kind, key, b64decode(data.get(key) or "").decode(), {**found[0], "data": visible_data}
    )


def _apply_text(patch: PatchBuilder, vm: Vm, location: _NetworkDataLocation, text: str) -> tuple[Change, ...]:
    if text == location.text:
        return ()
    if location.secret is not None:
        return (_secret_change(vm, location, text),)
    if location.key == INLINE and len(text.encode()) > cloud_init.MAX_NETWORK_DATA_BYTES:
        raise PreconditionFailed(
            f"the network data of VM {vm.full_name} would be longer than {cloud_init.MAX_NETWORK_DATA_BYTES} bytes",
            "Put it in a Secret (networkDataSecretRef), or leave --cloud-init out.",
        )
    value = text if location.key == INLINE else b64encode(text.encode()).decode()
    volume = dig(vm.raw, *VOLUMES, location.volume)
    path = (*VOLUMES, str(location.volume), location.kind, location.key)
    patch.test((*VOLUMES, str(location.volume)), volume).add(path, value)
    return ()


def _secret_change(vm: Vm, location: _NetworkDataLocation, text: str) -> Change:
    assert location.secret is not None
    ref = _ref(location.secret)
    existing = dig(location.secret, "data", location.key)
    path, value = ("data", location.key), b64encode(text.encode()).decode()
    patch = PatchBuilder.for_uid(uid_of(location.secret)).test(path, existing).add(path, value)
    summary = f"{'set' if existing else 'write'} the network data of {vm.ref} in {ref}"
    return Change(Verb.PATCH, ref, summary, patch.ops, before=location.secret, owner=vm.full_name)


def _ref(secret: Json) -> ObjectRef:
    return SECRET.ref(str(dig(secret, "metadata", "name")), str(dig(secret, "metadata", "namespace")))
