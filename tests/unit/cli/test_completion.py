"""Completion without a cluster: commands, flags and values, Cobra's format, and where `completion install` writes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.command_line import parse_command_line
from kubectl_yoshi.cli.completion.install import install_files
from kubectl_yoshi.cli.completion.protocol import create_session, get_time_limit, write
from kubectl_yoshi.cli.completion.scripts import COMPLETER
from kubectl_yoshi.cli.completion.suggestions import Directive, Suggestions, suggestions_for
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError


def suggested(*words: str) -> Suggestions:
    line = parse_command_line(cli, words)
    return suggestions_for(line, create_session(line, 1.0, io.StringIO()))


def test_commands_come_with_their_line_of_help() -> None:
    assert suggested("vm", "at").words == {"attach": "Give VMs an address of a network that stays theirs"}
    assert suggested("").words.keys() == cli.table.keys()
    assert suggested("no-such-command", "").words == {}


def test_flags_are_the_commands_own_then_kubectls() -> None:
    found = list(suggested("ips", "list", "--").words)
    assert found[:2] == ["--network", "--all-namespaces"]
    assert found.index("--free") < found.index("--kubeconfig") < found.index("--help")


def test_a_flag_that_was_given_is_offered_again_only_where_it_may_be_repeated() -> None:
    found = suggested("vm", "attach", "--network", "a", "-n", "b", "--port=1", "--as-group", "c", "--").words.keys()
    assert found.isdisjoint({"--network", "--namespace"})
    assert found >= {"--port", "--as-group"}


@pytest.mark.parametrize(
    ("words", "offered", "directive"),
    [
        (["version", "-o", ""], ["json", "yaml"], Directive.NO_FILES),
        (["ips", "list", "-o", "jsonp"], ["jsonpath=", "jsonpath-file="], Directive.NO_FILES | Directive.NO_SPACE),
        (["vm", "attach", "--dry-run=s"], ["server"], Directive.NO_FILES),
        (["vm", "attach", "--dry-run=server", "--dry"], [], Directive.NO_FILES | Directive.KEEP_ORDER),
        (["network", "create", "--no-nat"], ["--no-nat-outgoing"], Directive.NO_FILES | Directive.KEEP_ORDER),
        (["network", "create", "--cidr", ""], [], Directive.NO_FILES),
        (["network", "create", "-f", ""], [], Directive.DEFAULT),
        (["--kubeconfig", ""], [], Directive.DEFAULT),
        (["--cache-dir="], [], Directive.ONLY_FOLDERS),
        (["completion", "install", "--shell", "z"], ["zsh"], Directive.NO_FILES),
    ],
)
def test_values_are_those_that_the_flag_takes(words: list[str], offered: list[str], directive: Directive) -> None:
    found = suggested(*words)
    assert (list(found.words), found.directive) == (offered, directive)


def test_answers_are_in_the_format_of_cobra() -> None:
    out = io.StringIO()
    write(Suggestions({"blue": "calico", "red": ""}, Directive.NO_FILES | Directive.KEEP_ORDER), out)
    assert out.getvalue() == "blue\tcalico\nred\n:36\n"


@pytest.mark.parametrize(("said", "seconds"), [("", 1.0), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("long", 1.0)])
def test_who_is_patient_may_say_so(said: str, seconds: float) -> None:
    assert get_time_limit({"KUBECTL_YOSHI_COMPLETION_SECONDS": said}) == seconds


def test_completing_commands_and_flags_imports_nothing_heavy() -> None:
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
def test_a_script_is_put_where_the_shell_looks_and_the_completer_beside_the_plugin(
    home: Path, shell: str, file: str
) -> None:
    completer = home / "bin" / COMPLETER
    assert installed(shell) == [f"{home / file} created", f"{completer} created"]
    assert completer.stat().st_mode & 0o111
    assert installed(shell) == [f"{home / file} unchanged", f"{completer} unchanged"]
    (home / file).write_text("of an earlier version")
    assert installed(shell) == [f"{home / file} configured", f"{completer} unchanged"]


def test_the_shell_is_the_users_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "fish" in installed(None)[0]
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    with pytest.raises(UsageError, match="which shell"):
        installed(None)


def test_a_completer_that_is_on_path_already_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(home / "pip" / COMPLETER)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{home / 'pip'}")
    assert installed("bash")[1] == f"{home / 'pip' / COMPLETER} unchanged"
    assert not (home / "bin" / COMPLETER).exists()


def test_without_the_plugin_on_path_there_is_no_place_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreconditionFailed, match="no kubectl-yoshi on PATH"):
        installed("bash")


def test_a_file_that_cannot_be_written_is_named(home: Path) -> None:
    (home / ".config").write_text("a file, not a folder")
    with pytest.raises(PreconditionFailed, match=r"kubectl-yoshi\.fish cannot be written"):
        installed("fish")
