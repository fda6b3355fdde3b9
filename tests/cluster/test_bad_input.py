"""Bad input through the whole command line: what each mistake says, and that it changes nothing.

One row a mistake: the command line, its exit code, words that name the trouble, words that show the way out. Every
row is a process of its own on the real API server; a message has at most five lines and no traceback. Servers and
kubeconfigs that are bad: test_bad_servers.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.testing import Cluster
from tests.cluster.bad_scene import Scene, check_message, scene
from tests.cluster.harness import ForkServer


@dataclass(frozen=True)
class Bad:
    """A command line that is wrong.

    Attributes:
        kind: what sort of mistake.
        words: as typed, with {here}, {there} and {dir} of the scene.
        code: the exit code: 2 for what can never be, 1 for what this cluster refuses.
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
ANOTHER = "Choose another CIDR or name, or remove what is in the way."

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
        (f"{RED} --plugin public --peer router.example", 2, 'peerIP "router.example" is not an IP address', AN_ADDRESS),
        (f"{RED} --peer 10.0.0.1,bogus=1", 2, '"bogus=1" is unknown', "[,passwordSecret=NAME]."),
        (
            f"{RED} --plugin calicoo",
            2,
            '--plugin "calicoo" is unknown',
            "Choose one of calico, ovs, public.",
        ),
        (f"{RED} --encapsulation Carrots", 2, 'encapsulation "Carrots" is unknown', "Choose one of VXLAN, "),
        ("network create red --cidr fd00:98::/64 --encapsulation IPIP", 2, "IPIP does not carry IPv6", "Choose VXLAN"),
        (f"{RED} --block-size 8", 2, "a block size of 8 does not fit 10.98.0.0/24", "Choose one from 24 to 32"),
        (f"{RED} --block-size big", 2, "'big' is not a valid integer", "network create --help"),
        (f"{RED} --live-migration --encapsulation VXLAN", 2, "without overlay and NAT", "Leave --encapsulation"),
    ),
    *rows(
        "name of a network",
        ("network create Red --cidr 10.98.0.0/24", 2, '"Red" is not a name for a network', "Use lower-case letters"),
        ("network create a/b --cidr 10.98.0.0/24", 2, '"a/b" is not a name for a network', "Use lower-case letters"),
        ("network create red- --cidr 10.98.0.0/24", 2, '"red-" is not a name', "ending with a letter or digit"),
        ("network create '' --cidr 10.98.0.0/24", 2, "give either the NAME of a network", "network create --help"),
        (
            f"network create {LONG_NAME} --cidr 10.98.0.0/24",
            2,
            "is too long for the name",
            "Use 180 characters at most.",
        ),
        ("network create red pink --cidr 10.98.0.0/24", 2, "unexpected extra argument (pink)", "create --help"),
        (
            "network create blue --cidr 10.98.0.0/24",
            1,
            "another cidr: 10.97.0.0/24 instead of 10.98.0.0/24",
            "delete it",
        ),
        ("network create leaving --cidr 10.97.5.0/24", 1, "network {here}/leaving is being deleted", "gone"),
        ("-n no-such network create red --cidr 10.98.0.0/24", 1, "there is no namespace no-such", "Check -n"),
        ("network describe a/b/c", 2, '"a/b/c" is not the name of a network', "Write NAME or NAMESPACE/NAME."),
    ),
    *rows(
        "network",
        (f"{ATTACH} no-such", 1, 'network "no-such" not found in namespace "{here}"', "network list`"),
        (f"{ATTACH} far", 1, 'network "far" not found in namespace "{here}"', "name a network of another namespace as"),
        (f"{ATTACH} no-such/blue", 1, 'network "blue" not found in namespace "no-such"', "network list`"),
        (f"{ATTACH} ''", 2, '"" is not the name of a network', "Write NAME or NAMESPACE/NAME."),
        (f"{ATTACH} leaving", 1, "network {here}/leaving is being deleted", "make it again"),
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
        (f"{ATTACH} no-cidr --ip 10.97.8.8", 1, "no-cidr has no cidr, and a Calico network needs one", "make it anew"),
        (
            "network list no-such",
            1,
            "There is no networkwizard/no-such in namespace {here}",
            "kubectl get networkwizards",
        ),
        ("network delete no-such", 1, 'network "no-such" not found', "network list`"),
        ("network delete blue", 1, "blue is in use: 10.97.0.10 {here}/web-1, 10.97.0.11 reserved (printer)", "--force"),
        ("network delete blue --force", 2, "this needs a confirmation and stdin is no terminal", "Add --yes"),
        ("ips list --network no-such", 1, 'network "no-such" not found', "network list`"),
        ("ips list --network outside", 2, 'network "outside": exclude', "kubectl edit networkwizard outside"),
        ("ips check --network no-such", 1, 'network "no-such" not found', "network list`"),
        ("ips gc --network no-such", 1, 'network "no-such" not found', "network list`"),
    ),
    *rows(
        "VM",
        ("vm attach no-such --network blue", 1, 'VM "no-such" not found in namespace "{here}"', "choose the namespace"),
        ("vm attach alien --network blue", 1, 'VM "alien" not found in namespace "{here}"', "choose the namespace"),
        ("vm attach going --network blue", 1, 'VM "going" in namespace "{here}" is being deleted', "Wait"),
        ("vm attach Web-2 --network blue", 2, '"Web-2" is not the name of a VM', "Write NAME, or NAMESPACE/NAME."),
        ("vm attach '' --network blue", 2, '"" is not the name of a VM', "Write NAME, or NAMESPACE/NAME."),
        ("vm attach a/b/c --network blue", 2, '"a/b/c" is not the name of a VM', "Write NAME, or NAMESPACE/NAME."),
        ("vm attach --network blue", 2, "name the VMs, or give -l SELECTOR, or -f FILE", "One of the three."),
        ("vm attach web-2 -l app=web --network blue", 2, "name the VMs, or give -l SELECTOR", "One of the three."),
        ("vm attach -l app=nothing --network blue", 1, 'no VM in namespace "{here}" has labels', "--show-labels"),
        ("vm attach -l 'app in (' --network blue", 2, '"app in (" is no label selector', "-l key1=value1,key2!=value2"),
        ("vm list -l 'a b'", 2, '"a b" is no label selector', "-l key1=value1,key2!=value2"),
        ("vm list no-such", 1, "There is no virtualmachine/no-such in namespace {here}", "kubectl get virtualmachines"),
        ("vm detach no-such --network blue", 1, 'VM "no-such" not found', "choose the namespace"),
        ("vm detach web-1 --network no-such", 1, 'network "no-such" not found', "network list`"),
        ("vm attach web-1 --network six", 1, "VM {here}/web-1 already has 10.97.0.10 on network blue", "--replace"),
    ),
    *rows(
        "address",
        (f"{ATTACH} blue --ip garbage", 2, '--ip "garbage" is not an IP address', AN_ADDRESS),
        (f"{ATTACH} blue --ip 10.97.0.20/24", 2, '--ip "10.97.0.20/24" is not an IP address', AN_ADDRESS),
        (f"{ATTACH} blue --ip 10.99.0.1", 1, "it is outside 10.97.0.0/24", "Leave out --ip for any free address"),
        (f"{ATTACH} blue --ip fd00:97::5", 1, "it is outside 10.97.0.0/24", "Leave out --ip for any free address"),
        (f"{ATTACH} six --ip 10.97.0.20", 1, "it is outside fd00:97::/64", "Leave out --ip for any free address"),
        (f"{ATTACH} blue --ip 10.97.0.0", 1, "it is the network or broadcast address", "Leave out --ip"),
        (f"{ATTACH} blue --ip 10.97.0.255", 1, "it is the network or broadcast address", "Leave out --ip"),
        (
            f"{ATTACH} blue --ip 10.97.0.1",
            1,
            "10.97.0.1 cannot be given out by network {here}/blue: it is the gateway",
            "",
        ),
        (f"{ATTACH} blue --ip 10.97.0.5", 1, "it is outside the range 10.97.0.10-10.97.0.250", "ips list --free"),
        (f"{ATTACH} blue --ip 10.97.0.45", 1, "10.97.0.45 cannot be given out", "ips list --free"),
        (f"{ATTACH} blue --ip 10.97.0.10", 1, "10.97.0.10 is not free: {here}/web-1 holds it", "ips who 10.97.0.10"),
        (f"{ATTACH} blue --ip 10.97.0.11", 1, "10.97.0.11 is not free: it is reserved (printer)", "ips who 10.97.0.11"),
        ("vm attach web-1 --network blue --ip 10.97.0.20", 1, "already has 10.97.0.10", "Pass --replace"),
        (
            "vm attach web-1 web-2 --network blue --ip 10.97.0.20",
            2,
            "--ip is for one VM",
            "2 VMs cannot share one address.",
        ),
        (f"{ATTACH} blue --mac garbage", 2, '--mac "garbage" is not a MAC address', "02:00:00:ab:cd:ef"),
        (f"{ATTACH} blue --mac 01:00:5e:00:00:01", 2, "is a multicast address", "The first octet must be even."),
        (f"{ATTACH} blue --mac 00:00:00:00:00:00", 2, "is the address of no machine", "02:00:00:ab:cd:ef"),
        ("ips who garbage", 2, '"garbage" is not an IP address', AN_ADDRESS),
        ("ips who 203.0.113.9", 1, "203.0.113.9 is in no network that you may see", "network list`"),
        ("ips reserve blue 10.97.0.10", 1, "10.97.0.10 is not free: {here}/web-1 holds it", "ips list --free"),
        (
            "ips reserve blue 10.97.0.1",
            1,
            "cannot be reserved on network {here}/blue: it is the gateway",
            "ips list --free",
        ),
        ("ips reserve blue 10.99.0.1", 1, "10.99.0.1 cannot be reserved", "ips list --free"),
        ("ips reserve blue --count 0", 2, "--count must be from 1 to 256", "ips reserve --help"),
        ("ips reserve blue --count 250", 1, "network {here}/blue is full", "ips gc"),
        ("ips reserve blue 10.97.0.20 --count 2", 2, "give addresses or --count, not both", "ips reserve --help"),
        (
            "ips release blue 10.97.0.10",
            1,
            "stays recorded for {here}/web-1",
            "vm detach web-1 -n {here} --network blue",
        ),
        (
            "ips release blue 10.99.0.1",
            1,
            "10.99.0.1 is no address of network {here}/blue",
            "network list`, or with -A",
        ),
        ("ips release blue", 2, "give a NETWORK and addresses of it", "ips release --help"),
    ),
    *rows(
        "file",
        (
            "vm attach -f {dir}/none.yaml --network blue",
            2,
            "cannot read {dir}/none.yaml: No such file",
            "Check the path",
        ),
        (
            "vm attach -f {dir}/nothing --network blue",
            2,
            "{dir}/nothing: no .yaml, .yml, .json files",
            "Check the path",
        ),
        (
            "vm attach -f {dir}/broken.yaml --network blue",
            2,
            "broken.yaml, line 7: this is no valid YAML",
            "Correct the file",
        ),
        (
            "vm attach -f {dir}/tabs.yaml --network blue",
            2,
            "tabs.yaml, line 2: this is no valid YAML",
            "Correct the file",
        ),
        (
            "vm attach -f {dir}/binary.yaml --network blue",
            2,
            "binary.yaml: this is no UTF-8 text",
            "Save it as UTF-8",
        ),
        (
            "vm attach -f {dir}/list.json --network blue",
            2,
            "list.json: this is no Kubernetes object",
            "apiVersion, kind",
        ),
        (
            "vm attach -f {dir}/words.yaml --network blue",
            2,
            "words.yaml: this is no Kubernetes object",
            "apiVersion, kind",
        ),
        ("vm attach -f {dir}/empty.yaml --network blue", 2, "empty.yaml: no objects in it", "at least one"),
        (
            "vm attach -f {dir}/no-kind.yaml --network blue",
            2,
            "no-kind.yaml: the object has no kind",
            "apiVersion, kind",
        ),
        (
            "vm attach -f {dir}/pod.yaml --network blue",
            2,
            "Pod 'web' in the file is no VirtualMachine",
            "-f takes kind VirtualMachine",
        ),
        ("vm attach -f https://example.com/vm.yaml --network blue", 2, "URLs are not read", "curl -L"),
        ("network create -f {dir}/no-name.yaml", 2, "the NetworkWizard has no metadata.name", "metadata.name"),
        ("network create -f {dir}/number.yaml", 2, "metadata.name must be a string", 'write "5" in quotes'),
        (
            "network create -f {dir}/vm.yaml",
            2,
            "VirtualMachine 'web-2' is no NetworkWizard",
            "kubectl apply takes others",
        ),
        ("network create -f {dir}/cidr.yaml", 2, 'network "red": cidr "10.1.0.0/99" is not a network', A_CIDR),
        ("network create -f {dir}/asn.yaml", 2, 'bgpConfig.myASN "0.5" is not an ASN', "a number from 1 to 4294967295"),
        ("network create red -f {dir}/cidr.yaml", 2, "give either the NAME of a network", "create --help"),
        ("network create -f {dir}/cidr.yaml --cidr 10.98.0.0/24", 2, "-f takes the whole network from the file", ""),
    ),
    *rows(
        "command line",
        ("vm atach web-2", 2, 'unknown command "atach" for "kubectl yoshi vm"', "did you mean attach or detach?"),
        ("networ list", 2, 'unknown command "networ"', "did you mean network?"),
        ("bogus", 2, 'unknown command "bogus" for "kubectl yoshi"', "'kubectl yoshi --help'"),
        ("vm attach web-2 --netwrok blue", 2, "unknown flag: --netwrok", "did you mean --network"),
        ("vm attach web-2", 2, "--network", "vm attach --help"),
        ("ips list blue extra", 2, "unexpected extra argument (extra)", "ips list --help"),
        ("ips list -o nonsense", 2, 'the output format "nonsense"', "wide, json, yaml, name, jsonpath=…"),
        ("ips list -o jsonpath={.x", 2, 'JSONPath template "{.x": unclosed action', "kubectl/jsonpath"),
        ("ips list -o jsonpath=", 2, "no value given", "Write it as -o jsonpath=…"),
        ("ips list -o custom-columns=A", 2, "unexpected custom-columns spec: A", "NAME:.metadata.name"),
        (f"{ATTACH} blue --timeout soon", 2, '"soon" is no duration', "write it as 30s"),
        (f"{ATTACH} blue --dry-run=maybe", 2, "'maybe' is not one of 'none', 'client', 'server'", "vm attach --help"),
        ("--request-timeout soon ips list", 2, '"soon" is no duration', "Write it as kubectl does"),
        ("ips gc --grace soon", 2, '"soon" is no duration', "write it as 30s"),
        ("completion klingon", 2, 'unknown command "klingon"', "completion --help"),
        ("diff ips list", 2, 'diff does not show "ips list"', "It shows ips gc, "),
    ),
]


