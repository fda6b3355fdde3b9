"""A private network's IPPool: its fields, what conflicts with it, how it is removed.

Fields: https://docs.tigera.io/calico/latest/reference/resources/ippool. Every field is written, because raw
crd.projectcalico.org/v1 objects are neither defaulted nor validated by any server.

The pool has assignmentMode Manual where Calico knows it (3.30), so that ordinary pods do not get a VM's address;
before, the node selector `!all()`. `disableBGPExport` is true with VXLAN, whose routes Felix programs, so that a
private network's blocks never reach a BGP peer; without VXLAN it must be false, or nodes could not reach each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from kubectl_yoshi.backends.calico import ipam
from kubectl_yoshi.backends.calico.annotations import parse_pinned_addresses
from kubectl_yoshi.backends.calico.api import CalicoApi, calico_version, get_write_api
from kubectl_yoshi.backends.ensure import set_fields, spec_fields
from kubectl_yoshi.backends.ownership import (
    find_deleted_networks,
    get_owner_networks,
    is_created_for,
    is_created_for_predecessor,
    ownership_annotations,
)
from kubectl_yoshi.model.addresses import Cidr, Intervals, span_of
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, matches
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, name_of, new_object, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm

ENCAPSULATIONS = {
    "VXLAN": ("Never", "Always"),
    "VXLANCrossSubnet": ("Never", "CrossSubnet"),
    "IPIP": ("Always", "Never"),
    "IPIPCrossSubnet": ("CrossSubnet", "Never"),
    "None": ("Never", "Never"),
}
"""spec.calico.encapsulation -> (ipipMode, vxlanMode)."""

_BLOCK_SIZES = {4: (20, 26, 32), 6: (116, 122, 128)}
"""IP version -> (largest, default, smallest) block size as prefix lengths, Calico's limits."""

_FIELDS = Fields(unordered=frozenset({"allowedUses"}))


def pool_name(network: Network) -> str:
    """Return "<namespace>.<name>", since IPPools are cluster-scoped and networks are not."""
    return f"{network.namespace}.{network.name}"


def block_size(network: Network) -> int:
    """Return the prefix length of the pool's IPAM blocks according to the network's spec.

    The default is Calico's, or the network's own prefix length if the network is smaller than that.

    Raises:
        UsageError: the requested size is not possible.
    """
    assert network.cidr is not None
    largest, usual, smallest = _BLOCK_SIZES[network.version]
    requested = network.options.get("blockSize")
    if requested is None:
        return max(usual, network.cidr.prefixlen)
    is_valid = str(requested).isdecimal() and max(largest, network.cidr.prefixlen) <= int(requested) <= smallest
    if not is_valid:
        raise UsageError(
            f"network {network.full_name}: a block size of {requested} does not fit {network.cidr}",
            f"Choose one from {max(largest, network.cidr.prefixlen)} to {smallest}, or leave it out.",
        )
    return int(requested)


def pool_spec(network: Network, manual: bool) -> Json:
    """Return the IPPool's spec.

    Args:
        network: a network with a CIDR.
        manual: whether Calico supports assignmentMode (3.30 and later). In earlier versions a node selector that
            matches no node keeps the pool's addresses from ordinary pods.

    Raises:
        UsageError: spec.calico requests something that Calico does not support.
    """
    supports_migration = bool(network.options.get("liveMigration", False))
    encapsulation = str(network.options.get("encapsulation") or ("None" if supports_migration else "VXLAN"))
    nat = network.options.get("natOutgoing")
    if encapsulation not in ENCAPSULATIONS:
        raise UsageError(
            f'network {network.full_name}: encapsulation "{encapsulation}" is unknown',
            f"Choose one of {', '.join(ENCAPSULATIONS)}.",
        )
    ipip, vxlan = ENCAPSULATIONS[encapsulation]
    if network.version == 6 and ipip != "Never":
        raise UsageError(f"network {network.full_name}: IPIP does not support IPv6", "Choose VXLAN or None.")
    if supports_migration and (encapsulation != "None" or nat):
        raise UsageError(
            f"network {network.full_name}: live migration needs a network without overlay and NAT",
            "Leave --encapsulation and --nat-outgoing (encapsulation and natOutgoing) out together with "
            "--live-migration (liveMigration).",
        )
    return {
        "cidr": str(network.cidr),
        "blockSize": block_size(network),
        "ipipMode": ipip,
        "vxlanMode": vxlan,
        "natOutgoing": bool(not supports_migration if nat is None else nat),
        "nodeSelector": "all()" if manual else "!all()",
        "allowedUses": ["Workload"],
        "disabled": False,
        # Felix programs VXLAN routes; all other modes need BGP between the nodes, so blocks must be exported.
        "disableBGPExport": vxlan != "Never",
        **({"assignmentMode": "Manual"} if manual else {}),
    }


