"""The generated documents are current."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import kubectl_yoshi
from kubectl_yoshi.model.network import GROUP
from tools.documents.__main__ import main, stale
from tools.documents.api import api_page
from tools.documents.markdown import commands_page
from tools.documents.roff import man_pages
from tools.documents.tree import pages

PACKAGE = Path(kubectl_yoshi.__file__).parent
ROOT = PACKAGE.parent


def test_generated_references_are_current() -> None:
    assert not stale(), "run `make documents` and commit what it writes"


def test_outdated_file_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tools.documents.__main__.commands_page", lambda: "other")
    assert main(["--check"]) == 1
    assert "docs/reference/commands.md is not current" in capsys.readouterr().err


def test_reference_has_every_command_and_flag() -> None:
    text = commands_page()
    found = pages()
    assert {"kubectl yoshi network create", "kubectl yoshi vm attach", "kubectl yoshi version"} <= {
        p.title for p in found
    }
    for page in found[1:]:
        assert f"# {page.title}\n" in text
        for flag in page.flags:
            assert flag.spelling.replace("|", "\\|") in text


def test_api_reference_has_every_field_with_its_type_and_description() -> None:
    lines = api_page().splitlines()
    assert {"## NetworkWizard", "## AddressBlock", "- cidr never changes: make a new network"} <= set(lines)
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert rows["spec.exclude"].startswith("| `spec.exclude` | []string | Addresses that are never assigned")
    assert "| Required. The address of the peer. |" in rows["spec.bgpConfig.peers[].peerIP"]
    assert "One of `service`, `external-ips`." in rows["spec.public.via"]
    assert rows["status.allocations"].startswith("| `status.allocations` | map[string]Object |")
    assert {"status.allocations.KEY.uid", "status.history.KEY[].until", "status.conditions[].status"} <= set(rows)
    assert [field for field, row in rows.items() if row.endswith("|  |")] == []


def test_annotation_reference_has_every_annotation_of_the_program() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    used = {prefix + GROUP + name for prefix, name in re.findall(r'f"([a-z.]*)\{GROUP\}(/\w*)"', sources)}
    page = (ROOT / "docs" / "reference" / "annotations.md").read_text(encoding="utf-8")
    assert len(used) > 10
    assert [name for name in used - {f"{GROUP}/v1"} if f"`{name}" not in page] == []


def test_every_command_has_a_man_page() -> None:
    made = man_pages()
    assert set(made) == {f"{page.title.replace(' ', '-')}.1" for page in pages()}
    for name, text in made.items():
        assert all(not line.startswith(("'", "..")) for line in text.splitlines()), name
        assert all(line.split()[0] in REQUESTS for line in text.splitlines() if line.startswith(".")), name


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff")
def test_groff_accepts_every_man_page() -> None:
    command = ["groff", "-man", "-Tutf8", "-ww"]
    told = subprocess.run(command, input="\n".join(man_pages().values()), capture_output=True, text=True, check=True)
    assert not told.stderr


REQUESTS = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".nf", ".fi"}
