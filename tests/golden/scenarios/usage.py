"""Mistakes on the command line, help, versions and completion."""

from __future__ import annotations

from tests.golden.cluster import NETWORKS, Cluster, deny, files, network, vms
from tests.golden.scenario import Run, Scenario, prepare
from tests.golden.scenarios.calico import BIG, BLUE
from tests.golden.scenarios.public import LAN

RED = "network create red --cidr 10.198.0.0/24"
ATTACH = "vm attach web-2 --network"
VM_FILE = "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: web-2}\n"
WIZARD = "apiVersion: plumber.k8s.pf9.io/v1\nkind: NetworkWizard\n"
FILES = files(
    broken__yaml=f"{VM_FILE}---\nspec:\n  template: [\n",
    tabs__yaml="kind: VirtualMachine\n\tmetadata: x\n",
    list__json="[1, 2]",
    words__yaml="just some words\n",
    empty__yaml="# nothing\n---\n",
    kindless__yaml="apiVersion: v1\nmetadata: {name: x}\n",
    nameless__yaml=f"{WIZARD}spec: {{plugin: calico}}\n",
    number__yaml=f"{WIZARD}metadata: {{name: 5}}\n",
    pod__yaml="apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n",
    vm__yaml=VM_FILE,
    cidr__yaml=f"{WIZARD}metadata: {{name: red}}\nspec: {{plugin: calico, cidr: 10.1.0.0/99}}\n",
    unknown__yaml=f"{WIZARD}metadata: {{name: red}}\nspec: {{plugin: calico, cidr: 10.1.0.0/24, colour: red}}\n",
)


def being_deleted(cluster: Cluster) -> None:
    """Network `leaving` and VM `going` have a deletion timestamp."""
    deleted = {"finalizers": ["example.com/stay"], "deletionTimestamp": cluster.clock.timestamp()}
    cluster.network("leaving", plugin="calico", cidr="10.197.5.0/24")
    cluster.server.edit(NETWORKS, "prod", "leaving", lambda obj: obj["metadata"].update(deleted))
    cluster.vm("going")
    cluster.server.edit("virtualmachines.kubevirt.io", "prod", "going", lambda obj: obj["metadata"].update(deleted))