def describe_overlay(network: Network) -> str:
    """Return the overlay and NAT of the network's pool, as printed; live migration works with neither."""
    spec = pool_spec(network, manual=True)
    overlay = [name for name, mode in (("VXLAN", spec["vxlanMode"]), ("IPIP", spec["ipipMode"])) if mode != "Never"]
    return " and ".join([*overlay, *(["NAT"] if spec["natOutgoing"] else [])])


def find_pool(network: Network, api: CalicoApi, snapshot: Snapshot) -> Json | None:
    """Return the network's pool: its own, or that of Platform9 yoshi (the network's bare name, the same CIDR)."""
    pools = {name_of(pool): pool for pool in snapshot.lookup(Query(api.pool))}
    own_pool = pools.get(pool_name(network))
    if own_pool is not None:
        return own_pool
    legacy_pool = pools.get(network.name)
    return legacy_pool if legacy_pool is not None and _has_cidr(legacy_pool, network) else None


def actual_block_size(network: Network, api: CalicoApi, snapshot: Snapshot) -> int:
    """Return the prefix length of the IPAM blocks in use.

    It is that of the existing pool, which never changes, or the configured one if no pool can be read.

    Raises:
        UsageError: see block_size.
    """
    for name in (pool_name(network), network.name):  # its own pool, or that of Platform9 yoshi
        for pool in snapshot.lookup(Query(api.pool, name=name)):
            if _has_cidr(pool, network):
                return int(dig(pool, "spec", "blockSize", default=_BLOCK_SIZES[network.version][1]))
    return block_size(network)


def is_predecessors_pool(pool: Json, network: Network) -> bool:
    """Return whether a pool was created for an earlier network of the same name and CIDR.

    VMs may run with its addresses.
    """
    return is_created_for_predecessor(pool, network) and _has_cidr(pool, network)


def _has_cidr(pool: Json, network: Network) -> bool:
    return matches(str(network.cidr), dig(pool, "spec", "cidr"))


