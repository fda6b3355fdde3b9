"""Many addresses and many VMs on the real API server, the program run as real processes.

    one view                   blocks made when first needed, kept for their history; every list shows one network
choosing                   the lowest free address; writers that meet spread; what is full is found so once
hundreds by one command    one patch per block, VMs side by side, a bar on a terminal only, a line per failure
Ctrl-C in the middle       the same command finishes what it left
a server that is busy      a share of API priority and fairness, however small, is kept to
how large                  full objects are far from etcd's limit; what etcd refuses is reported
how long lists are read    in pages
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubectl_yoshi.engine.apply import MAX_PARALLEL
from kubectl_yoshi.kube.client import PAGE_SIZE
from kubectl_yoshi.model.allocations import SHARD_SIZE
from kubectl_yoshi.output.progress import REDRAW_SECONDS
from kubectl_yoshi.plan.attach.allocate import CONTENDED_SHARDS
from lab.testing import Cluster
from tests.bench.scene import Scene
from tests.cluster.checker import check
from tests.cluster.harness import CommandResult, Yoshi, ensure, get, make, make_vms, wait_for_role
from tests.cluster.killing import ProxiedProgram
from tests.cluster.public_scene import METALLB
from tests.cluster.request_gate import RequestGate
from tests.cluster.scripted_fault_proxy import Rule, ScriptedFaultProxy
from tests.cluster.terminal import Terminal
from tests.unit.kube.fault_server import refuses

Cidrs = Callable[[int], str]
Json = dict[str, Any]

BLOCK = 256
MANY = 300
LONGEST_NETWORK = "n" * 180
PATIENCE_SECONDS = 120
NOT_NOW = refuses(429, "TooManyRequests", "too many requests", Retry_After="1")


@pytest.fixture
def scene(installed: Cluster) -> Scene:
    return Scene(installed.kubeconfig, installed.context)


def blocks(cluster: Cluster, namespace: str) -> dict[str, Json]:
    """First address -> AddressBlock."""
    found = get(cluster, "addressblocks", namespace=namespace)["items"]
    return {block["spec"]["first"]: block for block in found}


def records(block: Json) -> Json:
    return block.get("status", {}).get("allocations", {})  # type: ignore[no-any-return]


def attached(cluster: Cluster, namespace: str) -> dict[str, str]:
    """VM -> the address on its template."""
    found = {}
    for vm in get(cluster, "virtualmachines", namespace=namespace)["items"]:
        annotations = vm["spec"]["template"].get("metadata", {}).get("annotations", {})
        if pin := annotations.get("cni.projectcalico.org/ipAddrs"):
            (found[vm["metadata"]["name"]],) = json.loads(pin)
    return found


def writes(proxy: ScriptedFaultProxy, what: str) -> list[str]:
    return [line for line in proxy.asked if line.startswith("PATCH ") and f"/{what}/" in line]


# -- one view --------------------------------------------------------------------------------------------------------


def test_address_blocks_are_created_on_demand_and_kept_for_their_history(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs
) -> None:
    network = cidr(20)
    yoshi.done("network", "create", "big", "--cidr", network)
    assert blocks(installed, yoshi.namespace) == {}
    base = network.split(".0/")[0].rpartition(".")
    ask = [f"{base[0]}.{int(base[2]) + place}.7" for place in (1, 9)]
    for place, address in enumerate(ask):
        yoshi.done("ips", "reserve", "big", address)
        assert len(blocks(installed, yoshi.namespace)) == place + 1
    told = yoshi.done("ips", "list", "--network", "big")
    assert [line.split()[0] for line in told.splitlines()[1:]] == ask
    for listed in (("network", "list"), ("network", "list", f"{yoshi.namespace}/big", "-n", "default")):
        assert re.search(r"^big +calico +\S+ +True +4094 +2 +4092 +1 ", yoshi.done(*listed), re.MULTILINE)
    assert "nothing to collect" in yoshi.done("ips", "gc", "--network", "big", "--yes")
    shown = installed.kubectl("get", "networkwizard", "big", "-n", yoshi.namespace)
    assert re.search(r"^big +calico +\S+ +True +4094 +2 +4092 +1 ", shown, re.MULTILINE)
    described = yoshi.done("network", "describe", "big")
    assert re.search(r"^Kept In: +2 address blocks$", described, re.MULTILINE)
    assert re.search(r"^Used: +2$", described, re.MULTILINE)
    free = yoshi.done("ips", "list", "--network", "big", "--free", "--no-headers")
    assert sum(int(line.split()[-1]) for line in free.splitlines()) == 4092
    assert "big" in yoshi.done("ips", "show", ask[1])
    for place, address in enumerate(ask):
        yoshi.done("ips", "release", "big", address)
        left = blocks(installed, yoshi.namespace).values()
        assert sum(len(records(block)) for block in left) == 1 - place
    assert len(blocks(installed, yoshi.namespace)) == 2
    check(installed, yoshi.namespace, settled=True)


# -- choosing --------------------------------------------------------------------------------------------------------


def test_lowest_free_addresses_are_assigned_and_contending_writers_spread(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs
) -> None:
    network = cidr(16)
    yoshi.done("network", "create", "big", "--cidr", network)
    names = [f"web-{number:02}" for number in range(15)]
    make_vms(installed, yoshi.namespace, *names)
    for name in names[:3]:
        yoshi.done("vm", "attach", name, "--network", "big")
    first = network.removesuffix(".0/16")
    assert attached(installed, yoshi.namespace) == {name: f"{first}.{at}" for at, name in enumerate(names[:3], 1)}
    assert "searchFrom" not in get(installed, "networkwizard", "big", namespace=yoshi.namespace)["status"]
    rans = yoshi.together(*(("vm", "attach", name, "--network", "big") for name in names[3:]))
    assert [ran.code for ran in rans] == [0] * 12, list(map(str, rans))
    assert len(set(attached(installed, yoshi.namespace).values())) == 15
    assert len(blocks(installed, yoshi.namespace)) <= CONTENDED_SHARDS
    check(installed, yoshi.namespace, settled=True)


def test_search_start_is_updated_on_a_full_block_and_on_release(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    network = cidr(16)
    first = network.removesuffix(".0.0/16")
    yoshi.done("network", "create", "big", "--cidr", network)
    scene.reserve(scene.found(yoshi.namespace, "big"), 2 * BLOCK - 1)
    make_vms(installed, yoshi.namespace, "web-0", "web-1", "web-2")

    def begins() -> str:
        status = get(installed, "networkwizard", "big", namespace=yoshi.namespace)["status"]
        return str(status["searchFrom"])

    yoshi.done("vm", "attach", "web-0", "--network", "big")
    assert begins() == f"{first}.2.0"
    yoshi.done("ips", "release", "big", f"{first}.0.9")
    assert begins() == f"{first}.0.0"
    yoshi.done("vm", "attach", "web-1", "--network", "big")
    yoshi.done("vm", "attach", "web-2", "--network", "big")
    assert attached(installed, yoshi.namespace) == {
        "web-0": f"{first}.2.1", "web-1": f"{first}.0.9", "web-2": f"{first}.2.2"
    }  # fmt: skip
    assert begins() == f"{first}.2.0"
    check(installed, yoshi.namespace, settled=True)


def test_attach_reads_few_of_many_full_blocks(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    """All but the last of 16 blocks are full: a walk from block to block would read eight of them, on average."""
    proxy, behind = proxied.proxy, proxied.yoshi
    network = cidr(20)
    yoshi.done("network", "create", "big", "--cidr", network)
    scene.reserve(scene.found(yoshi.namespace, "big"), 15 * BLOCK - 1)
    make_vms(installed, yoshi.namespace, "web-0", "web-1", "web-2", "web-3")
    for name in ("web-0", "web-1", "web-2", "web-3"):
        proxy.asked.clear()
        behind.done("vm", "attach", name, "--network", "big")
        opened = Counter(line for line in proxy.asked if re.match(r"GET \S+/addressblocks/", line))
        assert len(opened) <= 2, opened
    assert len(records(blocks(installed, yoshi.namespace)[last_block(network)])) == 4
    check(installed, yoshi.namespace, settled=True)


def last_block(network: str) -> str:
    head, third = network.split(".0/")[0].rsplit(".", 1)
    return f"{head}.{int(third) + 15}.0"


def test_full_network_is_detected_without_reading_a_block_twice(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    proxy, behind = proxied.proxy, proxied.yoshi
    yoshi.done("network", "create", "big", "--cidr", cidr(22))
    scene.reserve(scene.found(yoshi.namespace, "big"), 4 * BLOCK - 2)
    make_vms(installed, yoshi.namespace, "web")
    proxy.asked.clear()
    assert "is full" in behind.refused("vm", "attach", "web", "--network", "big")
    opened = Counter(line for line in proxy.asked if re.match(r"GET \S+/addressblocks/", line))
    assert set(opened.values()) == {1}, opened
    assert attached(installed, yoshi.namespace) == {}


# -- hundreds by one command -----------------------------------------------------------------------------------------


def test_attach_of_hundreds_of_vms_by_one_command(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    proxy, behind = proxied.proxy, proxied.yoshi
    yoshi.done("network", "create", "big", "--cidr", cidr(16))
    scene.vms(yoshi.namespace, (f"db-{number:03}" for number in range(MANY)), group="db")
    scene.vms(yoshi.namespace, ["web"], group="web")
    ran = behind.run("vm", "attach", "-l", "group=db", "--network", "big")
    assert ran.code == 0, str(ran)
    assert "[" not in ran.err, "a bar of progress in a pipe"
    told = dict(re.findall(r"^virtualmachine.kubevirt.io/(\S+) attached to big: (\S+)$", ran.out, re.MULTILINE))
    assert told == attached(installed, yoshi.namespace)
    assert len(set(told.values())) == MANY
    used = blocks(installed, yoshi.namespace)
    rest, most = sorted(len(records(block)) for block in used.values())
    assert rest + most == MANY
    assert most >= BLOCK - 1, "the first block has the network's own address, the last one the broadcast address"
    assert len(writes(proxy, "addressblocks")) == len(used), "one patch per block"
    assert len(writes(proxy, "virtualmachines")) == MANY
    assert 2 <= proxy.most <= MAX_PARALLEL, "side by side, and bounded"
    again = behind.done("vm", "attach", "-l", "group=db", "--network", "big")
    assert again.count("(unchanged)") == MANY
    check(installed, yoshi.namespace, settled=True)

    proxy.asked.clear()
    behind.done("vm", "detach", "-l", "group=db", "--network", "big")
    assert len(writes(proxy, "virtualmachines")) == MANY
    assert attached(installed, yoshi.namespace) == {}
    assert all(not records(block) for block in blocks(installed, yoshi.namespace).values())
    check(installed, yoshi.namespace, settled=True)


def test_each_failed_vm_has_an_error_line_and_the_others_are_attached(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    proxy, behind = proxied.proxy, proxied.yoshi
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    names = [f"db-{number:02}" for number in range(40)]
    scene.vms(yoshi.namespace, names, group="db")
    no = refuses(403, "Forbidden", 'admission webhook "policy" denied the request: not this one')
    proxy.rules = [Rule(no, "PATCH", f"/virtualmachines/{name}?") for name in ("db-07", "db-21")]
    ran = behind.run("vm", "attach", "-l", "group=db", "--network", "big")
    assert ran.code == 1, str(ran)
    lines = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1].strip() for line in lines[:2]] == [f"{yoshi.namespace}/db-{n}" for n in ("07", "21")]
    assert lines[2:] == ["error: 2 of 40 VMs failed"]
    assert ran.out.count(" attached to big: ") == 38
    assert set(attached(installed, yoshi.namespace)) == set(names) - {"db-07", "db-21"}
    check(installed, yoshi.namespace, settled=True)
    proxy.rules = []
    assert behind.done("vm", "attach", "-l", "group=db", "--network", "big").count("(unchanged)") == 38
    check(installed, yoshi.namespace, settled=True)


def test_progress_bar_on_a_terminal(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene, tmp_path: Path
) -> None:
    """Half of the VMs are done when the others have to wait for a while, so that it is seen in the middle."""
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    scene.vms(yoshi.namespace, (f"db-{number:03}" for number in range(80)), group="db")
    proxied.proxy.gate = gate = RequestGate(40, "PATCH", "/virtualmachines/")

    def open_later() -> None:
        if gate.is_reached(PATIENCE_SECONDS):
            time.sleep(10 * REDRAW_SECONDS)
            gate.open()

    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PS1": "$ ", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    words = " ".join(proxied.yoshi.program("vm", "attach", "-l", "group=db", "--network", "big"))
    with (
        Terminal(["bash", "--norc", "--noprofile", "-i"], environment, tmp_path) as shell,
        ThreadPoolExecutor(1) as beside,
    ):
        beside.submit(open_later)
        told = shell.run(f"{words} >/dev/null")
    assert re.search(r"attaching \[-{20}\] 0/80", told)
    assert re.search(r"attaching \[#{1,19}-{1,19}\] \d+/80 ", told)
    assert "80/80" in told
    assert len(attached(installed, yoshi.namespace)) == 80


# -- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_command_interrupted_by_ctrl_c_is_completed_by_a_second_run(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene, verb: str
) -> None:
    count = 120
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    scene.vms(yoshi.namespace, (f"db-{number:03}" for number in range(count)), group="db")
    command = ("vm", verb, "-l", "group=db", "--network", "big")
    if verb == "detach":
        yoshi.done("vm", "attach", "-l", "group=db", "--network", "big")
    ran = interrupted(proxied, command)
    assert ran.code == 130, str(ran)
    assert ran.err.splitlines()[-1].startswith("error: interrupted"), str(ran)
    assert "run the same command again" in ran.err
    assert 0 < len(attached(installed, yoshi.namespace)) < count
    check(installed, yoshi.namespace)

    yoshi.done(*command)
    assert len(attached(installed, yoshi.namespace)) == (count if verb == "attach" else 0)
    check(installed, yoshi.namespace, settled=True)
    assert yoshi.done("ips", "gc", "--grace", "0s", "--yes") == "nothing to collect\n"


def interrupted(proxied: ProxiedProgram, command: tuple[str, ...]) -> CommandResult:
    """The command in an interpreter of its own, which gets SIGINT when some VMs are done and others under way.

    Those under way wait before the server until then, so that it is in the middle of its work.
    """
    gate = RequestGate(20, "PATCH", "/virtualmachines/")
    with proxied.held(gate, *command) as process:
        assert process.poll() is None, "it has ended before it was interrupted"
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            time.sleep(1)  # for a thread to be told of the signal
            gate.release_waiting()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return CommandResult(command, process.returncode, out, err, 0.0)


# -- a server that is busy -------------------------------------------------------------------------------------------


def test_throttled_requests_are_retried(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    proxy, behind = proxied.proxy, proxied.yoshi
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    scene.vms(yoshi.namespace, (f"db-{number:02}" for number in range(30)), group="db")
    proxy.rules = [
        Rule(NOT_NOW, "GET", "/virtualmachines", times=1),
        Rule(NOT_NOW, "PATCH", "/addressblocks/", times=1),
        Rule(NOT_NOW, "PATCH", "/virtualmachines/", times=5, skip=3),
    ]
    start = time.monotonic()
    ran = behind.run("vm", "attach", "-l", "group=db", "--network", "big")
    assert ran.code == 0, str(ran)
    assert time.monotonic() - start >= 3, "Retry-After was 1 s, three times one after the other"
    assert len(attached(installed, yoshi.namespace)) == 30
    check(installed, yoshi.namespace, settled=True)


@contextmanager
def one_request_at_a_time(cluster: Cluster, user: str) -> Iterator[None]:
    """API priority and fairness takes one request of that user at a time and answers 429 to the others."""
    name = user.rpartition(":")[2]
    flow = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "metadata": {"name": name}}
    limited = {
        "nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }  # fmt: skip
    every: Json = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    rule = {
        "subjects": [{"kind": "User", "user": {"name": user}}],
        "resourceRules": [every],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    schema = {"matchingPrecedence": 100, "priorityLevelConfiguration": {"name": name}, "rules": [rule]}
    make(
        cluster,
        {**flow, "kind": "PriorityLevelConfiguration", "spec": {"type": "Limited", "limited": limited}},
        {**flow, "kind": "FlowSchema", "spec": schema},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        },
    )  # fmt: skip
    try:
        yield
    finally:
        for kind in ("flowschema", "prioritylevelconfiguration", "clusterrolebinding"):
            cluster.kubectl("delete", kind, name, "--wait=false")


def refused_by_fairness(cluster: Cluster, level: str) -> int:
    text = cluster.kubectl("get", "--raw", "/metrics")
    found = re.findall(
        rf'^apiserver_flowcontrol_rejected_requests_total{{.*priority_level="{level}".*}} (\S+)$', text, re.MULTILINE
    )
    return sum(int(float(count)) for count in found)


def test_concurrency_adapts_to_priority_and_fairness_limits(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    """The API server itself refuses: soon no more is asked for at once than it takes.

    With a limiter each accepted request is refused at most once, however the threads run; without one, as often as
    there are other requests.
    """
    count = 120
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    scene.vms(yoshi.namespace, (f"db-{number:03}" for number in range(count)), group="db")
    user = f"slow:{yoshi.namespace}"
    with one_request_at_a_time(installed, user):
        wait_for_role(installed, user, yoshi.namespace)
        ran = yoshi.run(f"--as={user}", "vm", "attach", "-l", "group=db", "--network", "big")
        refused = refused_by_fairness(installed, yoshi.namespace)
    assert ran.code == 0, str(ran)
    assert 0 < refused < 2 * count, "it does not hold itself back"
    assert len(attached(installed, yoshi.namespace)) == count
    check(installed, yoshi.namespace, settled=True)


# -- how large -------------------------------------------------------------------------------------------------------


def fill(cluster: Cluster, namespace: str, name: str, count: int, file: Path) -> None:
    """Writes records of VMs with the longest names that there can be into a network's own status."""
    held = {
        f"203.0.{number // 250}.{number % 250 + 1}": {
            "kind": "VirtualMachine", "namespace": namespace, "name": f"{number:04}-{'v' * 240}",
            "uid": f"00000000-0000-4000-8000-{number:012}", "since": "2026-01-01T00:00:00.000000Z",
        }
        for number in range(count)
    }  # fmt: skip
    file.write_text(json.dumps({"status": {"allocations": held}}))
    where = (f"--namespace={namespace}", "--subresource=status", "--type=merge", f"--patch-file={file}")
    cluster.kubectl("patch", "networkwizard", name, *where)


