"""Bridges on the nodes: HostNetworkTemplates, which Hostplumber carries out, one for all networks of the same bridge.

Networks of different VLANs share a bridge, so they share its template, which goes with the last of them. One that
somebody else made is used where it says the same, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from kubectl_yoshi.backends.marks import earlier_selves, first_marks, is_made_here, join, leave, needing
from kubectl_yoshi.backends.ovs_spec import HOST, TEMPLATE, Layer2
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, PatchBuilder, Verb
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.matching import NOTHING_SPECIAL, differing
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, metadata, name_of, namespace_of, short_hash, uid_of

EVERY = Read(TEMPLATE)
PARAMS = ("mtuRequest", "bondMode", "lacp")
"""The settings of a bridge that a network may ask for."""


def missing(layer: Layer2, served: Served) -> str:
    """What the cluster lacks to make the bridge, and what still works; "" where it lacks nothing."""
    if not layer.makes_bridges or TEMPLATE in served:
        return ""
    return (
        f"Hostplumber (no {TEMPLATE.full_name} is served): --no-host-config (spec.ovs.hostConfig: false) does without "
        f"it where {layer.bridge} is on the nodes already"
    )


def obstacles(layer: Layer2, live: Collection[str], facts: Facts) -> list[Obstacle]:
    """Templates of others that are in the bridge's way; those of live networks (by uid) are told by their networks."""
    if not layer.makes_bridges:
        return []
    templates = facts.ask(EVERY)
    if why := facts.why_unknown(EVERY):
        return [Obstacle(f"whether {layer.bridge} can be made on the nodes cannot be told: {why}", unseen=True)]
    found = []
    for template in templates:
        if is_made_here(template) and needing(template).keys() & set(live):
            continue
        if _may_share_nodes(dig(template, "spec", "nodeSelector", default={}), layer.nodes):
            found += [
                Obstacle(f"{_ref(template)} {wrong}")
                for entry in _entries(template)
                if (wrong := _disagreement(template, entry, layer))
            ]
    return found


def _disagreement(template: Json, entry: Json, layer: Layer2) -> str:
    """What a template says that the bridge cannot be made beside; "" where both can be."""
    bridge, nics = str(entry.get("bridgeName")), _nics(entry)
    if bridge != layer.bridge:
        shared = sorted(nics & set(layer.nics))
        return f"plugs {shared[0]} into bridge {bridge}: an interface is in one bridge only" if shared else ""
    if nics != set(layer.nics):
        return f"plugs {','.join(sorted(nics)) or 'nothing'} into bridge {bridge}, not {','.join(layer.nics)}"
    if dig(template, "spec", "nodeSelector", default={}) != dict(layer.nodes):
        return f"makes bridge {bridge} on other nodes: ask for the same --node-selector, or for --no-host-config"
    wanted = _params(layer)
    for key in ("bondMode", "lacp"):
        there = dig(entry, "params", key, default="")
        if key in wanted and there != wanted[key]:
            return f"gives bridge {bridge} {key} {there or 'none'}, not {wanted[key]}"
    mtu = dig(entry, "params", "mtuRequest", default=0)
    if mtu and layer.mtu and mtu < layer.mtu:
        return f"gives bridge {bridge} an MTU of {mtu}, which is less than {layer.mtu}"
    return ""


def build(network: Network, layer: Layer2, facts: Facts) -> list[Change]:
    """Makes the bridge's template, or notes that the network needs it, or mends one that only this network needs."""
    if TEMPLATE not in facts.served:
        return []
    there = _template_of(layer, facts.ask(EVERY)) if layer.makes_bridges else None
    changes = _former(network, layer, facts)
    if there is None and layer.makes_bridges:
        return [*changes, _creation(network, layer)]
    if there is not None:
        joined = join(_ref(there), there, network)
        left = None if joined else leave(_ref(there), there, earlier_selves(needing(there), [network]))
        changes += [joined] if joined else [left] if left else _mended(network, layer, there)
    return changes


