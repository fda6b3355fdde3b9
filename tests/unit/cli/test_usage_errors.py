"""Bad input that is reported before any request is sent: the message of each mistake, by the whole command line.

One row a mistake: the command line, its exit code, words that name the trouble, words that show the way out. Those
that only the cluster shows to be mistakes: tests/cluster/test_bad_input.py.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubectl_yoshi.__main__ import run
from tests.cluster.bad_scene import A_CIDR, AN_ADDRESS, ATTACH, LONG_NAME, RED, Bad, check_message, rows, write_files
from tests.cluster.harness import ROOT, CommandResult
from tests.cluster.scripted_fault_proxy import write_kubeconfig
from tests.unit.kube.fault_server import fault_server, refuses

TABLE = [
    *rows(
        "settings of a network",
        (f"{RED} --plugin public --peer router.example", 2, 'peerIP "router.example" is not an IP address', AN_ADDRESS),
        (
            f"{RED} --plugin calicoo",
            2,
            '--plugin "calicoo" is unknown',
            "Choose one of calico, ovs, public.",
        ),
        (f"{RED} --block-size big", 2, "'big' is not a valid integer", "network create --help"),
    ),
    *rows(
        "name of a network",
        ("network create Red --cidr 10.98.0.0/24", 2, '"Red" is not a valid network name', "Use lower-case letters"),
        ("network create a/b --cidr 10.98.0.0/24", 2, '"a/b" is not a valid network name', "Use lower-case letters"),
        (
            "network create red- --cidr 10.98.0.0/24",
            2,
            '"red-" is not a valid network name',
            "ending with a letter or digit",
        ),
        ("network create '' --cidr 10.98.0.0/24", 2, "give either the NAME of a network", "network create --help"),
        (
            f"network create {LONG_NAME} --cidr 10.98.0.0/24",
            2,
            "is too long for the name",
            "Use 180 characters at most.",
        ),
        ("network create red pink --cidr 10.98.0.0/24", 2, "unexpected extra argument (pink)", "create --help"),
        ("network describe a/b/c", 2, '"a/b/c" is not the name of a network', "Write NAME or NAMESPACE/NAME."),
    ),
    *rows(
        "network",
        (f"{ATTACH} ''", 2, '"" is not the name of a network', "Write NAME or NAMESPACE/NAME."),
    ),
    *rows(
        "VM",
        ("vm attach Web-2 --network blue", 2, '"Web-2" is not the name of a VM', "Write NAME, or NAMESPACE/NAME."),
        ("vm attach '' --network blue", 2, '"" is not the name of a VM', "Write NAME, or NAMESPACE/NAME."),
        ("vm attach a/b/c --network blue", 2, '"a/b/c" is not the name of a VM', "Write NAME, or NAMESPACE/NAME."),
        ("vm attach --network blue", 2, "name the VMs, or give -l SELECTOR, or -f FILE", "One of the three."),
        ("vm attach web-2 -l app=web --network blue", 2, "name the VMs, or give -l SELECTOR", "One of the three."),
    ),
    *rows(
        "address",
        (f"{ATTACH} blue --ip garbage", 2, '--ip "garbage" is not an IP address', AN_ADDRESS),
        (f"{ATTACH} blue --ip 10.97.0.20/24", 2, '--ip "10.97.0.20/24" is not an IP address', AN_ADDRESS),
        (
            "vm attach web-1 web-2 --network blue --ip 10.97.0.20",
            2,
            "--ip is for one VM",
            "2 VMs cannot share one address.",
        ),
        (f"{ATTACH} blue --mac garbage", 2, '--mac "garbage" is not a MAC address', "02:00:00:ab:cd:ef"),
        (f"{ATTACH} blue --mac 01:00:5e:00:00:01", 2, "is a multicast address", "The first octet must be even."),
        (f"{ATTACH} blue --mac 00:00:00:00:00:00", 2, "is all zero", "02:00:00:ab:cd:ef"),
        ("ips show garbage", 2, '"garbage" is not an IP address', AN_ADDRESS),
        ("ips reserve blue --count 0", 2, "--count must be from 1 to 256", "ips reserve --help"),
        (
            f"ips reserve blue 10.97.0.20 --note {257 * 'n'}",
            2,
            "--note must have at most 256 characters; it has 257",
            "ips reserve --help",
        ),
        ("ips reserve blue 10.97.0.20 --count 2", 2, "give addresses or --count, not both", "ips reserve --help"),
        ("ips release blue", 2, "missing argument", "ips release --help"),
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
            "broken.yaml, line 7: this is not valid YAML",
            "Correct the file",
        ),
        (
            "vm attach -f {dir}/tabs.yaml --network blue",
            2,
            "tabs.yaml, line 2: this is not valid YAML",
            "Correct the file",
        ),
        (
            "vm attach -f {dir}/binary.yaml --network blue",
            2,
            "binary.yaml: the text is not UTF-8",
            "Save it as UTF-8",
        ),
        (
            "vm attach -f {dir}/list.json --network blue",
            2,
            "list.json: this is not a Kubernetes object",
            "apiVersion, kind",
        ),
        (
            "vm attach -f {dir}/words.yaml --network blue",
            2,
            "words.yaml: this is not a Kubernetes object",
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
            "Pod 'web' in the file is not a VirtualMachine",
            "-f takes kind VirtualMachine",
        ),
        ("vm attach -f https://example.com/vm.yaml --network blue", 2, "URLs are not supported", "curl -L"),
        ("network create -f {dir}/no-name.yaml", 2, "the NetworkWizard has no metadata.name", "metadata.name"),
        ("network create -f {dir}/number.yaml", 2, "metadata.name must be a string", 'write "5" in quotes'),
        (
            "network create -f {dir}/vm.yaml",
            2,
            "VirtualMachine 'web-2' is not a NetworkWizard",
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
        (f"{ATTACH} blue --timeout soon", 2, '"soon" is not a duration', "write it as 30s"),
        (f"{ATTACH} blue --dry-run=maybe", 2, "'maybe' is not one of 'none', 'client', 'server'", "vm attach --help"),
        ("--request-timeout soon ips list", 2, '"soon" is not a duration', "write it as 30s"),
        ("ips gc --grace soon", 2, '"soon" is not a duration', "write it as 30s"),
        ("completion klingon", 2, 'unknown command "klingon"', "completion --help"),
        ("diff ips list", 2, 'unknown command "list"', "kubectl yoshi diff ips --help"),
    ),
]

Words = Callable[[str], list[str]]


@pytest.fixture
def words(tmp_path: Path) -> Iterator[Words]:
    """Gives the words of a command line for a server that must not be asked."""
    write_files(tmp_path)
    with fault_server() as server:
        server.then(refuses(500, "InternalError", "it was asked"))
        kubeconfig = write_kubeconfig(tmp_path / "config", server.url)
        yield lambda line: [f"--kubeconfig={kubeconfig}", *shlex.split(line.replace("{dir}", str(tmp_path)))]
        assert server.requests == []


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.kind}: {bad.words[:60]}")
def test_usage_error_has_a_hint(words: Words, bad: Bad, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = words(bad.words)
    ran = CommandResult(tuple(line), run(line, "kubectl yoshi"), *capsys.readouterr(), 0.0)
    check_message(ran, bad.code, *(part.replace("{dir}", str(tmp_path)) for part in (bad.trouble, bad.hint)))


@pytest.mark.parametrize("bad", {bad.kind: bad for bad in TABLE}.values(), ids=lambda bad: bad.kind)
def test_usage_error_in_a_separate_process_has_the_same_result(
    words: Words, bad: Bad, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contract of the process itself: exit code, stdout, stderr."""
    line = words(bad.words)
    command = [sys.executable, "-m", "kubectl_yoshi", *line]
    alone = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    run(line, "python -m kubectl_yoshi")
    assert (alone.returncode, alone.stdout, alone.stderr) == (bad.code, "", capsys.readouterr().err)


def test_invalid_stdin_is_reported_with_its_line(
    words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("metadata: {}\nkind: [}\n"))
    line = words("network create -f -")
    ran = CommandResult(tuple(line), run(line, "kubectl yoshi"), *capsys.readouterr(), 0.0)
    check_message(ran, 2, "stdin, line 2: this is not valid YAML", "Correct the file")