def size(obj: Json) -> int:
    return len(json.dumps(obj, separators=(",", ":")))


def test_full_network_without_a_cidr_is_far_below_the_etcd_limit(
    yoshi: Yoshi, installed: Cluster, tmp_path: Path
) -> None:
    """It keeps whatever it holds in its own status."""
    ensure(installed, METALLB)
    yoshi.done("network", "create", "open", "--plugin", "public")
    fill(installed, yoshi.namespace, "open", SHARD_SIZE - 1, tmp_path / "patch.json")
    yoshi.done("ips", "reserve", "open", "198.51.100.1", "--note", "n" * 256)
    for flags in ((), ("--dry-run=client",), ("--dry-run=server",)):
        said = yoshi.refused("ips", "reserve", "open", "198.51.100.2", *flags)
        assert re.search(r"network \S+/open has no CIDR and can hold 256 addresses: 256 are recorded, and 1 more", said)
    network = get(installed, "networkwizard", "open", namespace=yoshi.namespace)
    assert len(network["status"]["allocations"]) == SHARD_SIZE
    assert size(network) < 1 << 18


def test_object_too_large_for_etcd_is_named_and_nothing_is_left(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, tmp_path: Path
) -> None:
    network_cidr = cidr(24)
    base = network_cidr.removesuffix("0/24")
    yoshi.done("network", "create", "blue", "--cidr", network_cidr)
    yoshi.done("ips", "reserve", "blue", f"{base}9")
    large = {f"10.133.1.{number}": [{"name": "v" * 5950, "until": "2026-01-01T00:00:00Z"}] for number in range(252)}
    (tmp_path / "history.json").write_text(json.dumps({"status": {"history": large}}))
    installed.kubectl(
        "patch", "networkwizard", "blue", f"--namespace={yoshi.namespace}", "--subresource=status", "--type=merge",
        f"--patch-file={tmp_path / 'history.json'}",
    )  # fmt: skip
    note = "n" * 256
    addresses = [f"{base}{number}" for number in range(10, 255)]
    said = yoshi.refused("ips", "reserve", "blue", *addresses, "--note", note)
    assert f"networkwizard/blue in namespace {yoshi.namespace} (status): the object would be too large (etcd" in said
    assert "use another network for more addresses" in said
    network = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)
    assert [*network["status"]["allocations"]] == [f"{base}9"]


