"""Programs are built once, completely or not at all; a failed or interrupted build leaves nothing.

`go` is a script here that writes what it was asked to build, so that the tests are about us and not about a compiler.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from lab import LabError
from lab.building import exclusive_lock, find_or_build, is_held
from lab.paths import program_cache
from lab.programs import ETCD, GOBGP, GOBGPD, KWOK, kubernetes_program
from lab.progress import Progress

GO = """\
#!/bin/sh
echo run >> "$GO_RUNS"
[ -n "$GO_FAILS" ] && { echo "go: downloading example.org/x v1.0.0" >&2; echo "no space left on device" >&2; exit 1; }
[ -n "$GO_HANGS" ] && { echo started >> "$GO_HANGS"; sleep 60; }
target=$4
shift 6
for package; do
  name=$(basename "$package")
  [ "$name" = v3 ] && name=server
  echo "example.org/compiled" >&2
  printf '#!/bin/sh\\necho %s\\n' "$package" > "$target$name"
  chmod +x "$target$name"
done
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    go = tmp_path / "bin" / "go"
    go.write_text(GO)
    go.chmod(0o755)
    runs = tmp_path / "runs"
    runs.touch()
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GO_RUNS", str(runs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("KUBEBUILDER_ASSETS", "GO_FAILS", "GO_HANGS"):
        monkeypatch.delenv(name, raising=False)
    return runs


def left_in_the_cache() -> list[str]:
    return sorted(str(file.relative_to(program_cache())) for file in program_cache().rglob("*") if file.is_file())


def test_programs_of_one_module_are_built_once_and_cached(fake_go: Path) -> None:
    server = kubernetes_program("kube-apiserver")
    paths = find_or_build([ETCD, server], Progress(quiet=True))
    assert paths == {"etcd": ETCD.cached, "kube-apiserver": server.cached}
    assert all(os.access(path, os.X_OK) for path in paths.values())
    assert find_or_build([ETCD, server], Progress(quiet=True)) == paths
    assert fake_go.read_text().count("run") == 1


def test_concurrent_labs_build_a_program_once(fake_go: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: find_or_build([KWOK], Progress(quiet=True))["kwok"], range(4)))
    assert paths == [KWOK.cached] * 4
    assert fake_go.read_text().count("run") == 1


def test_failed_build_shows_the_compiler_output_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_FAILS", "1")
    with pytest.raises(LabError, match="no space left on device"):
        find_or_build([GOBGP, GOBGPD], Progress(quiet=True))
    assert left_in_the_cache() == [".gobgp.lock"]


def test_missing_go_is_reported_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.building.shutil.which", lambda _: None)
    with pytest.raises(LabError, match=r"install it .* or set KUBEBUILDER_ASSETS"):
        find_or_build([KWOK], Progress(quiet=True))


def test_interrupted_build_ends_at_once_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = tmp_path / "hangs"
    monkeypatch.setenv("GO_HANGS", str(hangs))
    command = [sys.executable, "-m", "lab", "program", "kwok"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + 30
        while not hangs.exists() and time.monotonic() < until:
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=45)
    assert running.returncode == 130
    assert "interrupted" in said
    assert left_in_the_cache() == [".kwok.lock"]


def test_build_started_during_an_interrupt_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come when the compiler runs already, and before it is known which process that is."""
    monkeypatch.setenv("GO_HANGS", str(tmp_path / "hangs"))
    begin = subprocess.Popen

    def begin_and_interrupt(*args: Any, **options: Any) -> subprocess.Popen[str]:
        process = begin(*args, **options)
        if "build" in args[0]:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.3)
        return process

    monkeypatch.setattr("lab.building.subprocess.Popen", begin_and_interrupt)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        find_or_build([KWOK], Progress(quiet=True))
    assert time.monotonic() - begun < 30
    assert left_in_the_cache() == [".kwok.lock"]


def test_progress_in_a_pipe_is_two_lines_per_build(fake_go: Path) -> None:
    stream = StringIO()
    find_or_build([KWOK], Progress(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"Building kwok ({KWOK.version}) ..."
    assert lines[1].startswith(f"Building kwok ({KWOK.version}): ")
    assert len(lines) == 2


def test_is_held_reflects_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with exclusive_lock(lock):
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(is_held(lock)))
        thread.start()
        thread.join()
        assert seen == [True]
    assert not is_held(lock)
