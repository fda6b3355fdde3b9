"""The fork server of the full lab's tests, and what a release is tried with: the archive of `make dist`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.frr import check_installed
from release import bundle
from tests.cluster.harness import ForkServer, fork_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """The fork server of the tests' processes."""
    with fork_server() as server:
        yield server


@pytest.fixture(scope="module")
def frr_k8s_lab() -> Iterator[lab.Lab]:
    """A full lab in which frr-k8s configures BGP and reports its sessions, as MetalLB 0.16 has it by default."""
    try:
        check_installed()
    except lab.LabError as error:
        pytest.skip(str(error))
    if os.geteuid() != 0:
        pytest.skip("the full lab makes network namespaces, which needs root")
    with lab.start("full", name=f"frr-k8s-{os.getpid()}", bgp="frr-k8s") as running:
        yield running


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