def test_full_block_with_the_longest_names_is_far_below_the_etcd_limit(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs
) -> None:
    network = cidr(22)
    yoshi.done("network", "create", LONGEST_NETWORK, "--cidr", network)
    yoshi.done("ips", "reserve", LONGEST_NETWORK, "--count", "250", "--note", "z" * 250)
    blocks = get(installed, "addressblocks", namespace=yoshi.namespace)["items"]
    assert max(map(size, blocks)) < 150 << 10


# -- how long lists are read -----------------------------------------------------------------------------------------


def test_lists_are_read_in_pages(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Cidrs, scene: Scene
) -> None:
    proxy, behind = proxied.proxy, proxied.yoshi
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    count = PAGE_SIZE + 30
    scene.attached_vms(scene.found(yoshi.namespace, "big"), count)
    told = behind.done("ips", "list", "--network", "big", "--no-headers")
    assert len(told.splitlines()) == count
    assert {line.split()[2] for line in told.splitlines()} == {"Bound"}
    pages = [line for line in proxy.asked if "/virtualmachines?" in line]
    assert len(pages) == 2
    assert all(f"limit={PAGE_SIZE}" in line for line in pages)
    assert "continue=" in pages[1]
    lists = [line for line in proxy.asked if line.startswith("GET ") and line.endswith("s")]
    assert [line for line in lists if re.search(r"/namespaces/[^/]+/[a-z]+$", line)] == [], "a list without a limit"
    assert len(json.loads(behind.done("ips", "list", "-o", "json"))["items"]) == count
    check(installed, yoshi.namespace, settled=True)


def test_list_ends_when_its_reader_closes_the_pipe(yoshi: Yoshi, cidr: Cidrs, scene: Scene) -> None:
    yoshi.done("network", "create", "big", "--cidr", cidr(20))
    scene.reserve(scene.found(yoshi.namespace, "big"), 3 * PAGE_SIZE)
    process = subprocess.Popen(
        yoshi.program("ips", "list", "--network", "big"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith("ADDRESS")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(PATIENCE_SECONDS) in (0, 141)
