"""pip and pipx install the program on each Python from 3.10 to 3.13 that is on this machine.

A machine with more than one must have the oldest and the newest, or their tests are skipped, which fails in CI. One
with a single Python, such as a container image, tries that one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

MINORS = range(10, 14)
ASK = "import ensurepip, json, sys, venv; print(json.dumps([sys.version_info[1], sys.executable]))"


def pythons() -> dict[str, str]:
    """An interpreter of each version that is here, this one among them: "3.11" -> its path."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [sys.executable, *(str(file) for file in sorted(pyenv.glob("3.*/bin/python3")))]
    candidates += [path for minor in MINORS if (path := shutil.which(f"python3.{minor}"))]
    found: dict[int, str] = {}
    for candidate in candidates:
        try:
            said = subprocess.run([candidate, "-c", ASK], capture_output=True, text=True, check=True, timeout=60).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        minor, executable = json.loads(said)
        if minor in MINORS:
            found.setdefault(minor, executable)
    return {f"3.{minor}": found[minor] for minor in sorted(found)}


PYTHONS = pythons()
OLDEST_AND_NEWEST = {f"3.{MINORS[0]}", f"3.{MINORS[-1]}"} if len(PYTHONS) > 1 else set()


@pytest.fixture(params=sorted({*PYTHONS, *OLDEST_AND_NEWEST}))
def version(request: pytest.FixtureRequest) -> str:
    """A version of Python that is on this machine."""
    found: str = request.param
    if found not in PYTHONS:
        pytest.skip(f"needs Python {found}")
    return found


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; nothing of this Python's environment is passed on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "PIPX"))}
    ran = subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, check=False, timeout=500, cwd="/"
    )
    assert ran.returncode == 0, ran
    return ran.stdout


def pip(venv: Path, *args: str | Path) -> None:
    run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", *args)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist that it is made from, as `python -m build` makes them."""
    folder = tmp_path_factory.mktemp("built")
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "sources", ignore=left_out, symlinks=True)
    run(sys.executable, "-m", "build", "--outdir", folder, folder / "sources")
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def works(folder: Path) -> None:
    """Both programs of a folder do what they do."""
    said = run(folder / "kubectl-yoshi", "version", "--client", "-o", "json")
    assert json.loads(said)["clientVersion"]["gitVersion"].startswith("v")
    path = f"{folder}:/usr/bin:/bin"
    assert run(folder / "kubectl_complete-yoshi", "network", "cre", PATH=path).startswith("create\tCreate a network")
    assert "complete -F" in run(folder / "kubectl-yoshi", "completion", "bash")


def test_wheel_contains_only_the_package_and_its_data_files(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
    tops = {name.partition("/")[0].partition("-")[0] for name in names}
    assert tops == {"kubectl_yoshi"}
    assert {f"kubectl_yoshi/completions/{file.name}" for file in (ROOT / "completions").iterdir()} <= set(names)
    assert {"kubectl_yoshi/manifests/crds.yaml", "kubectl_yoshi/manifests/roles.yaml"} <= set(names)
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_pip_installs_the_wheel(version: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    run(PYTHONS[version], "-m", "venv", tmp_path / "venv")
    pip(tmp_path / "venv", built[0])
    works(tmp_path / "venv" / "bin")
    assert f"Python Version: v{version}." in run(tmp_path / "venv" / "bin" / "kubectl-yoshi", "version", "--client")


def test_pip_installs_the_sdist(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Into a virtual environment that has what it depends on from the tests' own."""
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip(tmp_path / "venv", "--no-deps", built[1])
    here = Path(os.__file__).parent  # the standard library's, whose site-packages is another
    site = next(Path(entry) for entry in sys.path if entry.endswith("site-packages") and Path(entry).parent != here)
    packages = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    (packages / "of-the-tests.pth").write_text(f"{site}\n")
    works(tmp_path / "venv" / "bin")


@pytest.fixture(scope="module")
def pipx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    venv = tmp_path_factory.mktemp("pipx")
    run(sys.executable, "-m", "venv", venv)
    pip(venv, "pipx")
    return venv / "bin" / "pipx"


def test_pipx_installs_the_wheel(version: str, pipx: Path, built: tuple[Path, Path], tmp_path: Path) -> None:
    folders = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    run(pipx, "install", "--python", PYTHONS[version], built[0], **folders)
    works(tmp_path / "bin")
