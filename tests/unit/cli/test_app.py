"""The shell of the command line: groups, help, kubectl's common flags, and what is imported when.

- help          every group and command that is here; from the table alone; with the program's name
- flags         before and after the command, at any level, the later one wins, pflag's spellings
- mistakes      exit 2, one line on what is wrong, one on where to read more
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from kubectl_yoshi.__main__ import program_name, run
from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.group import CommandEntry, LazyGroup
from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS, get_kubectl_flags
from kubectl_yoshi.cli.options import command, dry_run_option

HEAVY = ("kubernetes", "netaddr", "yaml", "urllib3", "tabulate", "hypothesis", "json")
HEAVY_PACKAGES = tuple(f"kubectl_yoshi.{name}" for name in ("kube", "engine", "plan", "backends"))
Yoshi = Callable[..., "Result"]


class Result:
    """What a run of the program printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def yoshi(capsys: pytest.CaptureFixture[str]) -> Yoshi:
    """Runs the program with some words."""

    def run_it(*words: str, program: str = "kubectl yoshi") -> Result:
        code = run(list(words), program)
        return Result(code, *capsys.readouterr())

    return run_it


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A command `group probe [NAME] [--dry-run] [--wait]` that keeps what it is given."""
    seen: dict[str, Any] = {}

    @command("probe")
    @click.argument("names", nargs=-1)
    @click.option("--wait/--no-wait", default=True)
    @click.option("--all", "-A", is_flag=True)
    @click.option("--output", "-o", default="")
    @dry_run_option
    @click.pass_context
    def do(ctx: click.Context, **flags: Any) -> None:
        seen.update(flags, kubectl=get_kubectl_flags(ctx))

    monkeypatch.setattr("kubectl_yoshi.cli.version.probe", do, raising=False)
    monkeypatch.setitem(
        cli.table, "group", LazyGroup("group", "A group.", {"probe": CommandEntry("version:probe", "Probe")})
    )  # type: ignore[arg-type]
    yield seen


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_root_help_lists_every_command(yoshi: Yoshi, words: tuple[str, ...]) -> None:
    result = yoshi(*words)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: kubectl yoshi ")
    for name in ("install", "uninstall", "network", "vm", "ips", "sync", "diff", "completion", "options", "version"):
        assert f"\n  {name} " in result.out


@pytest.mark.parametrize("group", ["network", "vm", "ips", "nw", "vms"])
def test_group_without_command_prints_its_help(yoshi: Yoshi, group: str) -> None:
    result = yoshi(group)
    assert result.code == 0
    assert "Commands:" in result.out and "list" in result.out


def test_command_help_has_examples_and_refers_to_options(yoshi: Yoshi) -> None:
    result = yoshi("install", "--help")
    assert (
        "Examples:\n  # Create the CRDs, roles and admission policies, or update them\n  kubectl yoshi install\n"
        in result.out
    )
    assert result.out.endswith('\nUse "kubectl yoshi options" for the flags of kubectl that every command takes.\n')
    assert "--kubeconfig" not in result.out


def test_options_lists_every_common_flag(yoshi: Yoshi) -> None:
    out = yoshi("options").out
    for flag in KUBECTL_FLAGS:
        assert flag.opts[-1] in out


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["vm", "--help"], ["version", "--client"], ["options"], ["vm"], ["no-such-command"],
        ["ips", "list", "--help"],
        ["vm", "attach", "--help"], ["network", "create", "--help"], ["sync", "--help"], ["install", "--help"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_fast_commands_import_no_heavy_modules(words: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kubectl_yoshi", *words], capture_output=True, text=True, check=False
    )
    imported = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time")
    }
    assert "kubectl_yoshi.cli.app" in imported
    assert imported.isdisjoint(HEAVY)
    assert not any(name.startswith(HEAVY_PACKAGES) for name in imported)


def test_group_help_imports_no_command() -> None:
    assert not {
        name for name in modules_after("cli.main(['vm', '--help'], standalone_mode=False)") if ".cli.vm" in name
    }


def test_command_modules_import_no_heavy_modules() -> None:
    load_all = """
def load(group):
    for name in group.table:
        command = group.get_command(None, name)
        if hasattr(command, "table"):
            load(command)