def taken_off(network: Network, layer: Layer2, facts: Facts) -> str:
    """The bridge that `build` would take off the nodes, which only the network needed by what its spec said before,
    such as "br-ext on eth1"; "" where all stay."""
    if TEMPLATE not in facts.served:
        return ""
    gone = [change.before or {} for change in _former(network, layer, facts) if change.verb is Verb.DELETE]
    shown = [
        _shown(str(entry.get("bridgeName")), sorted(_nics(entry)), dig(template, "spec", "nodeSelector", default={}))
        for template in gone
        for entry in _entries(template)
    ]
    return shown[0] if shown else ""


def shown(layer: Layer2) -> str:
    """The bridge that is asked for, in the same words."""
    return (
        _shown(layer.bridge, layer.nics, layer.nodes) if layer.makes_bridges else f"{layer.bridge} (hostConfig: false)"
    )


def give_up(gone: Collection[str], facts: Facts) -> list[Change]:
    """Takes away templates that only these networks (by uid) needed, or the networks' marks on them."""
    if TEMPLATE not in facts.served:
        return []
    return [change for template in facts.ask(EVERY) if (change := leave(_ref(template), template, gone))]


def users(facts: Facts) -> dict[str, str]:
    """All networks that need a template of this program's: uid -> "namespace/name"."""
    found: dict[str, str] = {}
    if TEMPLATE in facts.served:
        for template in facts.ask(EVERY):
            found |= needing(template) if is_made_here(template) else {}
    return found


def problem(layer: Layer2, facts: Facts) -> str:
    """Why there is no bridge; "" where there is a template for it, or need be none."""
    if not layer.makes_bridges:
        return ""
    there = _template_of(layer, facts.ask(EVERY))
    if there is None:
        return f"no hostnetworktemplate makes bridge {layer.bridge}"
    return f"{_ref(there)} is being deleted" if metadata(there).get("deletionTimestamp") else ""


def describe(layer: Layer2, facts: Facts) -> list[tuple[str, str]]:
    """The template, and the nodes that have the bridge, as Hostplumber tells."""
    rows = []
    if layer.makes_bridges and TEMPLATE in facts.served:
        there = _template_of(layer, facts.ask(EVERY))
        rows.append(("Host Config", str(_ref(there)) if there else f"({facts.absence(EVERY)})"))
    if HOST in facts.served:
        facts.ask(Read(HOST))
        if facts.why_unknown(Read(HOST)):
            return [*rows, ("Nodes With It", "(may not be read)")]
        having = sorted(name_of(host) for host in facts.ask(Read(HOST)) if layer.bridge in _bridges_of(host))
        if having:
            rows.append(("Nodes With It", ", ".join(having)))
    return rows


def shared_nic(layer: Layer2, other: Layer2) -> str:
    """An interface that two networks would plug into different bridges of a node; "" where there is none."""
    apart = layer.bridge == other.bridge or not _may_share_nodes(layer.nodes, other.nodes)
    both = () if apart else sorted(set(layer.nics) & set(other.nics))
    return both[0] if both else ""


def other_nics(layer: Layer2, other: Layer2) -> bool:
    """Whether two networks would make the same bridge of a node with different interfaces."""
    makes = layer.makes_bridges and other.makes_bridges and layer.bridge == other.bridge
    return makes and set(layer.nics) != set(other.nics) and _may_share_nodes(layer.nodes, other.nodes)


def other_nodes(layer: Layer2, other: Layer2) -> bool:
    """Whether two networks would make the same bridge by two templates: the end of one takes it off all nodes."""
    makes = layer.makes_bridges and other.makes_bridges and layer.bridge == other.bridge
    return makes and layer.nodes != other.nodes


