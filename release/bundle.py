"""Build the archive of this machine: a folder with a program that needs no Python of the user's.

PyInstaller (https://pyinstaller.org) puts the program, an interpreter and what is used of the dependencies into one
folder; it is started from there, nothing is unpacked first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from release.archives import EARLIEST, pack, sort_zip
from release.contents import BOOTLOADER, REQUIREMENTS, bill_of_materials, copy_licenses, installed, pinned
from release.platforms import ReleaseError, this_platform
from tools.documents.tree import pages

ROOT = Path(__file__).parent.parent
COMPLETER = "kubectl_complete-yoshi"
MAN_PAGES = "share/man/man1"
"""Where man finds them of itself, if the archive's folder is on PATH."""


def build(target: Path, work: Path) -> Path:
    """Makes the archive and, beside it, the list of what is in it.

    Args:
        target: the folder to write into.
        work: a folder for what is made on the way; the packages that are installed there are used again.

    Returns:
        The archive.

    Raises:
        ReleaseError: it cannot be made.
    """
    where = this_platform()
    epoch = epoch_of_sources()
    python = environment(work)
    text = REQUIREMENTS.read_text()
    makers = [package for package in pinned(text, tools=True) if package.name == BOOTLOADER]
    packages = installed([*pinned(text), *makers], _packages_of(python))
    with tempfile.TemporaryDirectory(dir=work, prefix="bundle-") as scratch:
        folder = _pyinstaller(python, Path(scratch), epoch)
        shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
        shutil.copytree(ROOT / "kubectl_yoshi" / "completions", folder / "completions")
        shutil.move(folder / "completions" / COMPLETER, folder / COMPLETER)
        (folder / COMPLETER).chmod(0o755)
        _run([str(python), "-m", "tools.documents", "--man", str(folder / MAN_PAGES)])
        copy_licenses(packages, folder / "licenses")
        target.mkdir(parents=True, exist_ok=True)
        archive = target / where.archive
        pack(folder, archive, epoch=epoch)
    sbom = target / f"{where.archive}.cdx.json"
    sbom.write_text(bill_of_materials(packages, where, epoch), encoding="utf-8")
    return archive


def epoch_of_sources() -> int:
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), else when the last commit was made,
    else the beginning of 1980."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not said:
        git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        try:
            said = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return EARLIEST
    if not said.isdecimal():
        raise ReleaseError(f'SOURCE_DATE_EPOCH is a number of seconds, not "{said}"')
    return max(int(said), EARLIEST)


def start_seconds(program: Path, runs: int = 9) -> tuple[float, float]:
    """How long `version` takes, the median and the least of some runs, after one that is not counted."""
    taken = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        _run([str(program), "version", "--client"])
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:]), min(taken[1:])


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks an archive of this platform into a folder; gives the program in it."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4
                tar.extraction_filter = staticmethod(tarfile.data_filter)
            tar.extractall(folder)
    return folder / this_platform().program


def environment(work: Path) -> Path:
    """The interpreter of a virtual environment that has what release/requirements.txt names, and no more."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + sys.prefix.encode()).hexdigest()[:12]
    venv = work / f"packages-{key}"
    python = venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (venv / ".complete").exists():
        shutil.rmtree(venv, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(venv)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        _run([*pip, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)])
        (venv / ".complete").touch()
    return python


def _packages_of(python: Path) -> Path:
    return Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())


def _pyinstaller(python: Path, scratch: Path, epoch: int) -> Path:
    variables = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
        "PYINSTALLER_CONFIG_DIR": str(scratch / "cache"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(python), "-m", "PyInstaller", "--log-level=ERROR", "--noconfirm"]
    command += [f"--workpath={scratch / 'work'}", f"--distpath={scratch / 'dist'}"]
    _run([*command, str(ROOT / "release" / "bundle.spec")], variables)
    folder = scratch / "dist" / "kubectl-yoshi"
    sort_zip(folder / "_internal" / "base_library.zip")  # whose order PyInstaller does not keep each time
    return folder


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-15:])
        raise ReleaseError(f"{' '.join(command)} failed:\n{said}")
    return ran.stdout


def report(archive: Path) -> str:
    """Tries an archive of this platform: unpacked elsewhere, its program must know every command.

    Returns:
        A line on its size packed and unpacked, and how long its program takes to start.

    Raises:
        ReleaseError: a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = unpack(archive, Path(folder))
        for page in pages():
            _run([str(program), *page.words[1:], "--help"])
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        median, least = start_seconds(program)
    megabytes = f"{archive.stat().st_size / 1e6:.1f} MB packed, {size / 1e6:.1f} MB unpacked"
    return f"{archive.name}: {megabytes}; `version` takes {median:.2f} s, at best {least:.2f} s"
