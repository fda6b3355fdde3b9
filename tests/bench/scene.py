"""Puts networks, VMs and records on the API server, as the program itself would have left them, but quickly.

The records are written by the program's own planner of records, so they are where and what it expects; VMs that have
one carry the address as Calico's annotation. What this leaves satisfies the invariants' checker (tests/cluster).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

from kubectl_yoshi.engine.apply import apply_plan
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation, Allocations, shard_of
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json, Resource, name_of, namespace_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.network.status import NetworkStatus, plan_status
from kubectl_yoshi.plan.records import write_records

NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PINNED = "cni.projectcalico.org/ipAddrs"
NETWORK_NAME = "plumber.k8s.pf9.io/networkName"


class Scene:
    """Writes to one cluster as its administrator, many requests side by side."""

    def __init__(self, kubeconfig: Path, context: str = "") -> None:
        self.api = Api(Connection.open(ConnectionOptions(kubeconfig=str(kubeconfig), context=context)))

    def namespace(self, name: str) -> None:
        """Makes a namespace."""
        self._create(NAMESPACE, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])

    def network(self, namespace: str, name: str, cidr: str) -> Network:
        """Create a network and initialize its allocations, without the objects of its backend, which
        `kubectl yoshi network create` creates too."""
        spec = {"plugin": "calico", "cidr": cidr}
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": NETWORKWIZARD.api_version, "kind": NETWORKWIZARD.kind, "metadata": meta, "spec": spec}
        made = parse_network(self._create(NETWORKWIZARD, [body])[0])
        apply_plan(plan_status(made, NetworkStatus(created=True), RunContext(), ""), self.api).raise_first()
        return self.found(namespace, name)

    def found(self, namespace: str, name: str) -> Network:
        """A network that is there."""
        return parse_network(self.api.get(NETWORKWIZARD.ref(name, namespace)))

    def vms(self, namespace: str, names: Iterable[str], group: str = "") -> list[Json]:
        """Makes VMs without an address; all bear the label `group`."""
        return self._create(VM, [vm(namespace, name, group) for name in names])

    def annotate_vms(self, namespace: str, names: Iterable[str]) -> None:
        """Set an annotation of each VM, in one JSON Patch per VM and in parallel, as a plan's changes are sent."""
        body = [{"op": "add", "path": "/metadata/annotations", "value": {"example.com/bench": "yes"}}]
        changes = [Change(Verb.PATCH, VM.ref(name, namespace), "", body=body) for name in names]
        apply_plan(Plan((tuple(changes),)), self.api).raise_first()

    def attached_vms(self, network: Network, count: int) -> None:
        """Makes that many VMs in the network's namespace, attached to it."""
        numbers = list(islice(lowest(network), count))
        made = self._create(
            VM,
            [
                vm(
                    network.namespace,
                    f"{network.name}-{place}",
                    network=network.name,
                    address=str(network.address(number)),
                )
                for place, number in enumerate(numbers)
            ],
        )
        since = now()
        self._record(
            network,
            {
                number: Allocation(VIRTUALMACHINE, namespace_of(obj), name_of(obj), uid_of(obj), since=since)
                for number, obj in zip(numbers, made, strict=True)
            },
        )

    def reserve(self, network: Network, count: int) -> None:
        """Makes that many reservations, on the lowest addresses."""
        record = Allocation(RESERVATION, network.namespace, "bench", since=now(), note="held while others are attached")
        self._record(network, dict.fromkeys(islice(lowest(network), count), record))

    def _record(self, network: Network, records: dict[int, Allocation]) -> None:
        shards = {shard_of(network, number) for number in records}
        allocations = Allocations(network, {shard: None if shard.is_block else network.raw for shard in shards})
        apply_plan(write_records(allocations, records), self.api).raise_first()

    def _create(self, resource: Resource, bodies: Sequence[Json]) -> list[Json]:
        changes = [
            Change(Verb.CREATE, resource.ref(name_of(body), namespace_of(body)), "", body=body) for body in bodies
        ]
        outcome = apply_plan(Plan((tuple(changes),)), self.api)
        outcome.raise_first()
        return [answer for _, answer in outcome.executed if answer is not None]


def vm(namespace: str, name: str, group: str = "", network: str = "", address: str = "") -> Json:
    """A VirtualMachine that does not run, as one writes it, or as it is after its attachment to a network."""
    interfaces = [{"name": "default", "masquerade": {}}]
    template: Json = {
        "spec": {"domain": {"devices": {"interfaces": interfaces}}, "networks": [{"name": "default", "pod": {}}]}
    }
    meta: Json = {"name": name, "namespace": namespace, "labels": {"group": group}}
    if address:
        template["metadata"] = {"annotations": {PINNED: json.dumps([address])}}
        meta["annotations"] = {NETWORK_NAME: network}
    return {
        "apiVersion": VM.api_version,
        "kind": VM.kind,
        "metadata": meta,
        "spec": {"runStrategy": "Halted", "template": template},
    }


def lowest(network: Network) -> Iterable[int]:
    """The network's usable addresses from the lowest on, one after the other."""
    for first, last in network.usable.spans:
        yield from range(first, last + 1)


def now() -> str:
    """This moment as records have it: RFC 3339 in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
