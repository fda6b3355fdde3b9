"""Completion without a cluster.

- commands     at every level, behind aliases, after `diff` and `help`; nothing after a command that is not there
- arguments    by their place; as many as the command takes
- values       --flag value, --flag=value, -f=value; a flag without a value takes none
- flags        the command's own and kubectl's, wherever they stand
- format       Cobra's
- install      where `completion install` writes
"""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import CompletionItem

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.completion.install import COMPLETER, install_files
from kubectl_yoshi.cli.completion.protocol import create_session, find_completions, format_reply, get_time_limit
from kubectl_yoshi.cli.param_types import NameKind
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError


@dataclass
class Lookup:
    """Remembers which names are looked up."""

    kind: NameKind | None = None
    incomplete: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self, kind: NameKind, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        self.kind, self.incomplete, self.params = kind, incomplete, ctx.params
        self.flags = create_session(ctx, 1.0).flags
        return []


def looked_up(*words: str) -> Lookup:
    found = Lookup()
    find_completions(words, found)
    return found


def suggested(*words: str) -> dict[str, str]:
    return {item.value: item.help or "" for item in find_completions(words, Lookup())}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["version", ""], None),
        (["vm", "attach", ""], NameKind.VM),
        (["vm", "attach", "web-1", ""], NameKind.VM),
        (["vm", "attach", "--network", ""], NameKind.NETWORK_ADDRESS),
        (["vm", "attach", "--network", "blue", ""], NameKind.VM),
        (["vm", "attach", "--network=bl"], NameKind.NETWORK_ADDRESS),
        (["vm", "attach", "--restart", ""], NameKind.VM),
        (["vm", "attach", "--restart=false", ""], NameKind.VM),
        (["vm", "attach", "--dry-run", ""], NameKind.VM),
        (["vm", "attach", "--network", "a", "--network", "b", ""], NameKind.VM),
        (["vm", "attach", "--timeout", "soon", ""], NameKind.VM),
        (["vm", "attach", "--unknown", ""], NameKind.VM),
        (["vm", "attach", "--", "-"], NameKind.VM),
        (["-n", ""], NameKind.NAMESPACE),
        (["--namespace=pr"], NameKind.NAMESPACE),
        (["--context", ""], NameKind.CONTEXT),
        (["ips", "map", ""], NameKind.NETWORK),
        (["ips", "map", "blue", ""], None),
        (["ips", "reserve", ""], NameKind.NETWORK),
        (["ips", "reserve", "blue", ""], NameKind.FREE_ADDRESS),
        (["ips", "reserve", "blue", "10.0.0.1", ""], NameKind.FREE_ADDRESS),
        (["ips", "show", ""], NameKind.HELD_ADDRESS),
        (["ips", "show", "10.0.0.1", ""], None),
        (["ips", "move", "--to", ""], NameKind.VM),
        (["trace", "vm/"], NameKind.TRACED),
        (["ips", "rebuild", "--network", ""], NameKind.NETWORK),
        (["network", "create", ""], None),
        (["diff", "vm", "attach", "web-1", "--network", ""], NameKind.NETWORK_ADDRESS),
        (["diff", "vm", "attach", "--network=bl"], NameKind.NETWORK_ADDRESS),
        (["-n", "prod", "diff", "-v", "6", "ips", "release", "blue", ""], NameKind.HELD_ADDRESS),
    ],
)
def test_argument_position_determines_the_kind_of_names(words: list[str], kind: NameKind | None) -> None:
    assert looked_up(*words).kind == kind


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["-n", "prod", "vm", "list", ""], {"namespace": "prod"}),
        (["-nprod", "vm", "list", ""], {"namespace": "prod"}),
        (["vm", "-n=prod", "list", ""], {"namespace": "prod"}),
        (["vm", "list", "-nprod", "--namespace=dev", ""], {"namespace": "dev"}),
        (["vm", "list", "--as-group=a", "--as", "joe", "--as-group", "b", ""],
         {"as_user": "joe", "as_groups": ("a", "b")}),
        (["--insecure-skip-tls-verify", "vm", "list", ""], {"insecure_skip_tls_verify": True}),
        (["vm", "list", "--", "-n", "x", ""], {}),
        (["diff", "--context", "lab", "vm", "attach", "-n", "x", ""], {"context": "lab", "namespace": "x"}),
    ],
)  # fmt: skip
def test_common_flags_are_parsed_at_any_position(words: list[str], flags: dict[str, Any]) -> None:
    assert looked_up(*words).flags == {**flags, "request_timeout": 1.0}


def test_parsed_arguments_are_available_by_parameter_name() -> None:
    found = looked_up("ips", "reserve", "networkwizard/blue", "10.0.0.1", "10.0.0.2", "--note=a b", "10.")
    assert (found.params["network"], found.params["addresses"]) == ("blue", ("10.0.0.1", "10.0.0.2"))
    assert found.incomplete == "10."
    assert looked_up("vm", "attach", "--network=infra/bl").incomplete == "infra/bl"


