"""Bridges on the nodes: HostNetworkTemplates, which Hostplumber carries out, one for all networks of the same bridge.

Networks of different VLANs share a bridge, so they share its template, which goes with the last of them. One not
managed by this program is used where it says the same, and stays. Hostplumber deletes a template's bridge on whatever
node sees the deletion first, so two templates for one bridge are refused, and an edited spec removes no bridge while
VMs have addresses of the network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from kubectl_yoshi.backends.ensure import ensure_fields, spec_fields
from kubectl_yoshi.backends.ovs.spec import HOST, TEMPLATE, Layer2
from kubectl_yoshi.backends.ownership import (
    add_needing_network,
    find_recreated_networks,
    get_needing_networks,
    is_created_by_yoshi,
    remove_needing_networks,
    shared_object_annotations,
)
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.errors import first_few
from kubectl_yoshi.model.matching import Fields
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import (
    NODE,
    Json,
    ObjectRef,
    dig,
    labels_of,
    metadata,
    name_of,
    namespace_of,
    new_object,
    short_hash,
)
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot

MARKER_PREFIX = "ovs-cni.network.kubevirt.io/"
"""Prefix of the node resource with which ovs-cni's marker shows that a node has a bridge."""
MAX_NODES = 5
"""Maximum number of nodes that a message names."""
TEMPLATES_QUERY = Query(TEMPLATE)
BRIDGE_PARAMS = ("mtuRequest", "bondMode", "lacp")
"""The settings of a bridge that a network may contain."""


def missing_apis(layer: Layer2, served: ServedApis) -> str:
    """Return which API creating the bridge needs and the cluster lacks, with the alternative; "" for none."""
    if not layer.makes_bridges or TEMPLATE in served:
        return ""
    return (
        f"Hostplumber (no {TEMPLATE.full_name} is served): --no-host-config (spec.ovs.hostConfig: false) does without "
        f"it where {layer.bridge} is on the nodes already"
    )


def conflicts(layer: Layer2, live: Collection[str], snapshot: Snapshot) -> list[NetworkConflict]:
    """Return the conflicting templates.

    Templates of live networks (by uid) are left out: those conflicts are reported as conflicts between the networks.
    """
    if not layer.makes_bridges:
        return []
    templates = snapshot.lookup(TEMPLATES_QUERY)
    if reason := snapshot.unreadable_reason(TEMPLATES_QUERY):
        return [
            NetworkConflict(
                f"cannot check whether {layer.bridge} can be created on the nodes: {reason}", is_unreadable=True
            )
        ]
    found = []
    for template in templates:
        if is_created_by_yoshi(template) and get_needing_networks(template).keys() & set(live):
            continue
        if _may_share_nodes(dig(template, "spec", "nodeSelector", default={}), layer.nodes):
            found += [
                NetworkConflict(f"{_ref(template)} {conflict}")
                for entry in _entries(template)
                if (conflict := _template_conflict(template, entry, layer))
            ]
    return found


def _template_conflict(template: Json, entry: Json, layer: Layer2) -> str:
    """Return how a template conflicts with the bridge; "" if it does not."""
    bridge, nics = str(entry.get("bridgeName")), _nics(entry)
    if bridge != layer.bridge:
        shared = sorted(nics & set(layer.nics))
        return f"adds {shared[0]} to bridge {bridge}: an interface can be in one bridge only" if shared else ""
    if nics != set(layer.nics):
        return f"adds {','.join(sorted(nics)) or 'nothing'} to bridge {bridge}, not {','.join(layer.nics)}"
    if dig(template, "spec", "nodeSelector", default={}) != dict(layer.nodes):
        return f"creates bridge {bridge} on other nodes: use the same --node-selector, or --no-host-config"
    wanted = _params(layer)
    for key in ("bondMode", "lacp"):
        current_value = dig(entry, "params", key, default="")
        if key in wanted and current_value != wanted[key]:
            return f"sets {key} of bridge {bridge} to {current_value or 'none'}, not {wanted[key]}"
    mtu = dig(entry, "params", "mtuRequest", default=0)
    if mtu and layer.mtu and mtu < layer.mtu:
        return f"sets the MTU of bridge {bridge} to {mtu}, which is less than {layer.mtu}"
    return ""


def ensure(network: Network, layer: Layer2, snapshot: Snapshot) -> list[Change]:
    """Return the changes that create the bridge's template, or record that the network needs it, or repair it.

    A template is repaired only if no other network needs it.
    """
    if TEMPLATE not in snapshot.served:
        return []
    existing = _find_template(layer, snapshot.lookup(TEMPLATES_QUERY)) if layer.makes_bridges else None
    changes = _remove_former_templates(network, layer, snapshot)
    if existing is None and layer.makes_bridges:
        return [*changes, _creation(network, layer)]
    if existing is not None:
        needed_by_patch = add_needing_network(_ref(existing), existing, network)
        removal = (
            None
            if needed_by_patch
            else remove_needing_networks(
                _ref(existing), existing, find_recreated_networks(get_needing_networks(existing), [network])
            )
        )
        changes += (
            [needed_by_patch] if needed_by_patch else [removal] if removal else _fix_template(network, layer, existing)
        )
    return changes