@pytest.fixture(scope="module")
def here(installed: Cluster, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(installed, forks, tmp_path_factory.mktemp("files")) as found:
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
def test_a_mistake_is_told_with_a_way_out_and_changes_nothing(here: Scene, bad: Bad, nothing_changes: None) -> None:
    ran = here.yoshi.run(*shlex.split(here.words(bad.words)))
    check_message(ran, bad.code, here.words(bad.trouble), here.words(bad.hint))


@pytest.mark.parametrize("bad", {bad.kind: bad for bad in TABLE}.values(), ids=lambda bad: bad.kind)
def test_an_interpreter_of_its_own_says_the_same(here: Scene, bad: Bad, nothing_changes: None) -> None:
    """The contract of the process itself: exit code, stdout, stderr."""
    words = shlex.split(here.words(bad.words))
    process = here.yoshi.alone(*words)
    out, err = process.communicate(timeout=60)
    ran = here.yoshi.run(*words)
    assert (process.returncode, out) == (bad.code, "")
    assert err.replace("python -m kubectl_yoshi", "kubectl yoshi") == ran.err


def test_stdin_that_is_broken_is_told_by_its_line(here: Scene, nothing_changes: None) -> None:
    ran = here.yoshi.run("network", "create", "-f", "-", input="metadata: {}\nkind: [}\n")
    check_message(ran, 2, "stdin, line 2: this is no valid YAML", "Correct the file")


def test_a_closed_stdout_is_no_error(here: Scene, nothing_changes: None) -> None:
    process = here.yoshi.alone("ips", "list", "--network", "blue")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 141)
    process.stderr.close()
