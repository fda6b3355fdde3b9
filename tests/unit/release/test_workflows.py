"""GitHub's workflows: they parse, cover every platform, and run only pinned code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.krew import MANIFEST
from release.platforms import PLATFORMS

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(file.name for file in FOLDER.glob("*.yml"))
RUNNERS = {
    ("linux", "amd64"): "ubuntu-22.04",
    ("linux", "arm64"): "ubuntu-22.04-arm",
    ("darwin", "amd64"): "macos-15-intel",
    ("darwin", "arm64"): "macos-15",
    ("windows", "amd64"): "windows-2022",
}
"""https://docs.github.com/en/actions/reference/runners/github-hosted-runners"""


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return loaded


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in workflow(name)["jobs"].values():
        yield from job["steps"]


def test_every_platform_of_the_manifest_is_built_on_its_own_runner() -> None:
    matrix = workflow("release.yml")["jobs"]["archive"]["strategy"]["matrix"]["include"]
    made = {(entry["os"], entry["arch"]): entry["runner"] for entry in matrix}
    platforms = yaml.safe_load(MANIFEST.read_text())["spec"]["platforms"]
    wanted = {(p["selector"]["matchLabels"]["os"], p["selector"]["matchLabels"]["arch"]) for p in platforms}
    assert set(made) == wanted == {(p.os, p.arch) for p in PLATFORMS}
    assert made == RUNNERS


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_to_commits_with_their_version(name: str) -> None:
    lines = [line.strip() for line in (FOLDER / name).read_text().splitlines() if "uses:" in line]
    assert lines
    pinned = re.compile(r"(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in lines if not pinned.fullmatch(line)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_jobs_have_minimal_permissions(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    writers = {job for job, said in found["jobs"].items() if "write" in (said.get("permissions") or {}).values()}
    assert writers <= {"publish", "pypi"}
    assert all(job["timeout-minutes"] <= 90 for job in found["jobs"].values())
    checkouts = [step for step in steps(name) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_scripts_contain_no_expressions(name: str) -> None:
    """A branch's or tag's name would be run (https://docs.github.com/en/actions/reference/security/secure-use)."""
    assert [step["run"] for step in steps(name) if "${{" in step.get("run", "")] == []


def test_release_is_attested_and_published_without_a_token() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["publish"]["needs"] == ["archive", "packages"]
    assert jobs["publish"]["if"] == "github.ref_type == 'tag'"
    used = [step.get("uses", "").partition("@")[0] for step in jobs["publish"]["steps"]]
    assert "actions/attest-build-provenance" in used
    script = "\n".join(step.get("run", "") for step in jobs["publish"]["steps"])
    assert re.findall(r"python -m release (\w+)", script) == ["version", "krew", "checksums"]
    assert (jobs["pypi"]["permissions"], jobs["pypi"]["environment"]) == ({"id-token": "write"}, "pypi")
    assert "password" not in str(jobs["pypi"]["steps"])