def find_removed_bridge(network: Network, layer: Layer2, snapshot: Snapshot) -> str:
    """Return the bridge that `ensure` would remove from the nodes, such as "br-ext on eth1"; "" if none.

    That is a bridge of the network's former spec that no other network needs.
    """
    if TEMPLATE not in snapshot.served:
        return ""
    deleted_templates = [
        change.before or {}
        for change in _remove_former_templates(network, layer, snapshot)
        if change.verb is Verb.DELETE
    ]
    descriptions = [
        _format_bridge(
            str(entry.get("bridgeName")), sorted(_nics(entry)), dig(template, "spec", "nodeSelector", default={})
        )
        for template in deleted_templates
        for entry in _entries(template)
    ]
    return descriptions[0] if descriptions else ""


def describe_bridge(layer: Layer2) -> str:
    """Return the requested bridge in the same form."""
    return (
        _format_bridge(layer.bridge, layer.nics, layer.nodes)
        if layer.makes_bridges
        else f"{layer.bridge} (hostConfig: false)"
    )


def release_templates(deleted_uids: Collection[str], snapshot: Snapshot) -> list[Change]:
    """Return the changes that release the templates that these networks (by uid) need.

    A template that no other network needs is deleted; otherwise the annotations of these networks are removed from it.
    """
    if TEMPLATE not in snapshot.served:
        return []
    return [
        change
        for template in snapshot.lookup(TEMPLATES_QUERY)
        if (change := remove_needing_networks(_ref(template), template, deleted_uids))
    ]


def owner_networks(snapshot: Snapshot) -> dict[str, str]:
    """Return all networks that need a template created by yoshi: uid -> "namespace/name"."""
    found: dict[str, str] = {}
    if TEMPLATE in snapshot.served:
        for template in snapshot.lookup(TEMPLATES_QUERY):
            found |= get_needing_networks(template) if is_created_by_yoshi(template) else {}
    return found


def health(layer: Layer2, snapshot: Snapshot) -> str:
    """Return why there is no bridge; "" if there is a template for it, or none is needed."""
    if not layer.makes_bridges:
        return ""
    existing = _find_template(layer, snapshot.lookup(TEMPLATES_QUERY))
    if existing is None:
        return f"no hostnetworktemplate creates bridge {layer.bridge}"
    return f"{_ref(existing)} is being deleted" if metadata(existing).get("deletionTimestamp") else ""


def node_resource(layer: Layer2) -> str:
    """Return the resource by which ovs-cni's marker reports the bridge in the status of its nodes."""
    return MARKER_PREFIX + layer.bridge


def pending_rollout(layer: Layer2, snapshot: Snapshot) -> str:
    """Return the nodes that lack the bridge, as far as VMs can run there; "" if all have it, or none is created.

    Nodes that are not ready, are cordoned, or have a taint that keeps pods away are left out.
    """
    if not layer.makes_bridges:
        return ""
    nodes = [node for node in snapshot.lookup(Query(NODE)) if _takes_bridge(node, layer)]
    missing = [name_of(node) for node in nodes if not has_bridge(node, layer)]
    if missing:
        return f"bridge {layer.bridge} is missing on {first_few(sorted(missing), MAX_NODES)}"
    return "" if nodes else f"bridge {layer.bridge} is on no node"


def has_bridge(node: Json, layer: Layer2) -> bool:
    """Return whether a node reports the bridge, through ovs-cni's marker."""
    return bool(dig(node, "status", "allocatable", node_resource(layer), default=""))


def _takes_bridge(node: Json, layer: Layer2) -> bool:
    """Return whether the bridge is expected on a node: it matches the selector, is ready and accepts pods."""
    conditions = {c.get("type"): c.get("status") for c in dig(node, "status", "conditions", default=[])}
    taints = dig(node, "spec", "taints", default=[])
    accepts_pods = all(taint.get("effect") == "PreferNoSchedule" for taint in taints)
    is_ready = conditions.get("Ready", "True") == "True"
    return is_ready and accepts_pods and layer.nodes.items() <= labels_of(node).items()


