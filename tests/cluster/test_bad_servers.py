"""Flags and clusters that are bad, and faults in the middle of a command.

flags                        contexts, users and credentials that are not there; a server that cannot be reached
permissions                  that a user does not have
faults in the middle         of a write: all of it or nothing of it, and the same command again completes it

Clusters without CRDs: test_missing_crds.py. Kubeconfigs and servers that are bad by themselves:
tests/unit/kube/test_bad_servers.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.pki import make_authority
from lab.testing import Cluster
from tests.cluster.bad_scene import Scene, check_message, scene
from tests.cluster.harness import ForkServer, Run, Yoshi
from tests.cluster.scripted_fault_proxy import (
    Rule,
    ScriptedFaultProxy,
    blackhole_port,
    open_fault_proxy,
    write_kubeconfig,
)
from tests.unit.kube.fault_server import cuts, cuts_within, hangs, refuses, says

LONGEST_SECONDS = 25.0
"""Within this an unreachable server is given up: half of it is for a busy machine, and an answer is waited for 30 s."""

LIST = ("ips", "list")
CHECK_URL = "Check the server's URL in the kubeconfig, and any proxy or VPN between."


@pytest.fixture(scope="module")
def here(installed: Cluster, forks: ForkServer) -> Iterator[Scene]:
    with scene(installed, forks) as found:
        yield found


@pytest.fixture
def untouched(here: Scene) -> Iterator[None]:
    before = here.snapshot()
    yield
    assert here.snapshot() == before


# -- flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "trouble", "way_out"),
    [
        ("--context={context}x", 'the kubeconfig has no context "{context}x"', 'Did you mean "{context}"?'),
        ("--cluster=none-such", 'the kubeconfig has no cluster "none-such"', "It has: "),
        ("--user=none-such", 'the kubeconfig has no user "none-such"', "It has: "),
        ("--token=wrong", "does not accept these credentials", "Log in again"),
        ("--as-group=admins", "--as-group and --as-uid need --as", "--as USER"),
        ("--tls-server-name=other.example", "is not trusted: ", "--tls-server-name"),
        ("--server=https://no-such-host.invalid:6443", "no-such-host.invalid:6443: ", "can be reached from here"),
        ("--server=https://127.0.0.1:70000", '"https://127.0.0.1:70000" is not a URL', "https://10.0.0.1:6443"),
    ],
)
def test_connection_flag_with_a_wrong_value_is_reported(
    here: Scene, flag: str, trouble: str, way_out: str, untouched: None
) -> None:
    context = here.cluster.context
    for words in (LIST, ("vm", "attach", "web-2", "--network", "blue")):
        ran = here.yoshi.run(flag.replace("{context}", context), *words)
        check_message(ran, 1, trouble.replace("{context}", context), way_out.replace("{context}", context))
        assert ran.seconds < LONGEST_SECONDS


def test_untrusted_server_certificate_is_reported(here: Scene, tmp_path: Path, untouched: None) -> None:
    other_authority = make_authority(tmp_path, "unknown")
    ran = here.yoshi.run(f"--certificate-authority={other_authority.file}", *LIST)
    check_message(ran, 1, "the certificate of the API server https://", "is not trusted", "Check certificate-authority")


# -- servers ---------------------------------------------------------------------------------------------------------


def test_unreachable_server_is_reported_within_the_timeout(forks: ForkServer, tmp_path: Path) -> None:
    """In real time; with others than such a server: tests/unit/kube/test_bad_servers.py."""
    with blackhole_port() as number:
        server = f"https://127.0.0.1:{number}"
        words = (f"--kubeconfig={write_kubeconfig(tmp_path / 'config', server)}", *LIST)
        ran = forks.run([(Run(words), words)])[0]
    check_message(ran, 1, server, "no answer in time", "can be reached from here")
    assert ran.seconds < LONGEST_SECONDS


HTML = "<html><head><title>Sign in to ACME</title></head><body>…</body></html>"


# -- clusters without something --------------------------------------------------------------------------------------

ROLE = "the ClusterRole yoshi-user"


@pytest.mark.parametrize(
    ("words", "trouble", "way_out"),
    [
        ("network list", 'User "nobody" may not list networkwizards.plumber.k8s.pf9.io in namespace {here}', ROLE),
        ("network describe blue", "may not get networkwizards.plumber.k8s.pf9.io in namespace {here}", ROLE),
        ("network create red --cidr 10.98.0.0/24", "may not get networkwizards.plumber.k8s.pf9.io", ROLE),
        ("network delete six", "may not get networkwizards.plumber.k8s.pf9.io", ROLE),
        ("vm attach web-2 --network blue", 'network "blue" in namespace "{here}" cannot be read: may not get', ROLE),
        ("vm detach web-1 --network blue", 'network "blue" in namespace "{here}" cannot be read: may not get', ROLE),
        ("vm list", "may not list virtualmachines.kubevirt.io in namespace {here}", ROLE),
        ("ips list", "networks cannot be listed: may not list networkwizards", ROLE),
        ("ips show 10.97.0.10", "networks cannot be listed: may not list networkwizards", ROLE),
        ("ips check", "networks cannot be listed: may not list networkwizards", ROLE),
        ("ips reserve blue", "cannot be read: may not get networkwizards", ROLE),
        ("ips gc --yes", "networks cannot be listed: may not list networkwizards", "-n"),
        ("install", "may not get customresourcedefinitions.apiextensions.k8s.io", "administrator of the cluster"),
        ("uninstall --force --yes", "may not ", "administrator of the cluster"),
    ],
)
def test_missing_permission_of_a_user_is_named(
    here: Scene, words: str, trouble: str, way_out: str, untouched: None
) -> None:
    ran = here.yoshi.run("--as=nobody", *words.split())
    check_message(ran, 3 if words == "ips check" else 1, here.words(trouble), way_out)


# -- faults in the middle --------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(here: Scene) -> Iterator[ScriptedFaultProxy]:
    with open_fault_proxy(here.cluster) as found:
        yield found


@pytest.fixture
def through(here: Scene, proxy: ScriptedFaultProxy, tmp_path: Path) -> Iterator[Yoshi]:
    """The program, by the faulty way; what it attached is detached at the end."""
    file = write_kubeconfig(tmp_path / "config", proxy.url, namespace=here.here)
    yield Yoshi(file, "it", here.yoshi.server, here.here)
    here.yoshi.done("vm", "detach", "web-2", "--network", "blue")
    assert here.records() == {"10.97.0.10": "web-1", "10.97.0.11": "printer"}


RECORD = {"method": "PATCH", "path": "/networkwizards/blue/status"}
ON_VM = {"method": "PATCH", "path": "/virtualmachines/web-2"}
ATTACH = ("vm", "attach", "web-2", "--network", "blue")
FREE = "10.97.0.12"


def test_fault_proxy_without_rules_is_transparent(here: Scene, through: Yoshi) -> None:
    assert FREE in through.done(*ATTACH)


@pytest.mark.parametrize(
    ("rule", "trouble", "way_out"),
    [
        (Rule(refuses(500, "InternalError", "boom"), **RECORD), "HTTP 500: boom", "again later"),
        (Rule(refuses(500, "InternalError", "boom"), **ON_VM), "HTTP 500: boom", "again later"),
        (Rule(refuses(429, "TooManyRequests", "busy", Retry_After="3600"), **RECORD), "is overloaded", "again later"),
        (Rule(refuses(403, "Forbidden", "no"), **ON_VM), "no", ""),
        (Rule(refuses(401, "Unauthorized", "Unauthorized"), **ON_VM), "does not accept", "Log in again"),
        (Rule(refuses(403, "Forbidden", 'admission webhook "w" denied the request: no pins'), **ON_VM), "no pins", ""),
        (Rule(cuts, path="/networkwizards/blue"), "ended the connection", "can be reached from here"),
        (Rule(cuts_within, path="/virtualmachines/web-2"), "ended the connection", "can be reached from here"),
        (Rule(says(200, HTML), path="/virtualmachines/web-2"), "Sign in to ACME", CHECK_URL),
    ],
    ids=["500-record", "500-vm", "429-record", "403-vm", "401-vm", "webhook-vm", "cuts", "cuts-within", "html"],
)
def test_failed_write_leaves_nothing_behind(
    here: Scene, proxy: ScriptedFaultProxy, through: Yoshi, rule: Rule, trouble: str, way_out: str
) -> None:
    proxy.rules = [rule]
    check_message(through.run(*ATTACH), 1, trouble, way_out)
    assert FREE not in here.records()
    assert here.pin_of("web-2") == ""


@pytest.mark.parametrize(
    "rule",
    [
        Rule(cuts, **RECORD, times=1, done=True),
        Rule(cuts_within, **RECORD, times=1, done=True),
        Rule(says(200, HTML), **RECORD, times=1, done=True),
        Rule(cuts, **RECORD, times=1),
        Rule(cuts, **ON_VM, times=1, done=True),
        Rule(cuts_within, **ON_VM, times=1, done=True),
        Rule(cuts, **ON_VM, times=1),
        Rule(hangs(15), **ON_VM, times=1, done=True),
        Rule(refuses(429, "TooManyRequests", "busy", Retry_After="1"), **RECORD, times=1),
        Rule(refuses(429, "TooManyRequests", "busy", Retry_After="1"), times=2),
        Rule(refuses(503, "ServiceUnavailable", "wait", Retry_After="1"), method="GET", times=1),
        Rule(cuts, method="GET", times=1),
        Rule(cuts_within, path="/virtualmachines/web-2", method="GET", times=1),
    ],
    ids=[
        "record-done-cut", "record-done-cut-within", "record-done-html", "record-cut", "vm-done-cut",
        "vm-done-cut-within", "vm-cut", "vm-done-hangs", "record-429", "all-429", "get-503", "get-cut", "vm-get-cut",
    ],
)  # fmt: skip
def test_transient_fault_is_retried(here: Scene, proxy: ScriptedFaultProxy, through: Yoshi, rule: Rule) -> None:
    proxy.rules = [rule]
    assert FREE in through.done("--request-timeout=5s", *ATTACH)
    assert here.records() == {"10.97.0.10": "web-1", "10.97.0.11": "printer", FREE: "web-2"}
    assert here.pin_of("web-2") == f'["{FREE}"]'


def test_refused_writes_are_retried_a_limited_number_of_times(
    here: Scene, proxy: ScriptedFaultProxy, through: Yoshi
) -> None:
    proxy.rules = [Rule(refuses(500, "InternalError", "boom"), **ON_VM)]
    check_message(through.run(*ATTACH), 1, "boom", "again later")
    assert sum(asked.startswith("PATCH") and ON_VM["path"] in asked for asked in proxy.asked) < 10


def test_attach_interrupted_by_a_server_failure_is_completed_by_a_second_run(
    here: Scene, proxy: ScriptedFaultProxy, through: Yoshi
) -> None:
    proxy.rules = [Rule(cuts, method="PATCH", skip=1), Rule(cuts, method="GET", skip=len_reads(through, proxy))]
    ran = through.run(*ATTACH)
    check_message(ran, 1, "before it had answered", "")
    assert here.records().get(FREE) == "web-2"
    assert here.pin_of("web-2") == ""
    proxy.rules = []
    assert FREE in through.done(*ATTACH)
    assert here.pin_of("web-2") == f'["{FREE}"]'


def len_reads(through: Yoshi, proxy: ScriptedFaultProxy) -> int:
    """How many reads an attachment makes before its first write."""
    proxy.asked.clear()
    through.done(*ATTACH, "--dry-run")
    return len(proxy.asked)


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        (Rule(refuses(500, "InternalError", "boom"), method="POST", path="/ippools"), False),
        (Rule(cuts, method="POST", path="/ippools", times=1, done=True), True),
        (Rule(cuts, method="POST", path="/networkwizards", times=1, done=True), True),
        (Rule(refuses(500, "InternalError", "boom"), method="POST", path="/networkwizards"), False),
        (Rule(refuses(500, "InternalError", "boom"), method="PATCH", path="/status"), False),
    ],
    ids=["pool-500", "pool-done-cut", "network-done-cut", "network-500", "status-500"],
)
def test_network_create_is_all_or_nothing(
    here: Scene, proxy: ScriptedFaultProxy, through: Yoshi, rule: Rule, made: bool
) -> None:
    before = here.snapshot()
    proxy.rules = [rule]
    ran = through.run("network", "create", "red", "--cidr", "10.98.0.0/24")
    if made:
        assert ran.code == 0, str(ran)
        here.yoshi.done("network", "delete", "red")
    else:
        check_message(ran, 1, "boom", "again later")
    assert here.snapshot() == before
