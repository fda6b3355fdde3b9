"""Bad input that only the cluster can detect: the message of each mistake, and that it changes nothing.

One row a mistake: the command line, its exit code, words that name the trouble, words that show the way out. Every
row is a process of its own on the real API server; a message has at most five lines and no traceback. Mistakes that are
reported before a request is sent: tests/unit/cli/test_usage_errors.py. Servers that are bad: test_bad_servers.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from lab.testing import Cluster
from tests.cluster.bad_scene import A_CIDR, AN_ADDRESS, ANOTHER, ATTACH, RED, Bad, Scene, check_message, rows, scene
from tests.cluster.harness import ForkServer

TABLE = [
    *rows(
        "cidr",
        ("network create red", 2, "a Calico network needs a cidr", "such as 10.133.0.0/16"),
        ("network create red --cidr ''", 2, '--cidr "" is not a network in CIDR notation', A_CIDR),
        ("network create red --cidr garbage", 2, '--cidr "garbage" is not a network', A_CIDR),
        ("network create red --cidr 10.98.0.0", 2, '--cidr "10.98.0.0" is not a network', A_CIDR),
        ("network create red --cidr 10.98.0.0/33", 2, '--cidr "10.98.0.0/33" is not a network', A_CIDR),
        ("network create red --cidr 10.98.0.256/24", 2, '--cidr "10.98.0.256/24" is not a network', A_CIDR),
        ("network create red --cidr fd00:::1/64", 2, '--cidr "fd00:::1/64" is not a network', A_CIDR),
        ("network create red --cidr fd00::/129", 2, '--cidr "fd00::/129" is not a network', A_CIDR),
        ("network create red --cidr 10.97.0.128/25", 1, "10.97.0.128/25 overlaps network {here}/blue", ANOTHER),
        ("network create red --cidr 10.97.4.0/23", 1, "overlaps network {there}/far (10.97.4.0/24)", ANOTHER),
        ("network create red --cidr 127.0.0.0/24", 1, "127.0.0.0/24 overlaps 127.0.0.0/8, loopback", ANOTHER),
        ("network create red --cidr 169.254.7.0/24", 1, "overlaps 169.254.0.0/16, link-local", ANOTHER),
        ("network create red --cidr 168.0.0.0/7", 1, "overlaps 169.254.0.0/16, link-local", ANOTHER),
        ("network create red --cidr 224.0.0.0/24", 1, "224.0.0.0/24 overlaps 224.0.0.0/4, multicast", ANOTHER),
        ("network create red --cidr fe80::/64", 1, "fe80::/64 overlaps fe80::/10, link-local", ANOTHER),
        ("network create red --cidr ::1/128", 1, "::1/128 overlaps ::1/128, loopback", ANOTHER),
    ),
    *rows(
        "range",
        (f"{RED} --range 10.98.0.20-10.98.0.10", 2, "ends before it starts", "Write it as 10.98.0.10-10.98.0.20."),
        (f"{RED} --range 10.99.0.1-10.99.0.9", 2, "range_start 10.99.0.1 is outside 10.98.0.0/24", "Choose an address"),
        (f"{RED} --range 10.98.0.9-10.99.0.9", 2, "range_end 10.99.0.9 is outside 10.98.0.0/24", "Choose an address"),
        (f"{RED} --range 10.98.0.1-fd00::1", 2, "mixes IPv4 and IPv6", "Give both ends in one address family."),
        (f"{RED} --range garbage", 2, '--range "garbage" is not an IP address', AN_ADDRESS),
        (f"{RED} --range 10.98.0.1-", 2, '--range "" is not an IP address', AN_ADDRESS),
        (f"{RED} --range 10.98.0.0-10.98.0.0", 2, "no address of 10.98.0.0/24 is left", "Widen the range"),
        (f"{RED} --exclude garbage", 2, 'exclude "garbage" is not an IP address', AN_ADDRESS),
        (f"{RED} --exclude 10.99.0.0/28", 2, 'exclude "10.99.0.0/28" is outside', "Exclude addresses of the network"),
        (f"{RED} --exclude 10.98.0.0/24", 2, "no address of 10.98.0.0/24 is left", "exclude fewer addresses"),
        (f"{RED} --exclude 10.98.0.9-10.98.0.1", 2, "ends before it starts", "Write it as 10.98.0.1-10.98.0.9."),
        (f"{RED} --gateway 10.99.0.1", 2, "gateway 10.99.0.1 is outside 10.98.0.0/24", "Choose an address"),
        (f"{RED} --gateway fd00::1", 2, "gateway fd00::1 is outside 10.98.0.0/24", "Choose an address"),
        (f"{RED} --gateway router", 2, 'gateway "router" is not an IP address', AN_ADDRESS),
    ),
    *rows(
        "settings of a network",
        (f"{RED} --peer 10.0.0.1 --my-asn 0", 2, '--my-asn "0" is not an ASN', "a number from 1 to 4294967295"),
        (f"{RED} --peer 10.0.0.1 --my-asn -1", 2, '--my-asn "-1" is not an ASN', "a number from 1 to 4294967295"),
        (f"{RED} --peer 10.0.0.1 --remote-asn 4294967296", 2, '"4294967296" is not an ASN', "from 1 to 4294967295"),
        (f"{RED} --peer 10.0.0.1 --remote-asn abc", 2, '--remote-asn "abc" is not an ASN', "from 1 to 4294967295"),
        (f"{RED} --peer 10.0.0.1,bogus=1", 2, '"bogus=1" is unknown', "[,passwordSecret=NAME]."),
        (f"{RED} --encapsulation Carrots", 2, 'encapsulation "Carrots" is unknown', "Choose one of VXLAN, "),
        (
            "network create red --cidr fd00:98::/64 --encapsulation IPIP",
            2,
            "IPIP does not support IPv6",
            "Choose VXLAN",
        ),
        (f"{RED} --block-size 8", 2, "a block size of 8 does not fit 10.98.0.0/24", "Choose one from 24 to 32"),
        (f"{RED} --live-migration --encapsulation VXLAN", 2, "without overlay and NAT", "Leave --encapsulation"),
    ),
    *rows(
        "name of a network",
        (
            "network create blue --cidr 10.98.0.0/24",
            1,
            "another cidr: 10.97.0.0/24 instead of 10.98.0.0/24",
            "delete it",
        ),
        ("network create leaving --cidr 10.97.5.0/24", 1, "network {here}/leaving is being deleted", "Wait until"),
        ("-n no-such network create red --cidr 10.98.0.0/24", 1, "there is no namespace no-such", "Check -n"),
    ),
    *rows(
        "network",
        (f"{ATTACH} no-such", 1, 'network "no-such" not found in namespace "{here}"', "network list`"),
        (f"{ATTACH} far", 1, 'network "far" not found in namespace "{here}"', "name a network of another namespace as"),
        (f"{ATTACH} no-such/blue", 1, 'network "blue" not found in namespace "no-such"', "network list`"),
        (f"{ATTACH} leaving", 1, "network {here}/leaving is being deleted", "create it again"),
        (
            f"{ATTACH} outside",
            2,
            'exclude "10.99.0.0/28" is outside 10.97.6.0/24',
            "kubectl edit networkwizard outside",
        ),
        (
            f"{ATTACH} full-of-holes",
            2,
            "no address of 10.97.7.0/24 is left",
            "kubectl edit networkwizard full-of-holes",
        ),
        (f"{ATTACH} no-plugin", 1, "network {here}/no-plugin has no plugin", "kubectl edit networkwizard no-plugin"),
        (
            f"{ATTACH} no-cidr --ip 10.97.8.8",
            1,
            "no-cidr has no cidr, and a Calico network needs one",
            "create it again",
        ),
        (
            "network list no-such",
            1,
            "networkwizard/no-such in namespace {here} not found",
            "kubectl get networkwizards",
        ),
        ("network delete no-such", 1, 'network "no-such" not found', "network list`"),
        ("network delete blue", 1, "blue is in use: 10.97.0.10 {here}/web-1, 10.97.0.11 reserved (printer)", "--force"),
        ("network delete blue --force", 2, "confirmation is required and stdin is not a terminal", "Add --yes"),
        ("ips list --network no-such", 1, 'network "no-such" not found', "network list`"),
        ("ips list --network outside", 2, 'network "outside": exclude', "kubectl edit networkwizard outside"),
        ("ips check --network no-such", 3, 'network "no-such" not found', "network list`"),
        ("doctor --network no-such", 3, 'network "no-such" not found', "network list`"),
        ("doctor vm/no-such", 3, 'VM "no-such" not found in namespace "{here}"', "choose the namespace"),
        ("ips gc --network no-such", 1, 'network "no-such" not found', "network list`"),
    ),
    *rows(
        "VM",
        ("vm attach no-such --network blue", 1, 'VM "no-such" not found in namespace "{here}"', "choose the namespace"),
        ("vm attach alien --network blue", 1, 'VM "alien" not found in namespace "{here}"', "choose the namespace"),
        ("vm attach going --network blue", 1, 'VM "going" in namespace "{here}" is being deleted', "Wait"),
        ("vm attach -l app=nothing --network blue", 1, 'no VM in namespace "{here}" has labels', "--show-labels"),
        (
            "vm attach -l 'app in (' --network blue",
            2,
            '"app in (" is not a label selector',
            "-l key1=value1,key2!=value2",
        ),
        ("vm list -l 'a b'", 2, '"a b" is not a label selector', "-l key1=value1,key2!=value2"),
        ("vm list no-such", 1, "virtualmachine/no-such in namespace {here} not found", "kubectl get virtualmachines"),
        ("vm detach no-such --network blue", 1, 'VM "no-such" not found', "choose the namespace"),
        ("vm detach web-1 --network no-such", 1, 'network "no-such" not found', "network list`"),
        ("vm attach web-1 --network six", 1, "VM {here}/web-1 already has 10.97.0.10 on network blue", "--replace"),
    ),
    *rows(
        "address",
        (f"{ATTACH} blue --ip 10.99.0.1", 1, "it is outside 10.97.0.0/24", "Leave out --ip for any free address"),
        (f"{ATTACH} blue --ip fd00:97::5", 1, "it is outside 10.97.0.0/24", "Leave out --ip for any free address"),
        (f"{ATTACH} six --ip 10.97.0.20", 1, "it is outside fd00:97::/64", "Leave out --ip for any free address"),
        (f"{ATTACH} blue --ip 10.97.0.0", 1, "it is the network or broadcast address", "Leave out --ip"),
        (f"{ATTACH} blue --ip 10.97.0.255", 1, "it is the network or broadcast address", "Leave out --ip"),
        (
            f"{ATTACH} blue --ip 10.97.0.1",
            1,
            "10.97.0.1 cannot be assigned on network {here}/blue: it is the gateway",
            "",
        ),
        (f"{ATTACH} blue --ip 10.97.0.5", 1, "it is outside the range 10.97.0.10-10.97.0.250", "ips list --free"),
        (f"{ATTACH} blue --ip 10.97.0.45", 1, "10.97.0.45 cannot be assigned", "ips list --free"),
        (f"{ATTACH} blue --ip 10.97.0.10", 1, "10.97.0.10 is not free: {here}/web-1 holds it", "ips show 10.97.0.10"),
        (
            f"{ATTACH} blue --ip 10.97.0.11",
            1,
            "10.97.0.11 is not free: it is reserved (printer)",
            "--take-reservation",
        ),
        ("vm attach web-1 --network blue --ip 10.97.0.20", 1, "already has 10.97.0.10", "Pass --replace"),
        ("ips show 203.0.113.9", 1, "203.0.113.9 is in no network that you can access", "network list`"),
        ("ips reserve blue 10.97.0.10", 1, "10.97.0.10 is not free: {here}/web-1 holds it", "ips list --free"),
        (
            "ips reserve blue 10.97.0.1",
            1,
            "cannot be reserved on network {here}/blue: it is the gateway",
            "ips list --free",
        ),
        ("ips reserve blue 10.99.0.1", 1, "10.99.0.1 cannot be reserved", "ips list --free"),
        ("ips reserve blue --count 250", 1, "network {here}/blue is full", "ips gc"),
        (
            "ips release blue 10.97.0.10",
            1,
            "stays recorded for {here}/web-1",
            "vm detach web-1 -n {here} --network blue",
        ),
        (
            "ips release blue 10.99.0.1",
            1,
            "10.99.0.1 is not an address of network {here}/blue",
            "network list`, or with -A",
        ),
    ),
]


@pytest.fixture(scope="module")
def here(installed: Cluster, forks: ForkServer) -> Iterator[Scene]:
    with scene(installed, forks) as found:
        yield found


@pytest.fixture(scope="module")
def untouched(here: Scene) -> dict[str, str]:
    """What is there before any mistake is made."""
    return here.snapshot()


@pytest.fixture
def nothing_changes(here: Scene, untouched: dict[str, str]) -> Iterator[None]:
    yield
    assert here.snapshot() == untouched


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.kind}: {bad.words[:60]}")
def test_invalid_input_prints_an_error_with_a_hint_and_changes_nothing(
    here: Scene, bad: Bad, nothing_changes: None
) -> None:
    ran = here.yoshi.run(*shlex.split(here.words(bad.words)))
    check_message(ran, bad.code, here.words(bad.trouble), here.words(bad.hint))


@pytest.mark.parametrize("bad", {bad.kind: bad for bad in TABLE}.values(), ids=lambda bad: bad.kind)
def test_invalid_input_in_a_separate_process_has_the_same_result(here: Scene, bad: Bad, nothing_changes: None) -> None:
    """The contract of the process itself: exit code, stdout, stderr."""
    words = shlex.split(here.words(bad.words))
    process = here.yoshi.alone(*words)
    out, err = process.communicate(timeout=60)
    ran = here.yoshi.run(*words)
    assert (process.returncode, out) == (bad.code, "")
    assert err.replace("python -m kubectl_yoshi", "kubectl yoshi") == ran.err


def test_closed_stdout_is_no_error(here: Scene, nothing_changes: None) -> None:
    process = here.yoshi.alone("ips", "list", "--network", "blue")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 141)
    process.stderr.close()
