"""Commands for addresses: list, who, reserve, release, check, gc, import, rebuild."""

from __future__ import annotations

from tests.golden.cluster import BLOCKS, NETWORKS, Cluster, deny, files, hours, vms
from tests.golden.controllers import INSTANCES, PIN, VMS
from tests.golden.scenario import Run, Scenario, Step, prepare
from tests.golden.scenarios.calico import BIG, BLUE, RUNS
from tests.golden.server import CRDS

ATTACHED = (BLUE, "vm attach web-1 web-2 db-1 --network blue", "ips reserve blue 10.20.0.9 --note printer")
HEADER = "name,address,mac,namespace\n"
CSV = f"{HEADER}web-1,10.20.0.7,02:00:00:00:00:07\nweb-2,10.20.0.8,\nnobody,10.20.0.9,\nweb-3,10.99.0.9,\n"
OPENSTACK = (
    '"ID","Name","MAC Address","Fixed IP Addresses","Status"\n'
    '"1","web-1","02:00:00:00:00:07","ip_address=\'10.20.0.7\'","UP"\n'
)


def delete(name: str) -> Step:
    return lambda cluster: cluster.delete_vm(name)


def leave_instance(cluster: Cluster) -> None:
    """VM web-2 is deleted and its instance still runs."""
    instance = cluster.server.find(INSTANCES, "prod", "web-2")
    cluster.delete_vm("web-2")
    assert instance
    instance["metadata"].pop("ownerReferences")
    cluster.server.put(INSTANCES, instance)


def lose_allocations(cluster: Cluster) -> None:
    """As a restore of a backup without status leaves it."""
    for block in cluster.server.all(BLOCKS):
        cluster.server.remove(BLOCKS, "prod", block["metadata"]["name"])
    for obj in cluster.server.all(NETWORKS):
        cluster.server.edit(NETWORKS, "prod", obj["metadata"]["name"], lambda found: found.pop("status"))


def pin_unrecorded(cluster: Cluster) -> None:
    """The template of web-1 asks for an address that no allocation knows."""
    pin = {"annotations": {PIN: '["10.20.0.77"]'}}
    cluster.server.edit(VMS, "prod", "web-1", lambda vm: vm["spec"]["template"].update(metadata=pin))


def remove_pin(cluster: Cluster) -> None:
    """Another client removes the address from the template of web-1."""
    cluster.server.edit(VMS, "prod", "web-1", lambda vm: vm["spec"]["template"].pop("metadata"))


def wrong_counter(cluster: Cluster) -> None:
    cluster.server.edit(NETWORKS, "prod", "blue", lambda obj: obj["status"].update(used=17))


def start_with_addresses(cluster: Cluster) -> None:
    cluster.vm("web-1", address="10.20.0.7", **RUNS)
    cluster.vm("web-2", address="10.20.0.8", **RUNS)


def kept_by_calico(cluster: Cluster) -> None:
    cluster.vm("web-1")
    cluster.controllers.hold(
        "10.20.0.40", "k8s-pod-network.vmi.prod.web-1", namespace="prod", pod="virt-launcher-web-1"
    )
    cluster.controllers.hold("10.20.0.41", "k8s-pod-network.vmi.prod.gone", namespace="prod", pod="virt-launcher-gone")


def foreign_service(cluster: Cluster) -> None:
    cluster.vm("web-1")
    cluster.put(
        "services",
        "shop",
        "prod",
        spec={
            "type": "LoadBalancer",
            "selector": {"vm.kubevirt.io/name": "web-1"},
            "ports": [{"port": 443, "protocol": "TCP"}],
            "loadBalancerIP": "203.0.113.3",
        },
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.3"}]}},
    )


VM_MANIFEST = """\
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: copy}
spec:
  runStrategy: Halted
  template:
    metadata:
      annotations: {cni.projectcalico.org/ipAddrs: '["10.20.0.9"]'}
    spec: {domain: {devices: {}}}
"""

FORMATS = (
    "wide", "json", "yaml", "name", "jsonpath={.items[*].metadata.name}",
    "custom-columns=IP:.metadata.name,HOLDER:.spec.holder", "jsonpath-file=path.txt", "custom-columns-file=columns.txt",
)  # fmt: skip

