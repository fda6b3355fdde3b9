"""Programs started from an archive do not see its loader."""

from __future__ import annotations

import os
import sys

import pytest

from release.entry import own_environment


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_MEIPASS", "/opt/yoshi/_internal", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/yoshi/_internal")
    monkeypatch.setenv("_PYI_ARCHIVE_FILE", "/opt/yoshi/kubectl-yoshi")


def test_loader_libraries_are_not_passed_on() -> None:
    own_environment()
    assert "LD_LIBRARY_PATH" not in os.environ
    assert "_PYI_ARCHIVE_FILE" not in os.environ


def test_library_path_of_the_user_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/yoshi/_internal:/usr/lib/mine")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/usr/lib/mine")
    own_environment()
    assert os.environ["LD_LIBRARY_PATH"] == "/usr/lib/mine"
    assert "LD_LIBRARY_PATH_ORIG" not in os.environ


def test_library_path_without_a_loader_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib/mine")
    own_environment()
    assert os.environ["LD_LIBRARY_PATH"] == "/usr/lib/mine"
