"""A namespace with everything that an invalid command can fail on, and what must not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Resource, name_of, resource_version_of
from kubectl_yoshi.model.vm import VM
from lab.errors import LabError
from lab.testing import Cluster
from tests.cluster.harness import CommandResult, ForkServer, Yoshi, make, make_vms, patch, wizard

POOL = Resource("crd.projectcalico.org", "v1", "ippools", "IPPool", namespaced=False)
BLOCK = Resource("crd.projectcalico.org", "v1", "ipamblocks", "IPAMBlock", namespaced=False)
SERVICE = Resource("", "v1", "services", "Service")
STAY = {"finalizers": ["example.com/stay"]}

VM_YAML = "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: web-2}\n"
FILES = {
    "vm.yaml": VM_YAML,
    "broken.yaml": VM_YAML + "---\nspec:\n  template: [\n",
    "tabs.yaml": "kind: VirtualMachine\n\tmetadata: x\n",
    "list.json": "[1, 2]",
    "words.yaml": "just some words\n",
    "empty.yaml": "# nothing\n---\n",
    "no-kind.yaml": "apiVersion: v1\nmetadata: {name: x}\n",
    "no-name.yaml": "apiVersion: plumber.k8s.pf9.io/v1\nkind: NetworkWizard\nspec: {plugin: calico}\n",
    "number.yaml": "apiVersion: plumber.k8s.pf9.io/v1\nkind: NetworkWizard\nmetadata: {name: 5}\n",
    "pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n",
    "cidr.yaml": "apiVersion: plumber.k8s.pf9.io/v1\nkind: NetworkWizard\nmetadata: {name: red}\n"
    "spec: {plugin: calico, cidr: 10.1.0.0/99}\n",
    "asn.yaml": "apiVersion: plumber.k8s.pf9.io/v1\nkind: NetworkWizard\nmetadata: {name: red}\n"
    "spec: {plugin: public, cidr: 198.51.100.0/28, bgpConfig: {myASN: 0.5, peers: 10.0.0.1}}\n",
}


@dataclass(frozen=True)
class Bad:
    """A command line that is wrong.

    Attributes:
        kind: what sort of mistake.
        words: as typed, with {here} and {there} of the scene, and {dir} for the folder of `write_files`.
        code: the exit code: 2 for what can never be, 1 for what this cluster refuses, 3 if `ips check` or `diff` fail.
        trouble, hint: parts of the message.
    """

    kind: str
    words: str
    code: int
    trouble: str
    hint: str


def rows(kind: str, *cases: tuple[str, int, str, str]) -> list[Bad]:
    return [Bad(kind, *case) for case in cases]


RED = "network create red --cidr 10.98.0.0/24"
ATTACH = "vm attach web-2 --network"
LONG_NAME = "n" * 181
A_CIDR = "Write one like 10.133.0.0/16 or fd00:133::/64."
AN_ADDRESS = "Write one like 10.133.0.10 or fd00::10."
ANOTHER = "Choose another CIDR or name, or remove the conflicting object."


def write_files(folder: Path) -> None:
    """Those that commands are given by mistake."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "nothing").mkdir()


def check_message(ran: CommandResult, code: int, *parts: str) -> None:
    """A failure as people deserve it."""
    assert ran.code == code, str(ran)
    lines = ran.err.splitlines()
    assert any(line.startswith("error: ") for line in lines), str(ran)
    assert len(lines) <= 5, str(ran)
    assert ran.out == "", str(ran)
    for word in ("Traceback", "internal error", "<class ", "object at 0x"):
        assert word not in ran.err, str(ran)
    for part in parts:
        assert part in ran.err, f"{part!r} is missing in: {ran}"