def test_completed_commands_have_descriptions() -> None:
    assert suggested("vm", "at") == {"attach": "Attach VMs to networks and assign each a permanent address"}
    assert suggested().keys() == suggested("").keys() == suggested("-n=prod", "").keys() == cli.table.keys()
    assert suggested("vms", "").keys() == suggested("help", "vm", "").keys() == {"attach", "detach", "list"}
    assert suggested("diff", "vm", "").keys() == {"attach", "detach"}
    for words in (["no-such-command", ""], ["no-such-command", "--"], ["help", "no-such-command", ""]):
        assert suggested(*words) == {}


def test_completed_flags_list_the_own_ones_before_the_common_ones() -> None:
    assert list(suggested("ips", "list", "-")) == list(suggested("ips", "list", "--"))
    found = list(suggested("ips", "list", "--"))
    assert found[:2] == ["--network", "--all-namespaces"]
    assert found.index("--free") < found.index("--kubeconfig") < found.index("--help")


def test_given_flag_is_completed_again_only_if_repeatable() -> None:
    found = suggested("vm", "attach", "--ip", "a", "-n", "b", "--port=1", "--as-group", "c", "--network=d", "--").keys()
    assert found.isdisjoint({"--ip", "--namespace"})
    assert found >= {"--port", "--as-group", "--network"}


@pytest.mark.parametrize(
    ("words", "offered", "directive"),
    [
        (["version", "-o", "js"], ["json", "jsonpath=", "jsonpath-file="], 4),
        (["ips", "map", "blue", "-o", "s"], ["svg"], 4),
        (["ips", "list", "-o", "jsonp"], ["jsonpath=", "jsonpath-file="], 4 | 2),
        (["vm", "attach", "--dry-run=s"], ["server"], 4),
        (["vm", "attach", "--dry-run=server", "--dry"], [], 4),
        (["network", "create", "--no-nat"], ["--no-nat-outgoing"], 4 | 32),
        (["network", "create", "--cidr", ""], [], 4),
        (["network", "create", "-f", ""], [], 0),
        (["network", "create", "-f=only"], [], 0),
        (["--kubeconfig", ""], [], 0),
        (["--cache-dir="], [], 16),
        (["completion", "install", "--shell", "z"], ["zsh"], 4),
    ],
)
def test_flag_values_are_completed(words: list[str], offered: list[str], directive: int) -> None:
    *lines, last = format_reply(find_completions(words, Lookup())).splitlines()
    assert ([line.partition("\t")[0] for line in lines], last) == (offered, f":{directive}")


def test_reply_has_the_cobra_format() -> None:
    items = [CompletionItem("blue", help="calico", keep_order=True), CompletionItem("red", keep_order=True)]
    assert format_reply(items) == "blue\tcalico\nred\n:36\n"


@pytest.mark.parametrize(("said", "seconds"), [("", 1.0), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("long", 1.0)])
def test_time_limit_is_read_from_the_environment(said: str, seconds: float) -> None:
    assert get_time_limit({"KUBECTL_YOSHI_COMPLETION_SECONDS": said}) == seconds


def test_completion_of_commands_and_flags_imports_no_heavy_modules() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kubectl_yoshi", "__complete", "vm", "attach", "--"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert imported.isdisjoint({"kubernetes", "urllib3", "yaml", "netaddr", "tabulate"})
    assert not any(name.startswith(("kubectl_yoshi.kube", "kubectl_yoshi.engine")) for name in imported)


# -- completion install ----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with kubectl-yoshi on PATH."""
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program(tmp_path / "bin" / "kubectl-yoshi")
    return tmp_path


def program(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)


def installed(shell: str | None) -> list[str]:
    """What `completion install` prints."""
    session = Session(out=io.StringIO(), err=io.StringIO())
    install_files(session, shell)
    assert isinstance(session.out, io.StringIO)
    return session.out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".local/share/bash-completion/completions/kubectl-yoshi"),
        ("zsh", ".local/share/zsh/site-functions/_kubectl-yoshi"),
        ("fish", ".config/fish/completions/kubectl-yoshi.fish"),
    ],
)
def test_install_writes_the_script_and_the_completer(home: Path, shell: str, file: str) -> None:
    completer = home / "bin" / COMPLETER
    assert installed(shell) == [f"{home / file} created", f"{completer} created"]
    assert completer.stat().st_mode & 0o111
    assert installed(shell) == [f"{home / file} unchanged", f"{completer} unchanged"]
    (home / file).write_text("of an earlier version")
    assert installed(shell) == [f"{home / file} configured", f"{completer} unchanged"]


def test_install_detects_the_shell_of_the_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "fish" in installed(None)[0]
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    with pytest.raises(UsageError, match="which shell"):
        installed(None)


def test_install_keeps_an_existing_completer_on_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(home / "pip" / COMPLETER)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{home / 'pip'}")
    assert installed("bash")[1] == f"{home / 'pip' / COMPLETER} unchanged"
    assert not (home / "bin" / COMPLETER).exists()


def test_install_requires_the_plugin_on_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreconditionFailed, match="no kubectl-yoshi on PATH"):
        installed("bash")


def test_install_names_a_file_that_cannot_be_written(home: Path) -> None:
    (home / ".config").write_text("a file, not a folder")
    with pytest.raises(PreconditionFailed, match=r"kubectl-yoshi\.fish cannot be written"):
        installed("fish")
