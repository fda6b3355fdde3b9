"""Issue forms and dependabot's configuration, as GitHub's documentation describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).parents[3] / ".github"
FORMS = sorted(set(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) - {GITHUB / "ISSUE_TEMPLATE" / "config.yml"})
MANIFESTS = {"github-actions": ".github/workflows/ci.yml", "pip": "requirements.txt", "gomod": "go.mod"}


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_form_has_what_github_requires(path: Path) -> None:
    """https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests"""
    form = load(path)
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title"}
    inputs = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["type"] in ("input", "textarea", "dropdown", "checkboxes") for field in inputs)
    assert all(field["attributes"]["label"] for field in inputs)
    assert len({field["id"] for field in inputs}) == len(inputs) > 0


def test_dependabot_updates_folders_that_have_manifests() -> None:
    """https://docs.github.com/en/code-security/dependabot/working-with-dependabot/dependabot-options-reference"""
    root = GITHUB.parent
    configuration = load(GITHUB / "dependabot.yml")
    assert configuration["version"] == 2
    folders = {
        (entry["package-ecosystem"], folder)
        for entry in configuration["updates"]
        for folder in entry.get("directories") or [entry["directory"]]
    }
    for ecosystem, folder in folders:
        assert (root / folder.strip("/") / MANIFESTS[ecosystem]).is_file()
    programs = {f"/{path.parent.relative_to(root)}" for path in root.glob("lab/tools/*/go.mod")}
    assert {folder for ecosystem, folder in folders if ecosystem == "gomod"} == programs - {
        "/lab/tools/kubernetes-1.31"
    }