@dataclass(frozen=True)
class Scene:
    """Where the mistakes are made.

    Attributes:
        here: the namespace: networks blue (10.97.0.0/24) and six (fd00:97::/64), a network `leaving` and a VM `going`
            that are being deleted, networks with broken specs; VMs web-1 (10.97.0.10 on blue) and web-2.
        there: another one, with network far (10.97.4.0/24) and VM alien.
    """

    cluster: Cluster
    yoshi: Yoshi
    api: Api
    here: str
    there: str

    def snapshot(self) -> dict[str, str]:
        """Object -> resourceVersion, of everything that a mistake could have changed."""
        found: dict[str, str] = {}
        for resource in (NETWORKWIZARD, ADDRESSBLOCK, VM, SERVICE):
            for namespace in (self.here, self.there):
                for obj in self.api.list(resource, namespace):
                    found[f"{resource.plural} {namespace}/{name_of(obj)}"] = resource_version_of(obj)
        for resource in (POOL, BLOCK):
            for obj in self.api.list(resource) if resource in self.api.served else ():
                if name_of(obj).startswith((self.here, self.there)):
                    found[f"{resource.plural} {name_of(obj)}"] = resource_version_of(obj)
        return found

    def records(self) -> dict[str, str]:
        """Address -> VM or note, of network blue."""
        status = self.api.get(NETWORKWIZARD.ref("blue", self.here)).get("status", {})
        return {ip: record.get("name") or record.get("note") for ip, record in status.get("allocations", {}).items()}

    def pin_of(self, name: str) -> str:
        """The addresses that a VM's template asks Calico for, "" for none."""
        template = self.api.get(VM.ref(name, self.here))["spec"]["template"]
        return str(template.get("metadata", {}).get("annotations", {}).get("cni.projectcalico.org/ipAddrs", ""))

    def words(self, text: str) -> str:
        """A command line with this scene's names put in."""
        for name, value in (("{here}", self.here), ("{there}", self.there)):
            text = text.replace(name, value)
        return text


@contextmanager
def scene(cluster: Cluster, forks: ForkServer) -> Iterator[Scene]:
    """Sets it up; takes it away at the end."""
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
    with ExitStack() as stack:
        here, there = (stack.enter_context(cluster.namespace(prefix)) for prefix in ("bad-here", "bad-there"))
        api = Api(stack.enter_context(closing(Connection.open(options))))
        yoshi = Yoshi(cluster.kubeconfig, cluster.context, forks, here)
        found = Scene(cluster, yoshi, api, here, there)
        stack.callback(_let_go, found)
        _set_up(found)
        yield found
        for network in ("blue", "six"):
            yoshi.done("network", "delete", network, "--force", "--yes")
        yoshi.within(there).done("network", "delete", "far")


def _set_up(scene: Scene) -> None:
    yoshi, here, there, cluster = scene.yoshi, scene.here, scene.there, scene.cluster
    yoshi.done(
        "network", "create", "blue", "--cidr", "10.97.0.0/24", "--range", "10.97.0.10-10.97.0.250",
        "--exclude", "10.97.0.40-10.97.0.49", "--gateway", "10.97.0.1",
    )  # fmt: skip
    yoshi.done("network", "create", "six", "--cidr", "fd00:97::/64")
    yoshi.within(there).done("network", "create", "far", "--cidr", "10.97.4.0/24")
    make_vms(cluster, here, "web-1", "web-2", "going", labels={"app": "web"})
    make_vms(cluster, there, "alien")
    yoshi.done("vm", "attach", "web-1", "--network", "blue", "--ip", "10.97.0.10")
    yoshi.done("ips", "reserve", "blue", "10.97.0.11", "--note", "printer")
    make(
        cluster,
        wizard(here, "leaving", plugin="calico", cidr="10.97.5.0/24"),
        wizard(here, "outside", plugin="calico", cidr="10.97.6.0/24", exclude=["10.99.0.0/28"]),
        wizard(here, "full-of-holes", plugin="calico", cidr="10.97.7.0/24", exclude=["10.97.7.0/24"]),
        wizard(here, "no-plugin"),
        wizard(here, "no-cidr", plugin="calico"),
    )
    made = {"status": {"created": True}}  # as Platform9 yoshi left networks
    patch(cluster, "nw", "no-cidr", made, namespace=here, subresource="status")
    for kind, name in (("vm", "going"), ("nw", "leaving")):
        patch(cluster, kind, name, {"metadata": STAY}, namespace=here)
        cluster.api.delete(cluster.api.find_resource(kind).path(here, name))


def _let_go(scene: Scene) -> None:
    for kind, name in (("vm", "going"), ("nw", "leaving")):
        try:
            patch(scene.cluster, kind, name, {"metadata": {"finalizers": None}}, namespace=scene.here)
        except LabError:
            continue
