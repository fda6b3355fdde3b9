"""A private network's IPPool: what it looks like, what stands in its way, how it goes.

Fields: https://docs.tigera.io/calico/latest/reference/resources/ippool. Every field is written, because raw
crd.projectcalico.org/v1 objects are neither defaulted nor validated by anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from kubectl_yoshi.backends import calico_ipam as ipam
from kubectl_yoshi.backends.calico_api import CalicoApi, api_for_writing, calico_version
from kubectl_yoshi.backends.calico_pins import pinned
from kubectl_yoshi.backends.marks import gone_of, is_marked_for, is_of_earlier, marks_of, users_of
from kubectl_yoshi.model.addresses import Cidr, Intervals, span_of
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.matching import Fields, differing, matches
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, name_of, uid_of
from kubectl_yoshi.model.vm import VM, Vm

ENCAPSULATIONS = {
    "VXLAN": ("Never", "Always"),
    "VXLANCrossSubnet": ("Never", "CrossSubnet"),
    "IPIP": ("Always", "Never"),
    "IPIPCrossSubnet": ("CrossSubnet", "Never"),
    "None": ("Never", "Never"),
}
"""spec.calico.encapsulation -> (ipipMode, vxlanMode)"""

_BLOCK_SIZES = {4: (20, 26, 32), 6: (116, 122, 128)}
"""IP version -> (largest, usual, smallest block) as prefix lengths, Calico's limits"""

_FIELDS = Fields(unordered=frozenset({"allowedUses"}))


def pool_name(network: Network) -> str:
    """ "<namespace>.<name>": IPPools are cluster-wide, networks are not."""
    return f"{network.namespace}.{network.name}"


def block_size(network: Network) -> int:
    """The prefix length that the pool's IPAM blocks are to have: the one asked for, else the usual one if the network
    is that large.

    Raises:
        UsageMistake: the one asked for is not possible.
    """
    assert network.cidr is not None
    largest, usual, smallest = _BLOCK_SIZES[network.version]
    asked = network.options.get("blockSize")
    if asked is None:
        return max(usual, network.cidr.prefixlen)
    fits = str(asked).isdecimal() and max(largest, network.cidr.prefixlen) <= int(asked) <= smallest
    if not fits:
        raise UsageMistake(
            f"network {network.full_name}: a block size of {asked} does not fit {network.cidr}",
            f"Choose one from {max(largest, network.cidr.prefixlen)} to {smallest}, or leave it out.",
        )
    return int(asked)


def pool_spec(network: Network, manual: bool) -> Json:
    """The IPPool's spec.

    Args:
        network: with a CIDR.
        manual: Calico knows assignmentMode (3.30 and later); before, a node selector that matches no node keeps
            ordinary pods from taking addresses.

    Raises:
        UsageMistake: spec.calico asks for something that Calico cannot do.
    """
    migrates = bool(network.options.get("liveMigration", False))
    encapsulation = str(network.options.get("encapsulation") or ("None" if migrates else "VXLAN"))
    nat = network.options.get("natOutgoing")
    if encapsulation not in ENCAPSULATIONS:
        raise UsageMistake(
            f'network {network.full_name}: encapsulation "{encapsulation}" is unknown',
            f"Choose one of {', '.join(ENCAPSULATIONS)}.",
        )
    ipip, vxlan = ENCAPSULATIONS[encapsulation]
    if network.version == 6 and ipip != "Never":
        raise UsageMistake(f"network {network.full_name}: IPIP does not carry IPv6", "Choose VXLAN or None.")
    if migrates and (encapsulation != "None" or nat):
        raise UsageMistake(
            f"network {network.full_name}: live migration needs a network without overlay and NAT",
            "Leave --encapsulation and --nat-outgoing (encapsulation and natOutgoing) out together with "
            "--live-migration (liveMigration).",
        )
    return {
        "cidr": str(network.cidr),
        "blockSize": block_size(network),
        "ipipMode": ipip,
        "vxlanMode": vxlan,
        "natOutgoing": bool(not migrates if nat is None else nat),
        "nodeSelector": "all()" if manual else "!all()",
        "allowedUses": ["Workload"],
        "disabled": False,
        # Felix programs VXLAN routes; all else needs BGP between the nodes, so its blocks must be exported.
        "disableBGPExport": vxlan != "Never",
        **({"assignmentMode": "Manual"} if manual else {}),
    }


def in_the_way_of_migration(network: Network) -> str:
    """What of an overlay and NAT the network's pool is to have, either of which a live migration does not survive."""
    spec = pool_spec(network, manual=True)
    overlay = [name for name, mode in (("VXLAN", spec["vxlanMode"]), ("IPIP", spec["ipipMode"])) if mode != "Never"]
    return " and ".join([*overlay, *(["NAT"] if spec["natOutgoing"] else [])])


