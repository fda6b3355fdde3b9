"""What is inside an archive besides this program: the packages, their licenses, and the list of them as an SBOM."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path

from kubectl_yoshi import __version__
from release.platforms import Platform, ReleaseError

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
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
    """A CycloneDX document (https://cyclonedx.org/docs/1.6/json/) of what is in the archive of one platform."""
    ours = _component("kubectl-yoshi", __version__, "Apache-2.0", kind="application")
    python: dict[str, object] = {
        "type": "platform",
        "bom-ref": f"python@{platform.python_version()}",
        "name": "python",
        "version": platform.python_version(),
        "licenses": [{"license": {"id": "Python-2.0"}}],
        "cpe": f"cpe:2.3:a:python:python:{platform.python_version()}:*:*:*:*:*:*:*",
    }
    parts = [_component(p.metadata["Name"], p.version, _license(p), kind="library") for p in found]
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
        "components": [python, *parts],
        "dependencies": [{"ref": ours["bom-ref"], "dependsOn": [part["bom-ref"] for part in (python, *parts)]}],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(name: str, version: str, license_: str, *, kind: str) -> dict[str, object]:
    purl = f"pkg:pypi/{normalized(name)}@{version}"
    found: dict[str, object] = {"type": kind, "bom-ref": purl, "name": normalized(name), "version": version}
    if license_:
        found["licenses"] = [{"license": {"name": license_}}]
    return {**found, "purl": purl}


def _license(package: Distribution) -> str:
    """What a package says that its license is, in a line; "" where it says nothing short."""
    fields = package.metadata.json
    said = str(fields.get("license_expression") or fields.get("license") or "")
    return "" if "\n" in said else said