load(cli)
"""
    imported = modules_after(load_all)
    assert imported >= {"kubectl_yoshi.cli.vm.attach", "kubectl_yoshi.cli.ips.import_", "kubectl_yoshi.cli.install"}
    assert imported.isdisjoint(HEAVY)
    assert not any(name.startswith(HEAVY_PACKAGES) for name in imported)


def modules_after(code: str) -> set[str]:
    """Names of all modules that a process has imported after some code, in which `cli` is the root group."""
    program = f"import sys\nfrom kubectl_yoshi.cli.app import cli\n{code}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("argv0", "started", "name"),
    [
        ("/home/a/.krew/bin/kubectl-yoshi", "/usr/bin/kubectl", "kubectl yoshi"),
        ("/home/a/.krew/bin/kubectl-yoshi", "/usr/bin/kubecolor", "kubectl yoshi"),
        ("/home/a/.krew/bin/kubectl-yoshi", None, "kubectl yoshi"),
        ("C:/bin/kubectl-yoshi.exe", None, "kubectl yoshi"),
        ("/usr/bin/kubectl-yoshi", "/usr/bin/kubectl-yoshi", "kubectl-yoshi"),
        ("./kubectl-yoshi", "./kubectl-yoshi", "kubectl-yoshi"),
        ("kubectl-yoshi", None, "kubectl-yoshi"),
        ("kubectl-yoshi.exe", None, "kubectl-yoshi"),
        ("/src/kubectl_yoshi/__main__.py", "/usr/bin/python3", "python -m kubectl_yoshi"),
        ("/usr/bin/yoshi", "/usr/bin/yoshi", "yoshi"),
    ],
)
def test_program_name_is_the_typed_command(argv0: str, started: str | None, name: str) -> None:
    assert program_name(argv0, {"_": started} if started else {}) == name


def test_usage_has_the_program_name(yoshi: Yoshi) -> None:
    assert yoshi("version", "-h", program="yoshi").out.startswith("Usage: yoshi version ")


@pytest.mark.parametrize(
    ("words", "kubectl"),
    [
        (["-n", "prod", "group", "probe"], {"namespace": "prod"}),
        (["group", "-n", "prod", "probe"], {"namespace": "prod"}),
        (["group", "probe", "-n", "prod"], {"namespace": "prod"}),
        (["group", "probe", "web", "--namespace=prod", "db"], {"namespace": "prod"}),
        (["-n", "a", "group", "-n=b", "probe", "-nc"], {"namespace": "c"}),
        (["--namespace", "a", "group", "probe"], {"namespace": "a"}),
        (["-s", "https://x", "group", "probe"], {"server": "https://x"}),
        (["--as-group=a", "group", "probe", "--as-group", "b"], {"as_groups": ("a", "b")}),
        (["--as", "joe", "--as-uid", "7", "group", "probe"], {"as_user": "joe", "as_uid": "7"}),
        (["-v9", "group", "probe"], {"verbosity": 9}),
        (["-v=9", "group", "probe"], {"verbosity": 9}),
        (["group", "probe", "--v=6"], {"verbosity": 6}),
        (["--insecure-skip-tls-verify", "group", "probe"], {"insecure_skip_tls_verify": True}),
        (["--insecure-skip-tls-verify=true", "group", "probe"], {"insecure_skip_tls_verify": True}),
        (["--insecure-skip-tls-verify=false", "group", "probe"], {}),
        (["--cache-dir=/x", "--request-timeout=5s", "group", "probe"], {"cache_dir": "/x", "request_timeout": 5.0}),
        (["group", "probe", "--context", "c", "--cluster", "k", "--user", "u", "--token", "t"],
         {"context": "c", "cluster": "k", "user": "u", "token": "t"}),
        (["group", "probe", "--", "-n", "x"], {}),
    ],
)  # fmt: skip
def test_common_flags_are_accepted_at_every_level(
    yoshi: Yoshi, probe: dict[str, Any], words: list[str], kubectl: Any
) -> None:
    result = yoshi(*words)
    assert (result.code, result.err) == (0, "")
    assert probe["kubectl"] == kubectl


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ([], {"dry_run": "none", "wait": True, "all": False}),
        (["--dry-run"], {"dry_run": "client"}),
        (["--dry-run", "web"], {"dry_run": "client", "names": ("web",)}),
        (["--dry-run=server", "web"], {"dry_run": "server", "names": ("web",)}),
        (["--wait=false"], {"wait": False}),
        (["--wait=true"], {"wait": True}),
        (["--no-wait"], {"wait": False}),
        (["-A=true"], {"all": True}),
        (["--all=false"], {"all": False}),
        (["-o=json"], {"output": "json"}),
        (["-ojson"], {"output": "json"}),
        (["-o", "-n=x"], {"output": "-n=x"}),
        (["--", "--dry-run", "-o=x"], {"names": ("--dry-run", "-o=x"), "dry_run": "none"}),
    ],
)
def test_flags_have_the_kubectl_syntax(yoshi: Yoshi, probe: dict[str, Any], words: list[str], flags: Any) -> None:
    assert yoshi("group", "probe", *words).code == 0
    assert {key: probe[key] for key in flags} == flags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["foo"], 'unknown command "foo" for "kubectl yoshi"\nSee \'kubectl yoshi --help\' for usage.'),
        (
            ["vm", "atach"],
            'unknown command "atach" for "kubectl yoshi vm" (did you mean attach or detach?)\nSee',
        ),
        (["vers"], 'unknown command "vers" for "kubectl yoshi" (did you mean version?)\nSee'),
        (["get"], 'unknown command "get" for "kubectl yoshi" (use network list, vm list or ips list)\nSee'),
        (["ip", "assign"], 'unknown command "assign" for "kubectl yoshi ips" (use vm attach --ip)\nSee'),
        (["net", "prune"], 'unknown command "prune" for "kubectl yoshi network" (use ips gc)\nSee'),
        (["version", "--clent"], "unknown flag: --clent (did you mean --client"),
        (["-n"], "option '-n' requires an argument\nSee 'kubectl yoshi --help' for usage."),
        (["version", "-o", "xml"], 'unable to match a printer suitable for the output format "xml"'),
        (["version", "-v", "much"], "invalid value for '-v' / '--v': 'much' is not a valid integer range"),
        (["install", "--dry-run=maybe"], "invalid value for '--dry-run'"),
        (["completion", "tcsh"], 'unknown command "tcsh" for "kubectl yoshi completion"'),
    ],
)
def test_usage_error_names_the_help_command(yoshi: Yoshi, words: list[str], message: str) -> None:
    result = yoshi(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}")
    assert result.err.endswith(" --help' for usage.\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_shell_script(yoshi: Yoshi, shell: str) -> None:
    out = yoshi("completion", shell).out
    assert "__complete" in out and "kubectl-yoshi" in out


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["help"], ["--help"]),
        (["help", "vm"], ["vm", "--help"]),
        (["help", "vm", "attach"], ["vm", "attach", "--help"]),
        (["help", "nw", "list"], ["network", "list", "--help"]),
        (["--version"], ["version", "--client"]),
        (["-n", "prod", "--version"], ["version", "--client"]),
    ],
)
def test_help_and_version_accept_the_kubectl_forms(yoshi: Yoshi, words: list[str], same: list[str]) -> None:
    wanted, result = yoshi(*same), yoshi(*words)
    assert (result.code, result.out, result.err) == (0, wanted.out, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["help", "vm", "atach"], 'unknown command "atach" for "kubectl yoshi vm" (did you mean attach or detach?)'),
        (["help", "sync", "now"], '"kubectl yoshi sync" has no subcommands'),
    ],
)
def test_help_for_an_unknown_command_is_a_usage_error(yoshi: Yoshi, words: list[str], says: str) -> None:
    result = yoshi(*words)
    assert result.err.startswith(f"error: {says}")
    assert (result.code, result.out) == (2, "")


TRIED = (
    "get", "ls", "show", "describe", "add", "allocate", "assign", "associate", "unassign", "rm", "remove", "apply",
    "edit", "status", "doctor", "health", "prune", "restore", "recover",
)  # fmt: skip


@pytest.mark.parametrize("word", TRIED)
def test_suggested_commands_exist_and_their_words_do_not(word: str) -> None:
    """Of words that users of other tools try, in every group: they are commands, or name the one to use."""
    for group in (cli, *(cli.table[name] for name in ("network", "vm", "ips"))):
        assert isinstance(group, LazyGroup)
        instead = [text for text, words in group.suggestions.items() if word in words]
        is_command = word in {*group.table, *group.aliases}
        assert len(instead) + is_command == 1, f"{word} in {group.name}"
        for where, name in re.findall(r"(network|vm|ips) ([a-z]+)", " ".join(instead)):
            found = cli.table[where]
            assert isinstance(found, LazyGroup)
            assert name in found.table
