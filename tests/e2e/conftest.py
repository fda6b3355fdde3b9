"""What a release is tried with: the archive for this machine, as `make dist` makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from release import bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive for the machine that this runs on."""
    return bundle.build(tmp_path_factory.mktemp("dist"), ROOT / "build")


@pytest.fixture(scope="session")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the archive unpacks to."""
    folder = tmp_path_factory.mktemp("unpacked")
    bundle.unpack(archive, folder)
    return folder
