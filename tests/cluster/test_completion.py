"""Completion by TAB in real shells on a terminal, with names from a real API server.

shells      bash, zsh and fish as a user has them after `completion install`, with kubectl's own completion loaded:
            `kubectl yoshi …` and `kubectl-yoshi …`
names       networks, VMs, namespaces, contexts, free and held addresses; kubectl's flags say of where
silence     a server that does not answer, refuses, or is not there; a kubeconfig that is broken
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from lab.running import kubectl_command
from lab.testing import Cluster
from tests.cluster.harness import ROOT, Yoshi, make_vms
from tests.cluster.terminal import KILL_LINE, Terminal
from tests.cpu_time import least_work

Cidrs = Callable[[int], str]

SECONDS = 0.3

BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"
RC_FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}
RC = {
    "bash": f"PS1='$ '; source {BASH_COMPLETION}; source <(kubectl completion bash)",
    "zsh": """
        PS1='$ '; unsetopt prompt_sp prompt_cr beep
        fpath=(~/.local/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u
        source <(kubectl completion zsh)
    """,
    "fish": "set -g fish_greeting; function fish_prompt; echo '$ '; end; kubectl completion fish | source",
}
COMMANDS = {
    "bash": ["bash", "--noprofile", "-i"],
    "zsh": ["zsh", "-d", "-i"],
    "fish": ["fish", "-i"],
}


@dataclass(frozen=True)
class HomeFolder:
    """A user who has installed the program.

    Attributes:
        folder: $HOME.
        environment: what the user's shells start with.
    """

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """One command of the user's."""
        return subprocess.run(
            command, env={**self.environment, **more}, capture_output=True, text=True, check=False, timeout=120
        )

    def complete(self, *words: str, **more: str) -> tuple[dict[str, str], int]:
        """What kubectl gets for these words, and the directive."""
        ran = self.run("kubectl_complete-yoshi", *words, **more)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        *lines, last = ran.stdout.splitlines()
        return {word: about for word, _, about in (line.partition("\t") for line in lines)}, int(last.removeprefix(":"))


def home_of(folder: Path, kubeconfig: Path) -> HomeFolder:
    """A home whose PATH has kubectl and this program, and little else of ours."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "kubectl").symlink_to(shutil.which(kubectl_command()) or kubectl_command())
    start = f"#!/bin/sh\nexec '{sys.executable}' -P -c 'from kubectl_yoshi.__main__ import main; main()' \"$@\"\n"
    if sys.version_info < (3, 11):
        start = start.replace(" -P", "")
    (programs / "kubectl-yoshi").write_text(start)
    (programs / "kubectl-yoshi").chmod(0o755)
    return HomeFolder(
        folder,
        {
            "HOME": str(folder),
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "KUBECONFIG": str(kubeconfig),
            "KUBECTL_YOSHI_COMPLETION_SECONDS": "60",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
        },
    )


@pytest.fixture(scope="module")
def home(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> HomeFolder:
    found = home_of(tmp_path_factory.mktemp("home"), installed.kubeconfig)
    shutil.copy(ROOT / "completions" / "kubectl_complete-yoshi", found.folder / "bin")
    return found


@pytest.fixture
def blue(yoshi: Yoshi, installed: Cluster, namespace: str, cidr: Cidrs) -> str:
    """The CIDR of network blue, of which web-1 has the first address; bordeaux is beside it, and two more VMs."""
    made = cidr(24)
    yoshi.done("network", "create", "blue", "--cidr", made)
    yoshi.done("network", "create", "bordeaux", "--cidr", cidr(20))
    make_vms(installed, namespace, "web-1", "web-2", "db-1")
    yoshi.done("vm", "attach", "web-1", "--network", "blue")
    return made.removesuffix(".0/24")


# -- shells ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest, installed: Cluster, tmp_path: Path) -> Iterator[Terminal]:
    """The shell of a user who has run `kubectl yoshi completion install`."""
    name: str = request.param
    if not shutil.which(name) or not Path(BASH_COMPLETION).exists():
        pytest.skip(f"needs {name} and the package bash-completion")
    user = home_of(tmp_path / "home", installed.kubeconfig)
    file = user.folder / RC_FILES[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{RC[name]}\n")
    # Without this folder fish reads all man pages in the background, for minutes.
    (user.folder / ".local/share/fish/generated_completions").mkdir(parents=True, exist_ok=True)
    ran = user.run("kubectl", "yoshi", "completion", "install", "--shell", name)
    assert ran.returncode == 0, ran
    assert "kubectl_complete-yoshi created" in ran.stdout
    with Terminal(COMMANDS[name], user.environment, user.folder) as terminal:
        terminal.run("true")
        yield terminal


def test_shells_complete_commands_flags_and_names(shell: Terminal, namespace: str, blue: str) -> None:
    assert shell.completed("kubectl yoshi vm att") == "kubectl yoshi vm attach"
    assert shell.completed("kubectl yoshi version --cli") == "kubectl yoshi version --client"
    here = f"kubectl yoshi -n {namespace} vm attach"
    assert shell.completed(f"{here} db") == f"{here} db-1"
    assert shell.completed(f"{here} --network bl") == f"{here} --network blue"
    assert shell.completed(f"{here} --network=bl") == f"{here} --network=blue"
    assert shell.completed(f"{here} --network blue --ip {blue}.25") == f"{here} --network blue --ip {blue}.25"
    assert shell.completed(f"{here} --network blue --ip {blue}.254") == f"{here} --network blue --ip {blue}.254"
    assert shell.completed(f"{here} --network blue={blue}.25") == f"{here} --network blue={blue}.25"
    assert shell.completed(f"{here} --network blue={blue}.254") == f"{here} --network blue={blue}.254"
    shell.type(f"{here} --network b\t\t")
    shell.see(r"blue +\W*calico [^\n]*\s*bordeaux +\W*calico")
    shell.type(KILL_LINE)


def test_shells_complete_words_with_colons_quotes_and_files(
    shell: Terminal, namespace: str, yoshi: Yoshi, blue: str
) -> None:
    """By `kubectl yoshi` and by `kubectl-yoshi`, which shells complete by another function."""
    six = f"fd00:1{namespace[-3:]}:1{namespace[-6:-3]}"  # every shell has a network of its own
    yoshi.done("network", "create", "six", "--cidr", f"{six}::/120")
    for program in ("kubectl yoshi", "kubectl-yoshi"):
        here = f"{program} -n {namespace} ips reserve six"
        assert shell.completed(f"{here} {six}::ff") == f"{here} {six}::ff"
        assert shell.completed(f"{here} --note 'a b' {six}::2 {six}::fe").endswith(f" {six}::2 {six}::fe")
        shell.run("touch only-this.yaml")
        assert shell.completed(f"{program} network create -f only-t").endswith(" -f only-this.yaml")
    assert shell.completed("kubectl-yoshi vm att") == "kubectl-yoshi vm attach"
    here = f"kubectl-yoshi -n {namespace} vm attach"
    assert shell.completed(f"{here} --network=bl") == f"{here} --network=blue"
    assert shell.completed(f"{here} --network blue={blue}.254") == f"{here} --network blue={blue}.254"


# -- names -----------------------------------------------------------------------------------------------------------


def test_completed_names_have_descriptions(home: HomeFolder, namespace: str, blue: str) -> None:
    here = ("-n", namespace)
    assert home.complete(*here, "network", "describe", "") == (
        {"blue": f"calico {blue}.0/24", "bordeaux": home.complete(*here, "network", "list", "bo")[0]["bordeaux"]},
        4,
    )
    assert list(home.complete(*here, "vm", "list", "")[0]) == ["db-1", "web-1", "web-2"]
    assert list(home.complete(*here, "vm", "attach", "web-1", "w")[0]) == ["web-2"]
    assert list(home.complete("vm", "attach", "--network", f"{namespace}/b")[0]) == [
        f"{namespace}/blue",
        f"{namespace}/bordeaux",
    ]
    assert namespace in home.complete("vm", "list", "-n", "")[0]
    assert home.complete(*here, "ips", "release", "blue", "") == ({f"{blue}.1": f"{namespace}/web-1"}, 36)
    assert home.complete(*here, "diff", "vm", "attach", "--network", "bl")[0].keys() == {"blue"}


def test_completed_free_addresses_exclude_allocated_ones(home: HomeFolder, namespace: str, blue: str) -> None:
    words = ("-n", namespace, "vm", "attach", "web-2", "--network", "blue", "--ip", "")
    found, directive = home.complete(*words)
    assert (list(found)[:2], len(found), directive) == ([f"{blue}.2", f"{blue}.3"], 20, 36)
    words = ("-n", namespace, "vm", "attach", "web-2", "--network", "bordeaux", "--network", "blue=")
    found, directive = home.complete(*words)
    assert (list(found)[:2], len(found), directive) == ([f"blue={blue}.2", f"blue={blue}.3"], 20, 36)
    assert list(home.complete("-n", namespace, "ips", "reserve", "blue", f"{blue}.2", f"{blue}.25")[0]) == [
        f"{blue}.25", *(f"{blue}.{number}" for number in range(250, 255)),
    ]  # fmt: skip


def test_completed_contexts_clusters_and_users_come_from_all_kubeconfigs(
    home: HomeFolder, installed: Cluster, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("{contexts: [{name: far}], clusters: [{name: moon}], users: [{name: jane}]}")
    files = f"{home.environment['KUBECONFIG']}:{other}:{tmp_path / 'none'}"
    assert home.complete("--context", "", KUBECONFIG=files)[0].keys() >= {"far", installed.context}
    assert home.complete("--cluster", "m", KUBECONFIG=files)[0].keys() == {"moon"}
    assert home.complete(f"--kubeconfig={other}", "--user", "")[0].keys() == {"jane"}


def test_completion_uses_the_connection_flags_of_the_line(
    home: HomeFolder, installed: Cluster, namespace: str, blue: str
) -> None:
    here = ("-n", namespace, "network", "list")
    kubeconfig = f"--kubeconfig={installed.kubeconfig}"
    assert home.complete(kubeconfig, *here, "bl", KUBECONFIG="/nowhere")[0].keys() == {"blue"}
    assert home.complete(*here, "--as", "nobody", "bl") == ({}, 4)  # a user without permissions gets no completions


def test_completion_of_names_needs_little_cpu_time(home: HomeFolder, namespace: str, blue: str) -> None:
    """What a person may have to wait, in processor time: a busy machine does not stretch it as it does the clock's."""
    for words in (["network", "describe"], ["vm", "attach"], ["vm", "attach", "--network", "blue", "--ip"]):
        complete = partial(home.complete, "-n", namespace, *words, "")
        assert least_work(complete) <= SECONDS


# -- silence ---------------------------------------------------------------------------------------------------------


def test_completion_gives_up_after_one_second(home: HomeFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        found = home.complete("-s", server, "vm", "list", "", KUBECTL_YOSHI_COMPLETION_SECONDS="")
        took = time.monotonic() - began
    assert found == ({}, 4)
    assert took >= 1
    assert took < 20, "it took as long as a command waits for a server, or tried again"


@pytest.mark.parametrize(
    "words",
    [
        ["-s", "http://127.0.0.1:1"],
        ["-s", "http://no-such-host.invalid"],
        ["--context", "no-such-context"],
        ["--kubeconfig", "/no/such/file"],
        ["--kubeconfig", "/dev/null"],
        ["--as-group", "a"],
    ],
    ids=" ".join,
)
def test_completion_prints_no_errors(home: HomeFolder, words: list[str]) -> None:
    assert home.complete(*words, "vm", "list", "", KUBECTL_YOSHI_COMPLETION_SECONDS="5") == ({}, 4)


def test_kubectl_passes_completions_on(home: HomeFolder, namespace: str, blue: str) -> None:
    ran = home.run("kubectl", "__complete", "yoshi", "-n", namespace, "vm", "detach", "--network", "")
    assert ran.stdout.splitlines()[0] == f"blue\tcalico {blue}.0/24"
    assert ran.stdout.splitlines()[-1] == ":4"


def test_completion_install_is_idempotent(installed: Cluster, tmp_path: Path) -> None:
    user = home_of(tmp_path / "home", installed.kubeconfig)
    for word in ("created", "unchanged"):
        ran = user.run("kubectl-yoshi", "completion", "install", "--shell", "fish")
        assert [line.rpartition(" ")[2] for line in ran.stdout.splitlines()] == [word, word]
    assert os.access(user.folder / "bin" / "kubectl_complete-yoshi", os.X_OK)
