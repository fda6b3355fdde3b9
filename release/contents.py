"""The contents of an archive besides this program: the packages, their licenses, and their list as an SBOM."""

from __future__ import annotations

import json
import platform
import pyexpat
import re
import shutil
import ssl
import sysconfig
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path

from kubectl_yoshi import __version__
from release.platforms import Platform, ReleaseError

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
BOOTLOADER = "pyinstaller"
"""The one of the packages that make an archive of which something gets in: what starts the program."""
LICENSES = {"netaddr": "BSD-3-Clause", BOOTLOADER: "GPL-2.0-or-later WITH Bootloader-exception"}
"""SPDX's words (https://spdx.org/licenses/) for packages that say it in others."""
_TOOLS = "# What makes them."


@dataclass(frozen=True)
class Package:
    """A Python package of one version, under its normalized name."""

    name: str
    version: str


def normalized(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str, *, tools: bool = False) -> list[Package]:
    """The packages of a requirements file that get into the archives, or those that make them."""
    inside, _, makers = text.partition(_TOOLS)
    lines = (makers if tools else inside).splitlines()
    found = [re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines]
    return [Package(normalized(match[1]), match[2]) for match in found if match]


def installed(packages: Sequence[Package], folder: Path) -> list[Distribution]:
    """The packages as they are installed in a folder of packages.

    Raises:
        ReleaseError: one is not there, or of another version.
    """
    there = {normalized(found.metadata["Name"]): found for found in distributions(path=[str(folder)])}
    for package in packages:
        if package.name not in there or there[package.name].version != package.version:
            raise ReleaseError(f"{folder} has no {package.name} {package.version}")
    return [there[package.name] for package in packages]


def copy_licenses(found: Sequence[Distribution], target: Path) -> None:
    """Copies each package's license files, and Python's, into a folder of its own below `target`.

    Raises:
        ReleaseError: a package has none.
    """
    for package in found:
        files = [f for f in package.files or [] if re.match(r"(LICEN[CS]E|COPYING|NOTICE)", f.name, re.IGNORECASE)]
        files = [f for f in files if f.suffix != ".py"]
        if not files:
            raise ReleaseError(f"{package.metadata['Name']} has no license file")
        folder = target / f"{normalized(package.metadata['Name'])}-{package.version}"
        folder.mkdir(parents=True)
        for file in files:
            shutil.copyfile(str(file.locate()), folder / file.name)
    python = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if python.exists():
        folder = target / f"python-{platform.python_version()}"
        folder.mkdir(parents=True)
        shutil.copyfile(python, folder / "LICENSE.txt")


def bill_of_materials(found: Sequence[Distribution], where: Platform, epoch: int) -> str:
    """A CycloneDX document (https://cyclonedx.org/docs/1.6/json/) of what is in the archive of one platform.

    Args:
        found: the packages in it, the program itself and the interpreter's own parts besides.
        where: the platform.
        epoch: when it was made, in seconds since 1970.

    Raises:
        ReleaseError: a package does not say its license in one line.
    """
    ours = _package("kubectl-yoshi", __version__, "Apache-2.0", kind="application")
    parts = [*_interpreter(), *(_package(p.metadata["Name"], p.version, _license(p)) for p in found)]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": ours,
            "properties": [{"name": "kubectl-yoshi:platform", "value": f"{where.os}/{where.arch}"}],
        },
        "components": parts,
        "dependencies": [{"ref": ours["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    return json.dumps(document, indent=2) + "\n"


def _interpreter() -> list[dict[str, object]]:
    """Return Python and its bundled libraries with a known version, so that vulnerabilities can be looked up."""
    openssl = ssl.OPENSSL_VERSION.split()[1]
    expat = pyexpat.EXPAT_VERSION.removeprefix("expat_")
    return [
        _generic("python", platform.python_version(), "Python-2.0", "python:python", kind="platform"),
        _generic("openssl", openssl, "Apache-2.0", "openssl:openssl"),
        _generic("expat", expat, "MIT", "libexpat_project:libexpat"),
        _generic("zlib", zlib.ZLIB_RUNTIME_VERSION, "Zlib", "zlib:zlib"),
    ]


def _package(name: str, version: str, license_: str, *, kind: str = "library") -> dict[str, object]:
    name = normalized(name)
    return _component(kind, name, version, license_, f"pkg:pypi/{name}@{version}")


def _generic(name: str, version: str, license_: str, product: str, *, kind: str = "library") -> dict[str, object]:
    """What is not from PyPI; scanners know it by its CPE."""
    cpe = f"cpe:2.3:a:{product}:{version}:*:*:*:*:*:*:*"
    return {**_component(kind, name, version, license_, f"pkg:generic/{name}@{version}"), "cpe": cpe}


def _component(kind: str, name: str, version: str, license_: str, purl: str) -> dict[str, object]:
    said = {"expression": license_} if " " in license_ else {"license": {"id": license_}}
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "licenses": [said], "purl": purl}


def _license(package: Distribution) -> str:
    """A package's license in SPDX's words."""
    fields = package.metadata.json
    name = normalized(package.metadata["Name"])
    said = str(LICENSES.get(name) or fields.get("license_expression") or fields.get("license") or "")
    if not said or "\n" in said:
        raise ReleaseError(f"{name} does not say its license in a line; see release/contents.py: LICENSES")
    return said