def find_pool(network: Network, api: CalicoApi, facts: Facts) -> Json | None:
    """The network's pool: ours, or the one that the original yoshi made (the network's bare name, the same CIDR)."""
    pools = {name_of(pool): pool for pool in facts.ask(Read(api.pool))}
    ours = pools.get(pool_name(network))
    if ours is not None:
        return ours
    original = pools.get(network.name)
    return original if original is not None and _has_cidr(original, network) else None


def actual_block_size(network: Network, api: CalicoApi, facts: Facts) -> int:
    """The prefix length of the IPAM blocks in which Calico keeps its books: the pool's, which nothing changes once it
    is made; where none may be read, the one asked for.

    Raises:
        NeedMore: the pool was not read yet.
        UsageMistake: see block_size.
    """
    for name in (pool_name(network), network.name):  # ours, or the original's
        for pool in facts.ask(Read(api.pool, name=name)):
            if _has_cidr(pool, network):
                return int(dig(pool, "spec", "blockSize", default=_BLOCK_SIZES[network.version][1]))
    return block_size(network)


def serves_on(pool: Json, network: Network) -> bool:
    """Whether a pool was made for the earlier self of a network, with the same CIDR: VMs run with addresses of it."""
    return is_of_earlier(pool, network) and _has_cidr(pool, network)


def _has_cidr(pool: Json, network: Network) -> bool:
    return matches(str(network.cidr), dig(pool, "spec", "cidr"))


def obstacles(network: Network, facts: Facts) -> tuple[Obstacle, ...]:
    """Pools in the way: one of our name that is not ours, and every one that overlaps."""
    api = api_for_writing(facts)
    pools = facts.ask(Read(api.pool))
    if why := facts.why_unknown(Read(api.pool)):
        return (Obstacle(f"whether {network.cidr} overlaps an IPPool cannot be told: {why}", unseen=True),)
    found = []
    mine = find_pool(network, api, facts)
    for pool in pools:
        name = name_of(pool)
        if mine is not None and name == name_of(mine):
            if name == pool_name(network) and not (is_marked_for(pool, network) or serves_on(pool, network)):
                found.append(f"ippool/{name} exists and was not made for this network")
            continue
        try:
            cidr = ip_network(str(dig(pool, "spec", "cidr")), strict=False)
        except ValueError:
            continue
        if Intervals.of([span_of(cidr)]) & network.everything and cidr.version == network.version:
            found.append(f"{network.cidr} overlaps ippool/{name} ({cidr})" + _whose(pool))
    return tuple(map(Obstacle, found))


def _whose(pool: Json) -> str:
    """For whom this program made a pool, and what takes it away; "" for one of others."""
    for name in users_of(pool).values():
        namespace = name.partition("/")[0]
        return f", made for network {name}: if that is no more, `kubectl yoshi ips gc -n {namespace}` takes it away"
    return ""


def build(network: Network, facts: Facts) -> Plan:
    """Makes the pool, or mends ours where Calico dropped a field or somebody changed it."""
    if network.cidr is None:
        raise UsageMistake(f"network {network.full_name} has no cidr", "A Calico network needs one.")
    api = api_for_writing(facts)
    pool = find_pool(network, api, facts)
    version = calico_version(api, facts)
    manual = version is None or version >= (3, 30)
    ref = api.pool.ref(pool_name(network))
    if pool is None:
        spec = pool_spec(network, manual)
        body = {
            "apiVersion": api.pool.api_version,
            "kind": api.pool.kind,
            "metadata": {"name": ref.name, "annotations": marks_of(network)},
            "spec": spec,
        }
        return in_order(Change(Verb.CREATE, ref, f"make ippool {ref.name} with {network.cidr}", body=body))
    earlier = serves_on(pool, network)
    if not is_marked_for(pool, network) and not earlier:
        return Plan(
            notes=(f"ippool/{name_of(pool)} of the original yoshi is used as it is; pods can take its addresses",)
            if dig(pool, "spec", "assignmentMode") != "Manual"
            else ()
        )
    # A Calico that does not know assignmentMode dropped it.
    wanted = pool_spec(network, manual and dig(pool, "spec", "assignmentMode") is not None)
    changeable = {key: value for key, value in wanted.items() if key not in ("cidr", "blockSize")}
    stale = differing(changeable, pool.get("spec"), _FIELDS)
    if not stale and not earlier:
        return Plan()
    patch = PatchBuilder.of_uid(uid_of(pool))
    if earlier:
        patch.set_keys(pool, ANNOTATIONS, marks_of(network))
    for key in stale:
        patch.set_in(pool, ("spec", key), wanted[key])
    says = f"take over ippool {ref.name} of the network's earlier self" if earlier else f"mend ippool {ref.name}"
    return in_order(Change(Verb.PATCH, ref, says, patch.ops, before=pool))


