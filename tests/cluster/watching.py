"""`sync --watch` as a process, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.harness import ROOT
from tests.waiting import SECONDS, wait_for


class Watching:
    """`sync --watch` as a separate process, and its output."""

    def __init__(self, kubeconfig: Path, folder: Path, *args: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kubectl_yoshi", f"--kubeconfig={kubeconfig}", "sync", "--watch", *args],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )  # fmt: skip

    def said(self, text: str) -> bool:
        assert self.process.poll() is None, self.err.read_text()
        return text in self.out.read_text()

    def complained(self, text: str) -> bool:
        return text in self.err.read_text()

    def ended(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        return self.process.wait(SECONDS)


@contextmanager
def watching(kubeconfig: Path, folder: Path, *args: str) -> Iterator[Watching]:
    watcher = Watching(kubeconfig, folder, *args)
    try:
        wait_for(lambda: watcher.said("watching"), "it watches")
        yield watcher
    finally:
        watcher.process.kill()
        watcher.process.wait()
