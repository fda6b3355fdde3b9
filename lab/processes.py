"""A lab's programs as processes: start, record, check and end them.

Each process carries its lab's folder in its environment. That is how a pid is known to be still ours, and how `down`
finds even a process whose record was never written.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

FOLDER_VARIABLE = "YOSHI_LAB_FOLDER"


@dataclass(frozen=True)
class Launch:
    """How a program is started."""

    name: str
    command: Sequence[str]
    port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    network_namespace: str = ""


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    folder: Path


@dataclass(frozen=True)
class ProgramRecord:
    """A program that was started, as it is written down in the lab's folder."""

    launch: Launch
    pid: int
    folder: Path

    @property
    def running(self) -> bool:
        if self.pid in _children:
            return _children[self.pid].process.poll() is None
        return is_process_of_lab(self.pid, self.folder) and not _is_zombie(self.pid)

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.launch.name}.log"

    @property
    def memory(self) -> int:
        """Resident memory in bytes, 0 when it is not running."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found and self.running else 0


GO_ENVIRONMENT = {"GOGC": "300"}
"""Programs collect garbage less often: this saves a sixth of an API server's CPU time, and a lab does not live long."""


def spawn(launch: Launch, folder: Path) -> ProgramRecord:
    """Start a program in a session of its own, its output in logs/<name>.log, and write down that it was started."""
    command = list(launch.command)
    if launch.network_namespace:
        command = ["ip", "netns", "exec", launch.network_namespace, *command]
    environment = {**GO_ENVIRONMENT, **_plain_environment(), **launch.environment, FOLDER_VARIABLE: str(folder)}
    for subfolder in ("logs", "programs"):
        (folder / subfolder).mkdir(exist_ok=True)
    with (folder / "logs" / f"{launch.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    _children[process.pid] = _Child(process, folder)
    record = ProgramRecord(launch, process.pid, folder)
    file = folder / "programs" / f"{launch.name}.json"
    file.write_text(json.dumps({"pid": process.pid, "launch": asdict(launch)}))
    return record


def records(folder: Path) -> list[ProgramRecord]:
    """The programs that were started in this lab, in the order of their start."""
    found = []
    for file in sorted((folder / "programs").glob("*.json"), key=lambda file: file.stat().st_mtime_ns):
        stored = json.loads(file.read_text())
        found.append(ProgramRecord(Launch(**stored["launch"]), stored["pid"], folder))
    return found


def kill_processes(pids: Iterable[int], folder: Path, timeout: float = 10.0) -> None:
    """End processes at once: what they keep is thrown away with the lab, so there is nothing to end gracefully."""
    remaining = {pid for pid in pids if is_process_of_lab(pid, folder)}
    for pid in remaining:
        _kill(pid)
    deadline = time.monotonic() + timeout
    while remaining and time.monotonic() < deadline:
        remaining = {pid for pid in remaining if not _is_gone(pid)}
        time.sleep(0.01)


def stop_programs(programs: Iterable[ProgramRecord]) -> None:
    """End programs of a lab that lives on, and strike them from its list."""
    for record in programs:
        kill_processes([record.pid], record.folder)
        (record.folder / "programs" / f"{record.launch.name}.json").unlink(missing_ok=True)


def list_lab_pids(folder: Path) -> Iterator[int]:
    """The pids of every process that carries this lab's mark."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_process_of_lab(int(entry.name), folder):
            yield int(entry.name)


def is_process_of_lab(pid: int, folder: Path) -> bool:
    """Whether `pid` is a process of the lab in `folder`, and not another that got its number later."""
    if pid in _children:  # for a moment after its start the kernel shows no environment
        return _children[pid].folder == folder
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{FOLDER_VARIABLE}={folder}".encode() in environment.split(b"\0")


# What this process itself started and has not yet waited for.
# An ended child stays a zombie until its parent has asked for its exit code.
_children: dict[int, _Child] = {}


def _is_gone(pid: int) -> bool:
    child = _children.get(pid)
    if child is None:
        return not Path(f"/proc/{pid}").exists() or _is_zombie(pid)
    if child.process.poll() is None:
        return False
    del _children[pid]
    return True


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only its parent has not asked yet; while a thread of it lives, it has not: its
    ports are still taken."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len([*(process / "task").iterdir()]) == 1
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _plain_environment() -> dict[str, str]:
    """The environment without what would lead a program to another cluster or through a proxy to its neighbour."""
    excluded = ("KUBECONFIG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "KUBERNETES_SERVICE_HOST")
    return {name: value for name, value in os.environ.items() if name.upper() not in excluded}
