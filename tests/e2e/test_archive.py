"""The archive that needs no Python: small, the same from the same sources, and able to do all that the program does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from lab.testing import Cluster
from release.archives import pack, sha256
from release.bundle import MAN_PAGES, environment, epoch_of_sources, report
from release.contents import normalized
from release.platforms import ReleaseError
from tests.cpu_time import least_work
from tests.e2e.conftest import ROOT
from tools.documents.roff import man_pages

MEGABYTES = 40
SECONDS = 0.25
PLUGIN = """#!/bin/sh
env > '{seen}'
cat '{answer}'
"""
DISTRIBUTIONS = """
import json, sys
from importlib.metadata import packages_distributions
from PyInstaller.archive.readers import CArchiveReader
program = CArchiveReader(sys.argv[1])
modules = program.open_embedded_archive(next(name for name in program.toc if name.endswith(".pyz"))).toc
known = packages_distributions()
print(json.dumps(sorted({name for module in modules for name in known.get(module.partition(".")[0], [])})))
"""


def run(program: Path, *args: str | Path, code: int = 0, **environment: str) -> str:
    """What the archive's program prints, started with nothing of this Python's environment."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment}
    ran = subprocess.run([program, *args], env=clean, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == code, ran
    return ran.stdout


@pytest.fixture
def program(unpacked: Path) -> Path:
    return unpacked / "kubectl-yoshi"


def test_archive_is_small_and_has_license_and_completions(archive: Path, unpacked: Path) -> None:
    assert archive.stat().st_size <= MEGABYTES * 1e6
    assert (unpacked / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    for name in ("_kubectl-yoshi", "kubectl-yoshi.bash", "kubectl-yoshi.fish"):
        assert (unpacked / "completions" / name).read_text() == (ROOT / "completions" / name).read_text()
    assert os.access(unpacked / "kubectl_complete-yoshi", os.X_OK)


def test_archive_has_all_data_files_of_the_package(unpacked: Path) -> None:
    package = ROOT / "kubectl_yoshi"
    files = [f.relative_to(package) for f in package.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")]
    assert Path("manifests/policies/allocations.yaml") in files
    for file in files:
        assert (unpacked / "_internal" / "kubectl_yoshi" / file).read_bytes() == (package / file).read_bytes()


def test_sbom_lists_every_included_distribution(archive: Path, unpacked: Path, program: Path) -> None:
    text = archive.with_name(f"{archive.name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = json.loads(text)["components"]
    assert all(part["version"] and part["purl"].endswith(part["version"]) and part["licenses"] for part in parts)
    # What is in the program, as PyInstaller's own reader tells, and which packages those modules are of.
    inside = run(environment(ROOT / "build"), "-I", "-c", DISTRIBUTIONS, program)
    python = {part["purl"] for part in parts if part["purl"].startswith("pkg:pypi/")}
    assert {purl.partition("@")[0].removeprefix("pkg:pypi/") for purl in python} == {
        normalized(name) for name in ["pyinstaller", *json.loads(inside)]
    }
    licensed = {f"{part['name']}-{part['version']}" for part in parts if part["purl"] in python}
    assert {folder.name for folder in (unpacked / "licenses").iterdir() if "python-3" not in folder.name} == licensed


def test_archive_has_a_man_page_for_every_command(unpacked: Path) -> None:
    made = {file.name: file.read_text() for file in (unpacked / MAN_PAGES).iterdir()}
    assert made.keys() == man_pages().keys()
    assert "\n.SH SYNOPSIS\n.B kubectl yoshi vm attach\n" in made["kubectl-yoshi-vm-attach.1"]


def test_man_finds_the_pages(unpacked: Path) -> None:
    man = shutil.which("man")
    if man is None:
        pytest.skip("needs man")
    page = unpacked / MAN_PAGES / "kubectl-yoshi-vm-attach.1"
    for flags, path in ([], f"{unpacked}:/usr/bin:/bin"), (["-M", unpacked / "share" / "man"], "/usr/bin:/bin"):
        assert run(Path(man), *flags, "-w", page.stem, PATH=path).strip() == str(page)


def test_archive_contains_no_unused_packages(unpacked: Path) -> None:
    names = {path.name.partition(".")[0] for path in unpacked.rglob("*")}
    assert names.isdisjoint({"aiohttp", "pydantic_core", "_codecs_jp", "_sqlite3", "_tkinter", "pip", "setuptools"})


def test_archive_is_reproducible(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in ("kubectl_yoshi", "release", "tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", copy)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_of_sources()), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "release", f"--dist={tmp_path}", f"--work={ROOT / 'build'}", "archive"]
    said = subprocess.run(
        command, cwd=copy, env=environment, umask=0o077, capture_output=True, text=True, check=False, timeout=500
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"{archive.name}: ")
    assert sha256(tmp_path / archive.name) == sha256(archive)


def test_program_runs_from_any_folder_and_by_a_symlink(program: Path, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "kubectl-yoshi"
    link.parent.mkdir()
    link.symlink_to(program)
    assert run(link, "version", "--client").startswith("Client Version: v")
    alone = subprocess.run(
        ["kubectl-yoshi", "--help"], env={"PATH": str(link.parent)}, capture_output=True, text=True, check=True
    )
    assert alone.stdout.startswith("Usage: kubectl-yoshi ")
    assert run(link, "--help").startswith("Usage: kubectl yoshi ")


def test_program_has_every_command(archive: Path, program: Path) -> None:
    assert report(archive).startswith(f"{archive.name}: ")
    assert run(program, "network", "create", "--help").startswith("Usage: kubectl yoshi network create")
    assert "#compdef kubectl-yoshi" in run(program, "completion", "zsh")
    assert run(program, "__complete", "network", "cre").startswith("create\tCreate a network")


def test_check_finds_an_archive_without_a_command(archive: Path, unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked, tmp_path / "lacks", symlinks=True)
    (tmp_path / "lacks" / "kubectl-yoshi").write_text('#!/bin/sh\n[ "$1 $2" != "vm attach" ] || exit 2\n')
    pack(tmp_path / "lacks", tmp_path / archive.name, epoch=0)
    with pytest.raises(ReleaseError, match="kubectl-yoshi vm attach --help failed"):
        report(tmp_path / archive.name)


def test_program_starts_with_little_cpu_time(program: Path) -> None:
    """Processor time, which a busy machine does not stretch as it does the clock's."""
    assert least_work(lambda: run(program, "version", "--client")) <= SECONDS


def test_credential_plugin_does_not_inherit_the_archive_libraries(
    program: Path, cluster: Cluster, tmp_path: Path
) -> None:
    """Nor anything else of its loader's."""
    config = yaml.safe_load(cluster.kubectl("config", "view", "--raw", "--flatten", "--minify"))
    status = {"token": config["users"][0]["user"]["token"]}
    version = "client.authentication.k8s.io/v1"
    answer, seen, plugin = tmp_path / "answer", tmp_path / "seen", tmp_path / "plugin"
    answer.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
    plugin.write_text(PLUGIN.format(answer=answer, seen=seen))
    plugin.chmod(0o755)
    config["users"][0]["user"] = {"exec": {"apiVersion": version, "command": str(plugin), "interactiveMode": "Never"}}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    said = run(program, "version", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert "Server Version: v1." in said
    assert not [line for line in seen.read_text().splitlines() if "_internal" in line or line.startswith("_PYI")]