SCENARIOS = [
    Scenario(
        "explaining the policies",
        [
            vms("web-1", "web-2", "db-1"),
            *prepare(*ATTACHED),
            "policy explain 10.20.0.2",
            "policy explain 10.20.0.2 -o json",
            "policy explain 10.20.0.77",
            "policy explain vm/web-1",
            "policy explain vm/no-such",
            "policy explain 203.0.113.9",
        ],
    ),
    Scenario(
        "looking",
        [
            vms("web-1", "web-2", "db-1"),
            *prepare(*ATTACHED, BIG, "ips reserve big 10.133.17.7"),
            files(path__txt='{range .items[*]}{.metadata.name}{"\\n"}{end}', columns__txt="IP\n.metadata.name\n"),
            "ips list",
            "ips list blue --free",
            "ips list --free -o wide",
            "ips list blue --no-headers",
            "ips list --network big",
            *(f"ips list -o '{name}'" for name in FORMATS),
            *(f"network list -o '{name}'" for name in FORMATS[:5]),
            *(f"vm list -o '{name}'" for name in FORMATS[:5]),
            "network list blue -o 'jsonpath={.spec.cidr}'",
            "network list -l app=none",
            "network list no-such",
            "vm list web-1 -l app=web",
            "vm list no-such",
            "network describe blue",
            "network describe blue -o json",
            "network describe no-such",
            "ips show 10.20.0.2",
            *(f"ips show 10.20.0.2 -o {name}" for name in ("json", "yaml", "name", "wide")),
            "ips show 10.20.0.9",
            "ips show 10.20.0.77",
            "ips show 10.20.0.1",
            "ips show 203.0.113.9",
            "ips check",
            "ips check -A -o json",
            "ips check --network blue -o yaml",
            "-v 6 ips show 10.20.0.2",
            "-v 8 version",
        ],
    ),
    Scenario(
        "map",
        [
            vms("web-1", "web-2"),
            *prepare(
                BLUE,
                "vm attach web-1 web-2 --network blue",
                BIG,
                "ips reserve big 10.133.17.7",
                "network create six --cidr fd00:20::/64",
                "ips reserve six fd00:20::1:5",
            ),
            "ips map blue",
            Run("ips map blue", note="in colours", environment={"FORCE_COLOR": "1"}),
            "ips map blue 10.20.0.0/27 -o wide",
            *(f"ips map blue 10.20.0.0/29 -o '{name}'" for name in ("json", "yaml", "name", "svg", "html", "terminal")),
            "ips map blue 10.20.0.0/29 -o 'jsonpath={.status.totals.Free}'",
            "ips map big",
            "ips map 10.133.17.0/26",
            "ips map six -A",
            "ips map no-such",
            "ips map blue 10.99.0.0/24",
            "ips map 10.99.0.0/24",
            "ips map 0.0.0.0/0",
            "ips map 10.20.0.0/24 10.20.0.0/26",
            "ips map blue -o png",
        ],
    ),
    Scenario(
        "diagnosis",
        [
            vms("web-1", "web-2", "db-1"),
            *prepare(*ATTACHED),
            files(vm__yaml=VM_MANIFEST),
            "doctor",
            "doctor vm/web-1",
            "doctor -f vm.yaml -o wide",
            "doctor --preflight restart web-1 db-1",
            "doctor --preflight migrate -l app=web",
            "doctor --preflight delete web-1 -o yaml",
            "doctor --explain YOSHI-0001",
            delete("web-2"),
            pin_unrecorded,
            hours(1),
            Run("doctor", note="with findings"),
            "doctor -A -o short",
            "doctor --network blue --fail-on never -o json",
            deny(("list", "virtualmachineinstances.kubevirt.io"), ("list", "nodes"), ("get", CRDS)),
            Run("doctor -o short", note="without permissions"),
            Run("doctor --preflight restart web-1", note="without permissions"),
        ],
    ),
    Scenario(
        "reserve and release",
        [
            *prepare(BLUE, BIG),
            "ips reserve blue 10.20.0.50 --note printer --dry-run=client",
            "diff ips reserve blue 10.20.0.50 --note printer",
            "ips reserve blue 10.20.0.50 --note printer",
            Run("ips reserve blue 10.20.0.50 --note printer", note="again"),
            "ips reserve blue 10.20.0.50 --note scanner",
            "ips reserve blue --count 3",
            "ips reserve big 10.133.17.7 10.133.19.8",
            "ips reserve big --count 2 --dry-run=server",
            "ips reserve blue 10.20.0.1",
            "ips reserve blue 10.99.0.1",
            "ips reserve blue --count 300",
            "ips reserve blue --count 250",
            "ips release blue 10.20.0.50 --dry-run=client",
            "diff ips release blue 10.20.0.50",
            "ips release blue 10.20.0.50 --dry-run=server",
            "ips release blue 10.20.0.50",
            Run("ips release blue 10.20.0.50", note="again"),
            "ips release big 10.133.17.7 10.133.19.8",
            "ips release blue 10.99.0.1",
        ],
    ),
    Scenario(
        "deleted VMs",
        [
            vms("web-1", "web-2", "db-1", **RUNS),
            *prepare(BLUE, "vm attach web-1 web-2 db-1 --network blue --restart"),
            leave_instance,
            delete("db-1"),
            "ips check",
            "ips release blue 10.20.0.2",
            "ips release blue 10.20.0.3",
            "ips gc --yes",
            "ips gc",
            hours(1),
            Run("ips check", note="an hour later"),
            "ips gc -A --dry-run=client",
            "ips gc --dry-run=server",
            "diff ips gc",
            Run("ips gc", note="confirmed on the terminal", stdin="y\n", terminal=True),
            Run("ips gc --network blue --grace 0s --yes", note="the instance still runs"),
            Run("ips list", note="afterwards"),
            Run("network describe blue", note="afterwards"),
        ],
    ),
    Scenario(
        "contradictions",
        [
            vms("web-1", "web-2", "db-1"),
            *prepare(*ATTACHED),
            pin_unrecorded,
            wrong_counter,
            "ips check",
            "ips list",
            "ips rebuild --dry-run=client",
            "diff ips rebuild",
            "ips rebuild --yes",
            Run("ips check", note="after the rebuild"),
            remove_pin,
            Run("ips check", note="without the pin"),
            "sync",
        ],
    ),
    Scenario(
        "lost allocations",
        [
            vms("web-1", "web-2", "db-1"),
            vms("runs", **RUNS),
            *prepare(*ATTACHED, BIG, "vm attach runs --network big --restart"),
            lose_allocations,
            "vm attach web-1 --network blue",
            "ips check",
            "ips rebuild -A --dry-run=client",
            "ips rebuild -A",
            "ips rebuild --network blue --yes",
            "ips rebuild -A --yes",
            Run("ips rebuild -A --yes", note="again"),
            Run("ips check", note="afterwards"),
        ],
    ),
    Scenario(
        "import of running VMs",
        [
            *prepare(BLUE),
            start_with_addresses,
            "ips import --from vms --network blue --dry-run=client",
            "diff ips import --from vms",
            "ips import --from vms --network blue",
            Run("ips import --from vms", note="again"),
            "ips import --from vms -o json",
            "ips import --from vms -A --dry-run=client",
        ],
    ),
    Scenario(
        "import from Calico and Services",
        [
            *prepare(BLUE, "network create internet --plugin public --announce metallb-l2 --cidr 203.0.113.0/28"),
            kept_by_calico,
            foreign_service,
            "ips import --from calico --dry-run=client",
            "ips import --from calico",
            "ips import --from services --dry-run=server",
            "ips import --from services",
            "ips list -A",
            "ips move 203.0.113.3 --to web-1",
        ],
    ),
    Scenario(
        "import of a file",
        [
            *prepare(BLUE),
            vms("web-1", "web-2", "web-3"),
            files(ports__csv=CSV, openstack__csv=OPENSTACK, broken__csv="name\nweb-1\n"),
            "ips import -f ports.csv --network blue --dry-run=client",
            "ips import -f broken.csv --network blue",
            "ips import -f missing.csv",
            "ips import",
            "ips import -f ports.csv --network blue",
            Run("ips import -f openstack.csv -o wide", note="again, from OpenStack"),
            Run("ips import -f - --no-headers", stdin=f"{HEADER}web-3,10.20.0.33\n"),
        ],
    ),
]
