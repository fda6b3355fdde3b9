"""krew, built from its own Go module, installs the archive of this machine in a home of its own, and removes it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from lab.building import find_or_build
from lab.programs import KREW, VALIDATE_KREW_MANIFEST
from lab.progress import Progress
from lab.running import kubectl_command
from lab.testing import Cluster
from release.krew import MANIFEST, filled, sums_in


@dataclass(frozen=True)
class HomeFolder:
    """Somebody who has kubectl and krew, and nothing else of ours.

    Attributes:
        folder: $HOME.
        kubeconfig: of the cluster.
    """

    folder: Path
    kubeconfig: Path

    def run(self, *command: str, code: int = 0) -> str:
        """What a command prints, stdout and stderr together."""
        environment = {
            "HOME": str(self.folder),
            "PATH": f"{self.folder}/.krew/bin:{self.folder}/bin:/usr/local/bin:/usr/bin:/bin",
            "KUBECONFIG": str(self.kubeconfig),
            "KREW_NO_UPGRADE_CHECK": "1",
            "KREW_DEFAULT_INDEX_URI": f"{self.folder}/index",
            "KUBECTL_YOSHI_COMPLETION_SECONDS": "60",
            "LANG": "C.UTF-8",
        }
        ran = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert ran.returncode == code, ran
        return ran.stdout


@pytest.fixture(scope="module")
def krew() -> dict[str, Path]:
    """krew's programs."""
    return find_or_build([KREW, VALIDATE_KREW_MANIFEST], Progress())


@pytest.fixture
def manifest(archive: Path, tmp_path: Path) -> Path:
    """krew-manifest.yaml as a release fills it in, with the checksum of the one archive that is here."""
    file = tmp_path / "yoshi.yaml"  # krew's validation wants it to have the plugin's name
    file.write_text(filled(MANIFEST.read_text(), sums_in(archive.parent), "example/kubectl-yoshi"))
    return file


@pytest.fixture
def home(krew: dict[str, Path], cluster: Cluster, tmp_path: Path) -> HomeFolder:
    programs = tmp_path / "home" / "bin"
    programs.mkdir(parents=True)
    (programs / "kubectl").symlink_to(kubectl_command())
    (programs / "kubectl-krew").symlink_to(krew["krew"])
    # Of a kubeconfig with several contexts, the tests' own is the current one.
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubectl("config", "view", "--raw", "--flatten", "--minify"))
    found = HomeFolder(tmp_path / "home", kubeconfig)
    # An index with no plugins in it, since the real one would have to be fetched.
    (found.folder / "index" / "plugins").mkdir(parents=True)
    (found.folder / "index" / "plugins" / "README").touch()
    git = ("git", "-C", str(found.folder / "index"), "-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Begin"]):
        found.run(*git, *words)
    found.run("kubectl", "krew", "update")
    return found


@pytest.fixture
def installed(home: HomeFolder, manifest: Path, archive: Path) -> Iterator[HomeFolder]:
    """The home after `kubectl krew install`, and after `kubectl yoshi install` in the cluster."""
    said = home.run("kubectl", "krew", "install", f"--manifest={manifest}", f"--archive={archive}")
    assert "Installed plugin: yoshi" in said
    assert "kubectl yoshi install" in said  # the caveats
    home.run("kubectl", "yoshi", "install")
    yield home
    home.run("kubectl", "krew", "uninstall", "yoshi")
    assert not os.path.lexists(home.folder / ".krew" / "bin" / "kubectl-yoshi")
    assert not (home.folder / ".krew" / "store" / "yoshi").exists()
    assert "yoshi" not in home.run("kubectl", "krew", "list")
    assert 'unknown command "yoshi"' in home.run("kubectl", "yoshi", "version", code=1)


def validate(krew: dict[str, Path], manifest: Path, *flags: str, path: str = "") -> str:
    """What krew's own validation says, which is what the reviewers of its index run."""
    command = [krew["validate-krew-manifest"], "-manifest", manifest, "-stderrthreshold=0", *flags]
    ran = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran
    return ran.stderr


@pytest.mark.parametrize("which", ["as it is kept", "as a release fills it in"])
def test_manifest_passes_krew_validation(krew: dict[str, Path], manifest: Path, tmp_path: Path, which: str) -> None:
    if which == "as it is kept":
        manifest = tmp_path / "kept" / manifest.name
        manifest.parent.mkdir()
        manifest.write_bytes(MANIFEST.read_bytes())
    said = validate(krew, manifest, "-skip-install")
    assert "structural validation OK" in said
    assert "all spec.platform[] items are used" in said
    assert "no overlapping spec.platform[].selector" in said


def test_krew_validation_downloads_and_installs_the_archive(
    krew: dict[str, Path], home: HomeFolder, manifest: Path, archive: Path
) -> None:
    """Only of this machine's platform, from a server of the test's own."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = yaml.safe_load(manifest.read_text())
        (ours,) = [p for p in found["spec"]["platforms"] if p["uri"].endswith(f"/{archive.name}")]
        ours["uri"] = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        found["spec"]["platforms"] = [ours]
        manifest.write_text(yaml.safe_dump(found))
        said = validate(krew, manifest, path=f"{home.folder}/bin:/usr/bin:/bin")
        server.shutdown()
    assert "all 1 spec.platforms installed fine" in said


def test_archive_with_a_wrong_checksum_is_refused(
    home: HomeFolder, manifest: Path, archive: Path, tmp_path: Path
) -> None:
    other = tmp_path / archive.name
    other.write_bytes(archive.read_bytes() + b"\0")
    said = home.run("kubectl", "krew", "install", f"--manifest={manifest}", f"--archive={other}", code=1)
    assert "checksum does not match" in said


def test_installed_plugin_runs_by_the_krew_symlink(installed: HomeFolder, namespace: str) -> None:
    assert (installed.folder / ".krew" / "bin" / "kubectl-yoshi").is_symlink()
    assert installed.run("kubectl", "yoshi", "version", "--client").startswith("Client Version: v")
    assert "Usage: kubectl yoshi network create" in installed.run("kubectl", "yoshi", "network", "create", "--help")
    assert "No networks found in" in installed.run("kubectl", "yoshi", "network", "list", "-n", namespace)
    installed.run("kubectl", "yoshi", "network", "create", "blue", "--cidr", "10.99.0.0/24", "-n", namespace)
    assert "blue" in installed.run("kubectl", "yoshi", "-n", namespace, "network", "list")
    installed.run("kubectl", "yoshi", "network", "delete", "blue", "-n", namespace, "--yes")
    assert "yoshi" in installed.run("kubectl", "krew", "list")


def test_kubectl_completion_calls_the_installed_plugin(installed: HomeFolder, namespace: str) -> None:
    said = installed.run("kubectl", "yoshi", "completion", "install", "--shell", "bash")
    completer = installed.folder / ".krew" / "bin" / "kubectl_complete-yoshi"
    assert f"{completer} created" in said
    assert "\ncreate\tCreate a network" in installed.run("kubectl", "__complete", "yoshi", "network", "cre")
    assert f"\n{namespace}" in installed.run("kubectl", "__complete", "yoshi", "-n", namespace[:-2])
    # krew installed by its guide has krew among its plugins. In this home there is none besides yoshi, and
    # krew takes a file in its bin without any plugin for what a version before 0.3 has left.
    completer.unlink()