def conflicts(network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
    """Return the conflicting pools: one of the network's pool name that is not its own, and every overlapping one."""
    api = get_write_api(snapshot)
    pools = snapshot.lookup(Query(api.pool))
    if reason := snapshot.unreadable_reason(Query(api.pool)):
        return (
            NetworkConflict(f"cannot check whether {network.cidr} overlaps an IPPool: {reason}", is_unreadable=True),
        )
    found = []
    own_pool = find_pool(network, api, snapshot)
    for pool in pools:
        name = name_of(pool)
        if own_pool is not None and name == name_of(own_pool):
            if name == pool_name(network) and not (
                is_created_for(pool, network) or is_predecessors_pool(pool, network)
            ):
                found.append(f"ippool/{name} exists and was not created for this network")
            continue
        try:
            cidr = ip_network(str(dig(pool, "spec", "cidr")), strict=False)
        except ValueError:
            continue
        if Intervals.from_spans([span_of(cidr)]) & network.cidr_addresses and cidr.version == network.version:
            found.append(f"{network.cidr} overlaps ippool/{name} ({cidr})" + _owner_hint(pool))
    return tuple(map(NetworkConflict, found))


def _owner_hint(pool: Json) -> str:
    """Return the network that a pool was created for, and how to delete the pool; "" if yoshi did not create it."""
    for name in get_owner_networks(pool).values():
        namespace = name.partition("/")[0]
        return (
            f", created for network {name}: if that no longer exists, `kubectl yoshi ips gc -n {namespace}` removes it"
        )
    return ""


def ensure(network: Network, snapshot: Snapshot) -> Plan:
    """Return the changes that create the pool, or repair it if Calico dropped a field or it was edited."""
    if network.cidr is None:
        raise UsageError(f"network {network.full_name} has no cidr", "A Calico network needs one.")
    api = get_write_api(snapshot)
    pool = find_pool(network, api, snapshot)
    version = calico_version(api, snapshot)
    manual = version is None or version >= (3, 30)
    ref = api.pool.ref(pool_name(network))
    if pool is None:
        body = new_object(ref, {"spec": pool_spec(network, manual)}, annotations=ownership_annotations(network))
        return sequential(Change(Verb.CREATE, ref, f"create ippool {ref.name} with {network.cidr}", body=body))
    is_predecessors = is_predecessors_pool(pool, network)
    if not is_created_for(pool, network) and not is_predecessors:
        return Plan(
            notes=(f"ippool/{name_of(pool)} of Platform9 yoshi is used unchanged; pods can get its addresses",)
            if dig(pool, "spec", "assignmentMode") != "Manual"
            else ()
        )
    # A Calico version without assignmentMode drops the field.
    wanted = pool_spec(network, manual and dig(pool, "spec", "assignmentMode") is not None)
    changeable = {key: value for key, value in wanted.items() if key not in ("cidr", "blockSize")}
    patch = PatchBuilder.for_uid(uid_of(pool))
    if is_predecessors:
        patch.set_keys(pool, ANNOTATIONS, ownership_annotations(network))
    if not set_fields(patch, pool, spec_fields(changeable), _FIELDS) and not is_predecessors:
        return Plan()
    summary = (
        f"take over ippool {ref.name} of a deleted network of the same name"
        if is_predecessors
        else f"fix ippool {ref.name}"
    )
    return sequential(Change(Verb.PATCH, ref, summary, patch.ops, before=pool))


def health(network: Network, snapshot: Snapshot) -> str:
    """Return why addresses of the pool cannot be used; "" if they can."""
    api = get_write_api(snapshot)
    pool = find_pool(network, api, snapshot)
    if pool is None:
        return f"ippool/{pool_name(network)} is missing"
    if dig(pool, "metadata", "deletionTimestamp"):
        return f"ippool/{name_of(pool)} is being deleted"
    if dig(pool, "spec", "disabled"):
        return f"ippool/{name_of(pool)} is disabled"
    for condition in dig(pool, "status", "conditions", default=[]):
        if condition.get("type") == "Allocatable" and condition.get("status") == "False":
            return f"ippool/{name_of(pool)} is not allocatable: {condition.get('message') or condition.get('reason')}"
    return ""


def teardown(network: Network, snapshot: Snapshot, ignore_usage: bool = False) -> Plan:
    """Return the changes that disable the network's pool, then delete it.

    Args:
        network: the network.
        snapshot: the state of the cluster.
        ignore_usage: return the changes that apply once no block holds addresses of the pool.

    Raises:
        PreconditionFailed: blocks hold addresses, or that could not be read.
    """
    if network.cidr is None:
        return Plan()
    api = get_write_api(snapshot)
    pool = find_pool(network, api, snapshot)
    if reason := snapshot.unreadable_reason(Query(api.pool)):
        raise PreconditionFailed(
            f"cannot check whether ippool/{pool_name(network)} exists: {reason}",
            "Ask an administrator for this permission, or to delete the network.",
        )
    if pool is None:
        return Plan()
    if not is_created_for(pool, network):
        return Plan(notes=(f"ippool/{name_of(pool)} is kept: this program did not create it",))
    blocks = Query(api.block)
    snapshot.lookup(blocks)
    if reason := snapshot.unreadable_reason(blocks):
        raise PreconditionFailed(
            f"cannot check whether ippool/{name_of(pool)} is in use: {reason}",
            "Ask an administrator for this permission, or to delete the network.",
        )
    held = ipam.list_block_allocations(network.cidr_addresses, network.version, api, snapshot)
    if held and all(h.released_at for h in held):
        raise PreconditionFailed(
            f"{len(held)} addresses of ippool/{name_of(pool)} are still cooling down in Calico",
            "Wait until Calico frees them (ipCooldownSeconds in its IPAM configuration), then try again.",
        )
    if held and not ignore_usage:
        held = [h for h in held if not h.released_at]
        holders = ", ".join(sorted({h.holder for h in held})[:5])
        raise PreconditionFailed(
            f"Calico still holds {len(held)} addresses of ippool/{name_of(pool)}: {holders}",
            "Stop these VMs and pods first; `kubectl yoshi ips gc` releases what stopped VMs left behind.",
        )
    return delete_pool(pool, api)


def delete_pool(pool: Json, api: CalicoApi) -> Plan:
    """Return the changes that disable a pool, then delete it: Calico rejects assignments from it in between."""
    ref = api.pool.ref(name_of(pool))
    changes = []
    if not dig(pool, "spec", "disabled"):
        patch = PatchBuilder.for_uid(uid_of(pool))
        patch.set_in(pool, ("spec", "disabled"), True)
        changes.append(Change(Verb.PATCH, ref, f"disable ippool {ref.name}", patch.ops, before=pool))
    changes.append(
        Change(Verb.DELETE, ref, f"delete ippool {ref.name}", before=pool, uid=uid_of(pool), ignore_not_found=True)
    )
    return sequential(*changes)


def orphaned_objects(live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
    """Return the changes that delete pools of networks that no longer exist.

    `namespace` is the namespace of these networks; None for all.
    """
    api = get_write_api(snapshot)
    plan = Plan()
    owned = [(pool, get_owner_networks(pool)) for pool in snapshot.lookup(Query(api.pool))]
    deleted_uids = find_deleted_networks(
        {uid: name for _, owner_networks in owned for uid, name in owner_networks.items()}, live, namespace
    )
    for pool, owner_networks in owned:
        if not owner_networks.keys() & deleted_uids or any(is_predecessors_pool(pool, network) for network in live):
            continue
        cidr = ip_network(str(dig(pool, "spec", "cidr")), strict=False)
        snapshot.lookup(Query(api.block))
        if reason := snapshot.unreadable_reason(Query(api.block)):
            plan = plan + Plan(notes=(f"ippool/{name_of(pool)} is kept: cannot check whether it is in use: {reason}",))
            continue
        held = ipam.list_block_allocations(Intervals.from_spans([span_of(cidr)]), cidr.version, api, snapshot)
        if held:
            plan = plan + Plan(notes=(f"ippool/{name_of(pool)} is kept: Calico holds {len(held)} of its addresses",))
        elif reason := _pinned_vm_reason(pool, cidr, snapshot):
            plan = plan + Plan(notes=(f"ippool/{name_of(pool)} is kept: {reason}",))
        else:
            plan = plan + delete_pool(pool, api)
    return plan


def _pinned_vm_reason(pool: Json, cidr: Cidr, snapshot: Snapshot) -> str:
    """Return the first VM that is pinned to an address of the pool and could not start without it; "" for none."""
    snapshot.lookup(Query(VM))
    if reason := snapshot.unreadable_reason(Query(VM)):
        return f"cannot check whether VMs are pinned into it: {reason}"
    pool_addresses = Intervals.from_spans([span_of(cidr)])
    for vm in map(Vm, snapshot.list_objects(VM)):
        for address in parse_pinned_addresses(vm.template_annotations):
            if address.version == cidr.version and int(address) in pool_addresses:
                network = next(iter(get_owner_networks(pool).values()), "")
                hint = f"kubectl yoshi vm detach {vm.name} -n {vm.namespace} --network {network}"
                return f"VM {vm.full_name} is pinned to {address} (`{hint}`)"
    return ""
