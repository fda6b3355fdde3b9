"""NetworkWizard objects from flags and from files, checked before anything is asked of the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.manifests import read_objects
from kubectl_yoshi.cli.network.create import PEER_SYNTAX
from kubectl_yoshi.cli.network.layer2 import build_layer2_spec
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.addresses import parse_cidr, parse_range
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_asn, parse_cool_down, parse_network
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.network.planner import default_plugin

if TYPE_CHECKING:
    from kubectl_yoshi.cli.network.create import CreateOptions


MAX_NAME_LENGTH = 180
"""An IPPool is named <namespace>.<name>, a namespace has 63 characters at most, a name in the API 253."""


def build_network(session: Session, options: CreateOptions) -> Json:
    """The NetworkWizard that `network create NAME` describes."""
    _check_name(str(options.name))
    if options.plugin is not None:
        _check_plugin(options.plugin, "--plugin")
    spec: Json = {"plugin": options.plugin or default_plugin(BACKENDS, Snapshot(session.api.served))}
    if options.cidr is not None:
        parse_cidr(options.cidr, "--cidr")
        spec["cidr"] = options.cidr
    if options.range_:
        first, last = parse_range(options.range_, "--range")
        spec["range_start"], spec["range_end"] = str(first), str(last)
    if options.exclude:
        spec["exclude"] = list(options.exclude)
    if options.gateway:
        spec["gateway"] = options.gateway
    if options.max_addresses_per_namespace is not None:
        spec["maxAddressesPerNamespace"] = options.max_addresses_per_namespace
    if options.cool_down is not None:
        parse_cool_down(options.cool_down, "--cool-down")
        spec["coolDown"] = options.cool_down
    calico = {
        "encapsulation": options.encapsulation,
        "natOutgoing": options.nat_outgoing,
        "blockSize": options.block_size,
        "liveMigration": options.live_migration or None,
    }
    calico = {key: value for key, value in calico.items() if value is not None}
    if calico:
        if spec["plugin"] != "calico":
            raise usage_error(f"--encapsulation, --nat-outgoing, … are for Calico, not for {spec['plugin']}")
        spec["calico"] = calico
    nodes = _node_selector(options)
    layer2 = build_layer2_spec(options)
    if layer2 and spec["plugin"] != "ovs":
        raise usage_error(
            f"--bridge, --vlan, --dhcp, … are for layer 2 networks, not for {spec['plugin']}", "Add --plugin ovs."
        )
    if spec["plugin"] == "ovs":
        spec["ovs"] = {**layer2, **({"nodeSelector": nodes} if nodes else {})}
        nodes = {}
    public = _public(options, nodes)
    bgp = _bgp(options)
    if (public or bgp) and spec["plugin"] != "public":
        raise usage_error(
            f"--peer, --announce, … are for public networks, not for {spec['plugin']}", "Add --plugin public."
        )
    if public:
        spec["public"] = public
    if bgp:
        spec["bgpConfig"] = bgp
    obj = {
        "apiVersion": NETWORKWIZARD.api_version,
        "kind": NETWORKWIZARD.kind,
        "metadata": {"name": options.name, "namespace": session.namespace},
        "spec": spec,
    }
    parse_network(obj)
    return obj


def read_networks(session: Session, filenames: Iterable[str]) -> list[Json]:
    """The NetworkWizards of files, each in the session's namespace unless it names one; a status is left out.

    Raises:
        UsageError: something in them is no NetworkWizard, or one that cannot be.
    """
    found = []
    for obj in read_objects(filenames):
        if obj.get("apiVersion") != NETWORKWIZARD.api_version or obj.get("kind") != NETWORKWIZARD.kind:
            raise usage_error(
                f"{obj.get('kind')} {name_of(obj)!r} is no NetworkWizard",
                f"network create takes kind NetworkWizard of {NETWORKWIZARD.api_version}; kubectl apply takes others.",
            )
        _check_name(name_of(obj))
        metadata = {**obj["metadata"], "namespace": namespace_of(obj) or session.namespace}
        wanted = {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}
        if not dig(wanted, "spec", "plugin"):
            plugin = default_plugin(BACKENDS, Snapshot(session.api.served))
            wanted["spec"] = {**(wanted.get("spec") or {}), "plugin": plugin}
        parse_network(wanted)
        _check_plugin(wanted["spec"]["plugin"], f'network "{name_of(obj)}": plugin')
        found.append(wanted)
    if not found:
        raise usage_error("no NetworkWizard found in the files")
    return found


def _check_plugin(plugin: str, what: str) -> None:
    if plugin not in BACKENDS:
        raise usage_error(f'{what} "{plugin}" is unknown', f"Choose one of {', '.join(sorted(BACKENDS))}.")


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_LENGTH:
        raise usage_error(
            f'"{name[:20]}…" is too long for the name of a network', f"Use {MAX_NAME_LENGTH} characters at most."
        )
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name):
        raise usage_error(
            f'"{name}" is not a name for a network',
            "Use lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit.",
        )


def _node_selector(options: CreateOptions) -> dict[str, str]:
    selector = {}
    for word in filter(None, ",".join(options.node_selector).split(",")):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise usage_error(f'--node-selector "{word}" is no label', "Write KEY=VALUE, with commas between more.")
        selector[key] = value
    return selector


def _public(options: CreateOptions, nodes: Mapping[str, str]) -> Json:
    wanted = {
        "announce": options.announce,
        "via": options.via,
        "interfaces": list(options.interface),
        "nodeSelector": dict(nodes),
    }
    for key, known in (("announce", ("metallb-l2", "metallb-bgp", "calico-bgp")), ("via", ("service", "external-ips"))):
        if wanted[key] is not None and wanted[key] not in known:
            raise usage_error(f'--{key} "{wanted[key]}" is unknown', f"Choose one of {', '.join(known)}.")
    return {key: value for key, value in wanted.items() if value}


def _bgp(options: CreateOptions) -> Json:
    bgp: Json = {}
    if options.my_asn:
        bgp["myASN"] = parse_asn(options.my_asn, "--my-asn")
    if options.remote_asn:
        bgp["remoteASN"] = parse_asn(options.remote_asn, "--remote-asn")
    if options.peer:
        bgp["peers"] = [_peer(text) for text in options.peer]
    elif bgp:
        raise usage_error("--my-asn and --remote-asn need a --peer")
    return bgp


def _peer(text: str) -> Json:
    """What `--peer` names, written as network.PEER says; `password-secret` is taken too."""
    address, *settings = text.split(",")
    peer: dict[str, Any] = {"peerIP": address}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key == "reachableBy" and value:
            peer["reachableBy"] = value
        elif key == "multihop" and not equals:
            peer["multihop"] = True
        elif key in ("passwordSecret", "password-secret") and value:
            peer["passwordSecret"] = value
        else:
            raise usage_error(f'--peer "{text}": "{setting}" is unknown', f"Write {PEER_SYNTAX}.")
    return peer