def _may_share_nodes(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a node may have both labels: it cannot where they want different values of a key."""
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _former(network: Network, layer: Layer2, facts: Facts) -> list[Change]:
    """What takes back the templates that the network needed by what its spec said before."""
    templates = facts.ask(EVERY) if layer.makes_bridges or network.uid else []
    there = _template_of(layer, templates) if layer.makes_bridges else None
    left = [leave(_ref(template), template, {network.uid}) for template in templates if template is not there]
    return [change for change in left if change is not None]


def _template_of(layer: Layer2, templates: list[Json]) -> Json | None:
    """The template that makes the bridge: of its interfaces, on its nodes.

    One of this program's comes first: it would go if somebody else's were used instead, and the bridge with it.
    """
    for template in sorted(templates, key=is_made_here, reverse=True):
        if dig(template, "spec", "nodeSelector", default={}) != dict(layer.nodes):
            continue
        if any(e.get("bridgeName") == layer.bridge and _nics(e) == set(layer.nics) for e in _entries(template)):
            return template
    return None


def _creation(network: Network, layer: Layer2) -> Change:
    nics = ",".join(layer.nics)
    words = re.sub(r"[^a-z0-9]+", "-", layer.bridge.lower()).strip("-") or "bridge"
    digest = short_hash([layer.bridge, nics, *(f"{key}={value}" for key, value in sorted(layer.nodes.items()))])
    ref = TEMPLATE.ref(f"yoshi-{words}-{digest}", network.namespace)
    entry: Json = {"bridgeName": layer.bridge, "nodeInterface": nics}
    if params := _params(layer):
        entry["params"] = params
    body = {
        "apiVersion": TEMPLATE.api_version,
        "kind": TEMPLATE.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "annotations": first_marks(network)},
        "spec": {**({"nodeSelector": dict(layer.nodes)} if layer.nodes else {}), "ovsConfig": [entry]},
    }
    return Change(Verb.CREATE, ref, f"make {ref} with bridge {layer.bridge} on {nics}", body=body)


def _mended(network: Network, layer: Layer2, template: Json) -> list[Change]:
    """Sets what the network asks of its bridge, where no other network has a say."""
    entries = _entries(template)
    if not is_made_here(template) or needing(template).keys() != {network.uid} or len(entries) != 1:
        return []
    there, params = entries[0].get("params") or {}, _params(layer)
    if not differing({**dict.fromkeys(PARAMS), **params}, there, NOTHING_SPECIAL):
        return []
    entry = {key: value for key, value in entries[0].items() if key != "params"}
    if kept := {**{key: value for key, value in there.items() if key not in PARAMS}, **params}:
        entry["params"] = kept
    patch = PatchBuilder.of_uid(uid_of(template))
    patch.set_in(template, ("spec", "ovsConfig"), [entry])
    return [Change(Verb.PATCH, _ref(template), f"mend {_ref(template)}", patch.ops, before=template)]


def _params(layer: Layer2) -> Json:
    wanted = dict(zip(PARAMS, (layer.mtu, layer.bond_mode, layer.lacp), strict=True))
    return {key: value for key, value in wanted.items() if value}


def _entries(template: Json) -> list[Json]:
    return [entry for entry in dig(template, "spec", "ovsConfig", default=[]) if entry]


def _nics(entry: Json) -> set[str]:
    return set(filter(None, str(entry.get("nodeInterface") or "").split(",")))


def _shown(bridge: str, nics: Iterable[str], nodes: Mapping[str, str]) -> str:
    where = ", ".join(f"{key}={value}" for key, value in sorted(nodes.items()))
    return f"{bridge} on {','.join(nics)}" + (f" (nodes with {where})" if where else "")


def _bridges_of(host: Json) -> Iterator[str]:
    for entry in dig(host, "status", "ovsStatus", default=[]):
        yield str(entry.get("bridgeName"))


def _ref(template: Json) -> ObjectRef:
    return TEMPLATE.ref(name_of(template), namespace_of(template))
