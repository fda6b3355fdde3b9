"""The contents of archives: pinned packages, their licenses, and their list."""

from __future__ import annotations

import json
import re
import sysconfig
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release.contents import REQUIREMENTS, Package, bill_of_materials, copy_licenses, installed, normalized, pinned
from release.platforms import Platform, ReleaseError

ROOT = Path(__file__).parents[3]
TEXT = REQUIREMENTS.read_text()


def of_project(key: str) -> set[str]:
    """The names of the packages of an array of pyproject.toml."""
    found = re.search(rf"^{key} = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert found, key
    return {normalized(name) for name in re.findall(r'^\s*"([A-Za-z0-9._-]+)', found[1], re.MULTILINE)}


def test_all_dependencies_are_pinned() -> None:
    assert of_project("dependencies") <= {package.name for package in pinned(TEXT)}
    assert of_project("dist") <= {package.name for package in pinned(TEXT, tools=True)}


def test_every_package_has_checksums() -> None:
    entries = re.split(r"\n(?=[A-Za-z])", TEXT.partition("\n")[2])
    assert len(entries) == len(pinned(TEXT)) + len(pinned(TEXT, tools=True))
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


def made(folder: Path, *, files: dict[str, str], license_: str = "License-Expression: MIT") -> Distribution:
    """A package as pip installs it."""
    info = folder / "Some_Thing-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: Some.Thing\nVersion: 1.2\n{license_}\n")
    for name, text in files.items():
        (info / name).write_text(text)
    (info / "RECORD").write_text("".join(f"{info.name}/{name},,\n" for name in ["METADATA", *files]))
    return installed([Package("some-thing", "1.2")], folder)[0]


def test_licenses_are_copied_and_missing_ones_refused(tmp_path: Path) -> None:
    copy_licenses([made(tmp_path / "a", files={"LICENSE.txt": "be nice"})], tmp_path / "out")
    assert (tmp_path / "out" / "some-thing-1.2" / "LICENSE.txt").read_text() == "be nice"
    with pytest.raises(ReleaseError, match=r"Some.Thing has no license"):
        copy_licenses([made(tmp_path / "b", files={})], tmp_path / "out2")


def test_package_of_another_version_is_refused() -> None:
    here = Path(sysconfig.get_path("purelib"))
    assert installed([Package("click", distribution("click").version)], here)
    with pytest.raises(ReleaseError, match=r"has no click 0\.1"):
        installed([Package("click", "0.1")], here)


ON_ARM = Platform("linux", "arm64")


def test_sbom_lists_each_package_once(tmp_path: Path) -> None:
    package = made(tmp_path, files={"LICENSE": ""})
    document = json.loads(bill_of_materials([package], ON_ARM, 1_700_000_000))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert document["metadata"]["component"]["purl"].startswith("pkg:pypi/kubectl-yoshi@")
    assert [part["name"] for part in document["components"]] == ["python", "openssl", "expat", "zlib", "some-thing"]
    assert document["components"][-1]["licenses"] == [{"license": {"id": "MIT"}}]
    refs = [part["bom-ref"] for part in document["components"]]
    assert document["dependencies"][0]["dependsOn"] == refs


@pytest.mark.parametrize(
    ("license_", "valid"), [("MIT", True), ("GPL-2.0-or-later WITH Bootloader-exception", True), ("BSDish", False)]
)
def test_sbom_is_valid_by_the_cyclonedx_schema(tmp_path: Path, license_: str, valid: bool) -> None:
    package = made(tmp_path, files={}, license_=f"License-Expression: {license_}")
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill_of_materials([package], ON_ARM, 0))
    assert (wrong is None) is valid, wrong


@pytest.mark.parametrize("license_", ["Summary: none", "License: proprietary\n  and none"])
def test_package_without_a_one_line_license_is_refused(tmp_path: Path, license_: str) -> None:
    with pytest.raises(ReleaseError, match=r"some-thing does not say its license"):
        bill_of_materials([made(tmp_path, files={}, license_=license_)], ON_ARM, 0)
