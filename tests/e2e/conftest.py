"""The fork server of the full lab's tests, and what a release is tried with: the archive of `make dist`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from release import bundle
from tests.cluster.harness import ForkServer, fork_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """The fork server of the tests' processes."""
    with fork_server() as server:
        yield server


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