def problem(network: Network, facts: Facts) -> str:
    """Why the pool does not serve; "" where it does."""
    api = api_for_writing(facts)
    pool = find_pool(network, api, facts)
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


def demolish(network: Network, facts: Facts, later: bool = False) -> Plan:
    """Disables our pool, then deletes it, never while blocks hold addresses of it (`later`: once they do not).

    Raises:
        Refused: blocks hold addresses, or that cannot be told.
    """
    if network.cidr is None:
        return Plan()
    api = api_for_writing(facts)
    pool = find_pool(network, api, facts)
    if why := facts.why_unknown(Read(api.pool)):
        raise Refused(
            f"whether there is an ippool/{pool_name(network)} to delete cannot be told: {why}",
            "Ask an administrator for this right, or to delete the network.",
        )
    if pool is None:
        return Plan()
    if not is_marked_for(pool, network):
        return Plan(notes=(f"ippool/{name_of(pool)} stays: this program did not make it",))
    blocks = Read(api.block)
    facts.ask(blocks)
    if why := facts.why_unknown(blocks):
        raise Refused(
            f"whether ippool/{name_of(pool)} is in use cannot be told: {why}",
            "Ask an administrator for this right, or to delete the network.",
        )
    held = ipam.holdings_in(network.everything, network.version, api, facts)
    if held and all(h.released_at for h in held):
        raise Refused(
            f"{len(held)} addresses of ippool/{name_of(pool)} still cool down in Calico",
            "Wait until Calico frees them (ipCooldownSeconds in its IPAM configuration), then try again.",
        )
    if held and not later:
        held = [h for h in held if not h.released_at]
        who = ", ".join(sorted({h.holder for h in held})[:5])
        raise Refused(
            f"Calico still holds {len(held)} addresses of ippool/{name_of(pool)}: {who}",
            "Stop these VMs and pods first; `kubectl yoshi ips gc` releases what stopped VMs left behind.",
        )
    return taken_away(pool, api)


def taken_away(pool: Json, api: CalicoApi) -> Plan:
    """Disables a pool, then deletes it: whoever would be given an address in between is refused by Calico."""
    ref = api.pool.ref(name_of(pool))
    changes = []
    if not dig(pool, "spec", "disabled"):
        patch = PatchBuilder.of_uid(uid_of(pool))
        patch.set_in(pool, ("spec", "disabled"), True)
        changes.append(Change(Verb.PATCH, ref, f"disable ippool {ref.name}", patch.ops, before=pool))
    changes.append(
        Change(Verb.DELETE, ref, f"delete ippool {ref.name}", before=pool, uid=uid_of(pool), tolerate_missing=True)
    )
    return in_order(*changes)


def leftovers(live: Sequence[Network], namespace: str | None, facts: Facts) -> Plan:
    """Takes away pools that were made by this program for networks that are no more, and were in the namespace."""
    api = api_for_writing(facts)
    plan = Plan()
    made_for = [(pool, users_of(pool)) for pool in facts.ask(Read(api.pool))]
    gone = gone_of({uid: name for _, users in made_for for uid, name in users.items()}, live, namespace)
    for pool, users in made_for:
        if not users.keys() & gone or any(serves_on(pool, network) for network in live):
            continue
        cidr = ip_network(str(dig(pool, "spec", "cidr")), strict=False)
        facts.ask(Read(api.block))
        if why := facts.why_unknown(Read(api.block)):
            plan = plan + Plan(notes=(f"ippool/{name_of(pool)} stays: whether it is in use cannot be told: {why}",))
            continue
        held = ipam.holdings_in(Intervals.of([span_of(cidr)]), cidr.version, api, facts)
        if held:
            plan = plan + Plan(notes=(f"ippool/{name_of(pool)} stays: Calico holds {len(held)} of its addresses",))
        elif why := _needed(pool, cidr, facts):
            plan = plan + Plan(notes=(f"ippool/{name_of(pool)} stays: {why}",))
        else:
            plan = plan + taken_away(pool, api)
    return plan


def _needed(pool: Json, cidr: Cidr, facts: Facts) -> str:
    """Why VMs would not start without a pool: the first that is pinned into it; "" where none is."""
    facts.ask(Read(VM))
    if why := facts.why_unknown(Read(VM)):
        return f"whether VMs are pinned into it cannot be told: {why}"
    inside = Intervals.of([span_of(cidr)])
    for vm in map(Vm, facts.all(VM)):
        for address in pinned(vm.template_annotations):
            if address.version == cidr.version and int(address) in inside:
                network = next(iter(users_of(pool).values()), "")
                way_out = f"kubectl yoshi vm detach {vm.name} -n {vm.namespace} --network {network}"
                return f"VM {vm.subject} is pinned to {address} (`{way_out}`)"
    return ""