SCENARIOS = [
    Scenario(
        "networks",
        [
            "network create red",
            "network create red --cidr ''",
            "network create red --cidr garbage",
            "network create red --cidr 10.198.0.0/33",
            "network create red --cidr fd00:::1/64",
            f"{RED} --range 10.198.0.20-10.198.0.10",
            f"{RED} --range 10.199.0.1-10.199.0.9",
            f"{RED} --range 10.198.0.1-fd00::1",
            f"{RED} --range garbage",
            f"{RED} --exclude 10.198.0.0/24",
            f"{RED} --exclude 10.198.0.9-10.198.0.1",
            f"{RED} --gateway fd00::1",
            f"{RED} --plugin calicoo",
            f"{RED} --encapsulation Carrots",
            "network create red --cidr fd00:98::/64 --encapsulation IPIP",
            f"{RED} --block-size 8",
            f"{RED} --block-size big",
            f"{RED} --live-migration --encapsulation VXLAN",
            f"{RED} --cooldown soon",
            "network create Red --cidr 10.198.0.0/24",
            "network create a/b --cidr 10.198.0.0/24",
            f"network create {'n' * 181} --cidr 10.198.0.0/24",
            "network create red pink --cidr 10.198.0.0/24",
            "network describe a/b/c",
            being_deleted,
            "network create leaving --cidr 10.197.5.0/24",
        ],
    ),
    Scenario(
        "VMs and addresses",
        [
            vms("web-1", "web-2"),
            vms("alien", namespace="dev"),
            being_deleted,
            network("outside", plugin="calico", cidr="10.197.6.0/24", exclude=["10.199.0.0/28"]),
            *prepare(
                "network create blue --cidr 10.197.0.0/24 --range 10.197.0.10-10.197.0.250 --gateway 10.197.0.1 "
                "--exclude 10.197.0.40-10.197.0.49",
                "vm attach web-1 --network blue --ip 10.197.0.10",
                "network create six --cidr fd00:97::/64",
                "ips reserve blue 10.197.0.11 --note printer",
            ),
            f"{ATTACH} no-such",
            f"{ATTACH} no-such/blue",
            f"{ATTACH} ''",
            f"{ATTACH} leaving",
            f"{ATTACH} outside",
            "vm attach no-such --network blue",
            "vm attach alien --network blue",
            "vm attach going --network blue",
            "vm attach Web-2 --network blue",
            "vm attach a/b/c --network blue",
            "vm attach --network blue",
            "vm attach web-2 -l app=web --network blue",
            "vm attach -l app=nothing --network blue",
            "vm attach -l 'app in (' --network blue",
            "vm list -l 'a b'",
            "vm list -l 'app in (web,db),!absent,app!=cache'",
            "vm detach no-such --network blue",
            "vm detach web-1 --network no-such",
            "vm attach web-1 --network six",
            *(
                f"{ATTACH} blue --ip {address}"
                for address in ("garbage", "10.197.0.20/24", "10.199.0.1", "fd00:97::5", "10.197.0.0", "10.197.0.1")
            ),
            *(f"{ATTACH} blue --ip 10.197.0.{number}" for number in (5, 45, 10, 11)),
            "vm attach web-1 web-2 --network blue --ip 10.197.0.20",
            f"{ATTACH} blue --mac garbage",
            f"{ATTACH} blue --mac 01:00:5e:00:00:01",
            "vm attach web-2",
            "vm attach web-2 --public-network blue",
            "vm attach web-2 --public-ip 1.2.3.4",
            "ips show garbage",
            "ips reserve blue --count 0",
            "ips reserve blue 10.197.0.20 --count 2",
            "ips reserve blue 10.197.0.10",
            "ips release blue 10.197.0.10",
            "ips release blue",
            "ips list --network outside",
            "ips check --network no-such",
            "ips gc --network no-such",
            "network delete no-such blue",
        ],
    ),
    Scenario(
        "files",
        [
            FILES,
            *(
                f"vm attach -f {name} --network blue"
                for name in ("none.yaml", "broken.yaml", "tabs.yaml", "list.json", "words.yaml", "empty.yaml")
            ),
            "vm attach -f kindless.yaml --network blue",
            "vm attach -f pod.yaml --network blue",
            "vm attach -f https://example.com/vm.yaml --network blue",
            "network create -f nameless.yaml",
            "network create -f number.yaml",
            "network create -f vm.yaml",
            "network create -f cidr.yaml",
            "network create -f unknown.yaml",
            "network create -f unknown.yaml --dry-run=server",
            "network create red -f cidr.yaml",
            Run("network create -f -", stdin="metadata: {}\nkind: [}\n"),
        ],
    ),
    Scenario(
        "command line",
        [
            "vm atach web-2",
            "networ list",
            "bogus",
            "",
            "network",
            "vm attach web-2 --netwrok blue",
            "ips list blue extra",
            "ips list -o nonsense",
            "ips list -o 'jsonpath={.x'",
            "ips list -o jsonpath=",
            "ips list -o custom-columns=A",
            f"{ATTACH} blue --timeout soon",
            f"{ATTACH} blue --dry-run=maybe",
            "ips gc --grace soon",
            "completion klingon",
            "diff ips list",
            "diff",
            "sync --watch --dry-run",
            "diff sync --watch",
            "-v many version",
            "--help",
            "help",
            "help vm attach",
            "vm detach --help",
            "help no-such",
            "options",
        ],
    ),
    Scenario(
        "versions",
        [
            "version",
            "version --client",
            "version -o json",
            "version -o yaml",
            "version --client -o json",
            "version -o wide",
            "--version",
        ],
    ),
    Scenario(
        "completion",
        [
            vms("web-1", "web-2", "db-1"),
            *prepare(BLUE, BIG, LAN, "vm attach web-1 --network blue"),
            "completion bash",
            "completion zsh",
            "completion fish",
            "completion install",
            Run("completion install", note="again"),
            "completion install --shell zsh",
            "completion install --shell fish",
            *(
                f"__complete {words}"
                for words in (
                    "''",
                    "ne",
                    "network ''",
                    "network describe ''",
                    "network describe b",
                    "vm attach ''",
                    "vm attach web-1 ''",
                    "vm attach web-1 --network ''",
                    "vm attach web-1 --network=b",
                    "vm attach web-1 --network blue --ip ''",
                    "vm attach web-1 --network blue --ip 10.20.0.1",
                    "vm attach --",
                    "vm attach --network blue --d",
                    "vm attach web-1 --dry-run ''",
                    "ips release blue ''",
                    "ips show ''",
                    "ips move ''",
                    "ips list -o ''",
                    "network create x --plugin ''",
                    "--context ''",
                    "-n ''",
                    "-n d",
                    "vm attach dev/''",
                    "network create -f ''",
                    "diff vm at",
                    "completion ''",
                    "vm attach web-1 --public-ip ''",
                    "bogus ''",
                    "help vm ''",
                )
            ),
            deny(("list", "virtualmachines.kubevirt.io")),
            Run("__complete vm detach ''", note="without permission"),
        ],
    ),
]
