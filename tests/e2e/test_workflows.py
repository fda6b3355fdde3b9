"""GitHub's workflows, as far as they can be tried without GitHub: actionlint, and the scripts of a release and of the
documentation site, run here.

The archive for this machine is made; empty files stand for those of the other platforms, and a program that writes down
what it is asked for stands for GitHub's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.building import find_or_build
from lab.programs import ACTIONLINT
from lab.progress import Progress
from release.platforms import PLATFORMS, VERSION, this_platform
from tests.e2e.conftest import ROOT

WORKFLOWS = Path(".github/workflows")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
GH = '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.asked"\n'


def scripts(sources: Path, job: str, file: str = "release.yml") -> list[str]:
    """What a job's steps run, in order."""
    workflow: dict[str, Any] = yaml.safe_load((sources / WORKFLOWS / file).read_text())
    return [step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, as actions/checkout makes it, beside a Python of its own and GitHub's program."""
    checkout = tmp_path_factory.mktemp("runner") / "checkout"
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT, symlinks=True)
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Release"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run([sys.executable, "-m", "venv", checkout.parent / "python"], check=True)
    gh = checkout.parent / "python" / "bin" / "gh"
    gh.write_text(GH)
    gh.chmod(0o755)
    return checkout


def run(sources: Path, script: str, tag: str = VERSION) -> None:
    """Runs a script as a runner does (https://docs.github.com/en/actions/reference/workflows-and-actions)."""
    variables = {
        "HOME": str(sources.parent),
        "PATH": f"{sources.parent}/python/bin:{os.environ['PATH']}",
        "TAG": tag,
        "REPOSITORY": "some/where",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=sources, env=variables, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"


def test_actionlint_finds_nothing() -> None:
    actionlint = find_or_build([ACTIONLINT], Progress())[ACTIONLINT.name]
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    found = subprocess.run([actionlint, *files], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.timeout(1200)  # two archives, a wheel and a sdist
def test_release_scripts_create_all_published_files(sources: Path) -> None:
    for job in ("archive", "packages"):
        for script in scripts(sources, job):
            run(sources, script)
    dist = sources / "dist"
    for platform in PLATFORMS:
        (dist / platform.archive).touch()
    for script in scripts(sources, "publish"):
        run(sources, script)
    version = VERSION.removeprefix("v")
    published = {"yoshi.yaml", "SHA256SUMS", f"kubectl_yoshi-{version}.tar.gz"}
    published |= {f"kubectl_yoshi-{version}-py3-none-any.whl", f"{this_platform().archive}.cdx.json"}
    published |= {platform.archive for platform in PLATFORMS}
    asked = (sources.parent / "python" / "bin" / "gh.asked").read_text().splitlines()
    assert asked[:5] == ["release", "create", VERSION, "--verify-tag", "--generate-notes"]
    assert {Path(file).name for file in asked[5:]} == published
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=dist, check=True)
    uris = [p["uri"] for p in yaml.safe_load((dist / "yoshi.yaml").read_text())["spec"]["platforms"]]
    assert all(uri.startswith(f"https://github.com/some/where/releases/download/{VERSION}/") for uri in uris)


def test_krew_release_bot_template_names_the_repository(sources: Path) -> None:
    (script,) = scripts(sources, "krew")
    run(sources, script)
    text = (sources / ".krew.yaml").read_text()
    assert "REPOSITORY" not in text
    named = re.findall(r"https://github.com/(\S+?/\w+)", text.partition("\n")[2])
    assert named == ["some/where"] * (1 + len(PLATFORMS))


@pytest.mark.timeout(1200)  # packages from PyPI, and two builds of the site
def test_pages_scripts_publish_main_and_each_release(sources: Path, tmp_path: Path) -> None:
    origin = ["git", "-C", str(tmp_path)]
    subprocess.run([*origin, "init", "--quiet", "--bare"], check=True)
    subprocess.run(["git", "-C", sources, "remote", "add", "origin", tmp_path], check=True)
    for tag in ("", VERSION):
        for script in scripts(sources, "publish", "pages.yml"):
            run(sources, script, tag)
        subprocess.run(["git", "-C", sources, "branch", "--quiet", "-D", "gh-pages"], check=True)
    shown = subprocess.run([*origin, "show", "gh-pages:versions.json"], capture_output=True, text=True, check=True)
    published = [(one["version"], one["aliases"]) for one in yaml.safe_load(shown.stdout)]
    assert published == [("main", []), (VERSION.removeprefix("v"), ["latest"])]
    listed = ["ls-tree", "-r", "--name-only", "gh-pages"]
    files = subprocess.run([*origin, *listed], capture_output=True, text=True, check=True)
    assert {"index.html", "main/getting-started/index.html"} <= set(files.stdout.splitlines())


def test_release_with_a_tag_of_another_version_fails(sources: Path) -> None:
    run(sources, "! python -m release version v9.9.9 2>said && grep -q 'the tag is v9.9.9' said")
