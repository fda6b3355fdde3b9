"""The cluster of a scenario: namespaces `prod` and `dev`, a node, Calico, KubeVirt, MetalLB and Multus."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.golden import kinds
from tests.golden.clock import Clock
from tests.golden.controllers import INSTANCES, PIN, VMS, Controllers
from tests.golden.kinds import Json, Kind
from tests.golden.server import CRDS, FakeApiServer

NETWORKS = "networkwizards.plumber.k8s.pf9.io"
BLOCKS = "addressblocks.plumber.k8s.pf9.io"


class Cluster:
    """See the module.

    Args:
        clock: the time.
        folder: the home folder of the user.
        crds: the CRDs that the program installs, () where it is not installed.
        calico: the API group of Calico, "" for none.
        calico_version: what Calico says of itself.
        also, without: kinds that are served besides, and not served.
    """

    def __init__(
        self,
        clock: Clock,
        folder: Path,
        crds: Sequence[Json],
        *,
        calico: str = "crd.projectcalico.org",
        calico_version: str = "v3.32.1",
        also: Sequence[Kind] = (),
        without: Sequence[Kind] = (),
    ) -> None:
        self.clock, self.folder, self.calico = clock, folder, calico
        served = [*kinds.CORE, *kinds.KUBEVIRT, *kinds.METALLB, *kinds.LAYER2]
        served += {"": [], "projectcalico.org": kinds.CALICO_V3}.get(calico, kinds.CALICO)
        self.server = FakeApiServer([kind for kind in [*served, *also] if kind not in without], clock.timestamp)
        self.controllers = Controllers(self.server, calico)
        clock.time_passes = self.controllers.run
        for name in ("default", "prod", "dev", "metallb-system", "dhcp-controller-system"):
            self.put("namespaces", name)
        self.put("nodes", "node1", spec={"podCIDR": "10.244.0.0/24"}, status={"addresses": [_internal("172.18.0.2")]})
        self.put("servicecidrs.networking.k8s.io", "kubernetes", spec={"cidrs": ["10.96.0.0/12"]})
        for crd in crds:
            self.server.put(CRDS, crd)
            self.server.edit(CRDS, "", crd["metadata"]["name"], _establish)
        if calico:
            information = {"calicoVersion": calico_version, "datastoreReady": True}
            self.put(f"clusterinformations.{calico}", "default", spec=information)
            config = "ipamconfigurations" if calico == "projectcalico.org" else "ipamconfigs"
            self.put(f"{config}.{calico}", "default", spec={"strictAffinity": False})

    def put(self, kind: str, name: str, namespace: str = "", labels: Json | None = None, **content: Any) -> Json:
        """Create or overwrite an object as another client does it."""
        metadata: Json = {"name": name, **({"namespace": namespace} if namespace else {})}
        if labels:
            metadata |= {"labels": labels}
        return self.server.put(kind, {"metadata": metadata, **content})

    def vm(
        self,
        name: str,
        namespace: str = "prod",
        *,
        labels: Json | None = None,
        annotations: Json | None = None,
        pin: str = "",
        address: str = "",
        template: Json | None = None,
        **spec: Any,
    ) -> Json:
        """Create a VM, halted unless `spec` says otherwise.

        Args:
            pin: the address that its template asks Calico for.
            address: what it runs with, if it runs.
            template: the spec of its template.
        """
        devices = {"interfaces": [{"name": "default", "masquerade": {}}]}
        body: Json = {
            "spec": template or {"domain": {"devices": devices}, "networks": [{"name": "default", "pod": {}}]}
        }
        if pin:
            body["metadata"] = {"annotations": {PIN: json.dumps([pin])}}
        metadata = {"name": name, "namespace": namespace, "labels": labels or {"app": name.partition("-")[0]}}
        if annotations:
            metadata["annotations"] = annotations
        obj = {"metadata": metadata, "spec": {**(spec or {"runStrategy": "Halted"}), "template": body}}
        made = self.server.put(VMS, obj)
        if address:
            self.controllers.start(made, address)
        return made

    def network(self, name: str, namespace: str = "prod", status: Json | None = None, **spec: Any) -> Json:
        """Create a NetworkWizard as kubectl does it."""
        content = {"spec": spec, **({"status": status} if status else {})}
        return self.put(NETWORKS, name, namespace, **content)

    def delete_vm(self, name: str, namespace: str = "prod") -> None:
        """Delete a VM, and its instance with it."""
        self.server.remove(VMS, namespace, name)

    def is_running(self, name: str, namespace: str = "prod") -> bool:
        """Return whether a VM has an instance."""
        return self.server.find(INSTANCES, namespace, name) is not None

    def write(self, name: str, text: str) -> None:
        """Write a file into the user's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def vms(*names: str, **more: Any) -> Callable[[Cluster], None]:
    """Return a step that creates VMs."""

    def step(cluster: Cluster) -> None:
        for name in names:
            cluster.vm(name, **more)

    return step


def network(name: str, **more: Any) -> Callable[[Cluster], None]:
    """Return a step that creates a network as kubectl does it."""

    def step(cluster: Cluster) -> None:
        cluster.network(name, **more)

    return step


def deny(*pairs: tuple[str, str], reviews: bool = True) -> Callable[[Cluster], None]:
    """Return a step that takes permissions away: pairs of a verb and the full name of a kind."""

    def step(cluster: Cluster) -> None:
        cluster.server.denied |= {*pairs}
        cluster.server.reviews = reviews

    return step


def allow_all(cluster: Cluster) -> None:
    """Restore all permissions."""
    cluster.server.denied.clear()


def files(**texts: str) -> Callable[[Cluster], None]:
    """Return a step that writes files; in their names `__` stands for a dot."""

    def step(cluster: Cluster) -> None:
        for name, text in texts.items():
            cluster.write(name.replace("__", "."), text)

    return step


def hours(count: float) -> Callable[[Cluster], None]:
    """Return a step in which hours pass."""
    return lambda cluster: cluster.clock.advance(hours=count)


def _internal(address: str) -> Json:
    return {"type": "InternalIP", "address": address}


def _establish(crd: Json) -> None:
    crd["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