def describe(layer: Layer2, snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return rows with the template, and the nodes that have the bridge according to Hostplumber."""
    rows = []
    if layer.makes_bridges and TEMPLATE in snapshot.served:
        existing = _find_template(layer, snapshot.lookup(TEMPLATES_QUERY))
        rows.append(
            ("Host Config", str(_ref(existing)) if existing else f"({snapshot.describe_absence(TEMPLATES_QUERY)})")
        )
    if HOST in snapshot.served:
        snapshot.lookup(Query(HOST))
        if snapshot.unreadable_reason(Query(HOST)):
            return [*rows, ("Nodes With It", "(cannot be read)")]
        nodes = sorted(name_of(host) for host in snapshot.lookup(Query(HOST)) if layer.bridge in _bridges_of(host))
        if nodes:
            rows.append(("Nodes With It", ", ".join(nodes)))
    return rows


def find_shared_nic(layer: Layer2, other: Layer2) -> str:
    """Return a physical interface that two networks would add to different bridges of a node; "" if there is none."""
    is_independent = layer.bridge == other.bridge or not _may_share_nodes(layer.nodes, other.nodes)
    shared = () if is_independent else sorted(set(layer.nics) & set(other.nics))
    return shared[0] if shared else ""


def has_other_nics(layer: Layer2, other: Layer2) -> bool:
    """Return whether two networks would create the same bridge of a node with different physical interfaces."""
    is_same_bridge = layer.makes_bridges and other.makes_bridges and layer.bridge == other.bridge
    return is_same_bridge and set(layer.nics) != set(other.nics) and _may_share_nodes(layer.nodes, other.nodes)


def has_other_nodes(layer: Layer2, other: Layer2) -> bool:
    """Return whether two networks would create the same bridge by two templates.

    Deleting one template would remove the bridge from all nodes.
    """
    is_same_bridge = layer.makes_bridges and other.makes_bridges and layer.bridge == other.bridge
    return is_same_bridge and layer.nodes != other.nodes


def _may_share_nodes(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether a node may match both selectors: it cannot if they require different values of a label."""
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _remove_former_templates(network: Network, layer: Layer2, snapshot: Snapshot) -> list[Change]:
    """Return the changes that release the templates of the network's former spec."""
    templates = snapshot.lookup(TEMPLATES_QUERY) if layer.makes_bridges or network.uid else []
    existing = _find_template(layer, templates) if layer.makes_bridges else None
    removals = [
        remove_needing_networks(_ref(template), template, {network.uid})
        for template in templates
        if template is not existing
    ]
    return [change for change in removals if change is not None]


def _find_template(layer: Layer2, templates: list[Json]) -> Json | None:
    """Return the template that creates the bridge with its physical interfaces, on its nodes.

    One created by yoshi takes precedence: if another one were used instead, it would be deleted, and the bridge with
    it.
    """
    for template in sorted(templates, key=is_created_by_yoshi, reverse=True):
        if dig(template, "spec", "nodeSelector", default={}) != dict(layer.nodes):
            continue
        if any(e.get("bridgeName") == layer.bridge and _nics(e) == set(layer.nics) for e in _entries(template)):
            return template
    return None


def _creation(network: Network, layer: Layer2) -> Change:
    nics = ",".join(layer.nics)
    name_part = re.sub(r"[^a-z0-9]+", "-", layer.bridge.lower()).strip("-") or "bridge"
    digest = short_hash([layer.bridge, nics, *(f"{key}={value}" for key, value in sorted(layer.nodes.items()))])
    ref = TEMPLATE.ref(f"yoshi-{name_part}-{digest}", network.namespace)
    entry: Json = {"bridgeName": layer.bridge, "nodeInterface": nics}
    if params := _params(layer):
        entry["params"] = params
    spec = {**({"nodeSelector": dict(layer.nodes)} if layer.nodes else {}), "ovsConfig": [entry]}
    body = new_object(ref, {"spec": spec}, annotations=shared_object_annotations(network))
    return Change(Verb.CREATE, ref, f"create {ref} with bridge {layer.bridge} on {nics}", body=body)


def _fix_template(network: Network, layer: Layer2, template: Json) -> list[Change]:
    """Return the changes that set the network's bridge settings, if no other network needs the template."""
    entries = _entries(template)
    if not is_created_by_yoshi(template) or get_needing_networks(template).keys() != {network.uid} or len(entries) != 1:
        return []
    other_params = {key: value for key, value in (entries[0].get("params") or {}).items() if key not in BRIDGE_PARAMS}
    entry = {**entries[0], "params": {**other_params, **_params(layer)} or None}
    return ensure_fields(TEMPLATE, template, spec_fields({"ovsConfig": [entry]}), Fields(whole=frozenset({"params"})))


def _params(layer: Layer2) -> Json:
    wanted = dict(zip(BRIDGE_PARAMS, (layer.mtu, layer.bond_mode, layer.lacp), strict=True))
    return {key: value for key, value in wanted.items() if value}


def _entries(template: Json) -> list[Json]:
    return [entry for entry in dig(template, "spec", "ovsConfig", default=[]) if entry]


def _nics(entry: Json) -> set[str]:
    return set(filter(None, str(entry.get("nodeInterface") or "").split(",")))


def _format_bridge(bridge: str, nics: Iterable[str], nodes: Mapping[str, str]) -> str:
    nodes_text = ", ".join(f"{key}={value}" for key, value in sorted(nodes.items()))
    return f"{bridge} on {','.join(nics)}" + (f" (nodes with {nodes_text})" if nodes_text else "")


def _bridges_of(host: Json) -> Iterator[str]:
    for entry in dig(host, "status", "ovsStatus", default=[]):
        yield str(entry.get("bridgeName"))


def _ref(template: Json) -> ObjectRef:
    return TEMPLATE.ref(name_of(template), namespace_of(template))
