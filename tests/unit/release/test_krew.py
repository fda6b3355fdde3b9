"""krew's manifest: complete, consistent with the archives, and written by krew's guides."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.krew import BOT_TEMPLATE, MANIFEST, NO_SUM, REPOSITORY, checksums, filled, repository, sums_in
from release.platforms import PLATFORMS, VERSION, ReleaseError

TEXT = MANIFEST.read_text()
BOT_CALL = re.compile(r'^    \{\{addURIAndSha "([^"]+)" \.TagName \}\}$', re.MULTILINE)


def by_bot(text: str, sums: dict[str, str]) -> dict[str, Any]:
    """What krew-release-bot makes of its template, which is Go's text/template with one function."""

    def uri_and_sum(call: re.Match[str]) -> str:
        uri = call[1].replace("{{ .TagName }}", VERSION)
        return f'    uri: {uri}\n    sha256: "{sums[uri.rpartition("/")[2]]}"'

    return yaml.safe_load(BOT_CALL.sub(uri_and_sum, text).replace("{{ .TagName }}", VERSION))


def test_manifest_has_an_archive_for_each_platform() -> None:
    spec = yaml.safe_load(TEXT)["spec"]
    named = [(p["selector"]["matchLabels"], p["uri"].rpartition("/")[2], p["bin"]) for p in spec["platforms"]]
    assert named == [({"os": p.os, "arch": p.arch}, p.archive, p.program) for p in PLATFORMS]
    assert spec["version"] == VERSION


def test_checksums_and_the_repository_are_filled_in() -> None:
    sums = {platform.archive: hashlib.sha256(platform.archive.encode()).hexdigest() for platform in PLATFORMS}
    manifest = yaml.safe_load(filled(TEXT, sums, "some/where"))
    for platform in manifest["spec"]["platforms"]:
        assert platform["uri"].startswith(f"https://github.com/some/where/releases/download/{VERSION}/")
        assert platform["sha256"] == sums[platform["uri"].rpartition("/")[2]]
    assert "REPOSITORY" not in str(manifest)
    assert manifest == by_bot(BOT_TEMPLATE.read_text().replace("REPOSITORY", "some/where"), sums)


def test_templates_contain_no_repository_name() -> None:
    for template in (MANIFEST, BOT_TEMPLATE):
        named = re.findall(r"https://github\.com/([^\s/]+(?:/[^\s/]+)?)", template.read_text().partition("\n")[2])
        assert {name.removesuffix("/releases") for name in named} == {REPOSITORY}


def test_repository_of_the_project_takes_precedence() -> None:
    named = '[project]\nname = "x"\n\n[project.urls]\nSource = "https://github.com/some/where.git"\n\n[tool.x]\n'
    assert repository(named, "some/where") == "some/where"
    with pytest.raises(ReleaseError, match=r"pyproject.toml names some/where, and the release is made in a/fork"):
        repository(named, "a/fork")
    assert repository('[project]\n\n[tool.x]\ny = "https://github.com/some/tool"\n', "a/fork") == "a/fork"


def test_mismatching_manifest_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"says v9\.9"):
        filled(TEXT.replace(f"version: {VERSION}", "version: v9.9"), {}, "a/b")
    with pytest.raises(ReleaseError, match=r"names kubectl-yoshi_.*_plan9"):
        filled(TEXT.replace("linux_amd64", "plan9_amd64"), {}, "a/b")


def test_descriptions_follow_the_krew_guides() -> None:
    """https://krew.sigs.k8s.io/docs/developer-guide/develop/naming-guide/ and best-practices/, and what reviewers of
    krew-index ask for: says what it does, begins with a verb, no words that go without saying, no full stop."""
    manifest = yaml.safe_load(TEXT)
    spec = manifest["spec"]
    assert re.fullmatch(r"[a-z][a-z0-9-]*", manifest["metadata"]["name"])
    short = spec["shortDescription"]
    assert len(short) <= 50
    assert not short.endswith(".")
    assert not re.search(r"kubectl|plugin|kubernetes|yoshi|\b(a|the)\b", short, re.IGNORECASE)
    assert spec["homepage"].startswith("https://")
    for text in (spec["description"], spec["caveats"]):
        assert max(map(len, text.splitlines())) <= 80
    assert "kubectl yoshi install" in spec["caveats"]


def test_checksums_have_the_sha256sum_format(tmp_path: Path) -> None:
    archive = tmp_path / PLATFORMS[0].archive
    archive.write_bytes(b"x")
    (tmp_path / "other.txt").write_text("y")
    assert sums_in(tmp_path) == {archive.name: hashlib.sha256(b"x").hexdigest()}
    (tmp_path / "SHA256SUMS").write_text(checksums(tmp_path))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == 2
    assert NO_SUM not in filled(TEXT, sums_in(tmp_path), "a/b").partition("arm64")[0]
