"""Search of programs: KUBEBUILDER_ASSETS, the cache, setup-envtest's folder; never one of a wrong version."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import LabError
from lab.programs import (
    ETCD,
    FRR_K8S,
    GOBGP,
    KUBERNETES_MODULE,
    KWOK,
    NEWEST_KUBERNETES,
    OLDEST_KUBERNETES,
    find,
    kubernetes_program,
    programs_of,
)

SERVER = kubernetes_program("kube-apiserver", NEWEST_KUBERNETES)


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def place(file: Path, version: str = "v1.36.0") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
    file.chmod(0o755)
    return file


def test_no_program_is_found_on_a_fresh_machine() -> None:
    assert find(ETCD) is None


def test_search_order_of_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envtest = place(tmp_path / "data" / "kubebuilder-envtest" / "k8s" / "1.36.0-linux-amd64" / "kube-apiserver")
    assert find(SERVER) == envtest
    cached = place(SERVER.cached)
    assert find(SERVER) == cached
    assets = place(tmp_path / "assets" / "kube-apiserver")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets.parent))
    assert find(SERVER) == assets


def test_newest_setup_envtest_version_is_chosen_numerically(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "kubebuilder-envtest" / "k8s"
    place(folder / "1.36.9-linux-amd64" / "kube-apiserver")
    newest = place(folder / "1.36.10-linux-amd64" / "kube-apiserver")
    assert find(SERVER) == newest


def test_binary_of_another_minor_version_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = place(tmp_path / "assets" / "kube-apiserver", version="v1.34.1")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets.parent))
    assert find(SERVER) is None
    cached = place(SERVER.cached)
    assert find(SERVER) == cached


def test_file_that_is_not_executable_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = place(tmp_path / "assets" / "etcd")
    assets.chmod(0o644)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets.parent))
    assert find(ETCD) is None


@pytest.mark.parametrize(
    ("program", "start"),
    [
        (SERVER, "kubernetes-v1.36."),
        (ETCD, "etcd-v3."),
        (KWOK, "kwok-v"),
        (GOBGP, "gobgp-v3."),
        (FRR_K8S, "frr-k8s-v"),
    ],
)
def test_cache_folders_contain_the_version(program: object, start: str) -> None:
    assert program.cached.parent.name.startswith(start)  # type: ignore[attr-defined]


def test_programs_of_kubernetes_are_of_the_chosen_version() -> None:
    programs = [program for program in programs_of("full", OLDEST_KUBERNETES) if program.module == KUBERNETES_MODULE]
    assert [program.name for program in programs] == ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    assert all(program.version.startswith(f"v{OLDEST_KUBERNETES}.") for program in programs)


def test_readme_names_the_oldest_tested_kubernetes() -> None:
    readme = Path(__file__).parents[3] / "README.md"
    assert f"Kubernetes is {OLDEST_KUBERNETES} or newer" in readme.read_text()


def test_unknown_kubernetes_version_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"1\.36, 1\.31"):
        programs_of("core", "1.12")
