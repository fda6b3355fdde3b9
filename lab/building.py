"""Builds the lab's programs from their Go modules, once, into the cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.errors import LabError
from lab.paths import program_cache, tools_folder
from lab.programs import KUBERNETES_MODULE, KUBEVIRT_MODULE, Program, find
from lab.progress import Progress

# Linking kube-apiserver or virt-controller and compiling their largest packages takes about this much.
MEMORY_PER_BUILD = 3 << 30

_builds: set[subprocess.Popen[str]] = set()


def find_or_build(programs: Sequence[Program], progress: Progress) -> dict[str, Path]:
    """The path of each program by its name; what is nowhere to be found is built first.

    Programs of one Go module are built by one `go build`, which compiles what they share once; modules are built
    side by side where the memory allows.
    """
    found = {program.name: find(program) for program in programs}
    missing: dict[str, list[Program]] = defaultdict(list)
    for program in programs:
        if found[program.name] is None:
            missing[program.folder].append(program)
    if missing:
        cancelled = threading.Event()
        with ThreadPoolExecutor(max_parallel_builds(len(missing))) as pool:
            try:
                jobs = [pool.submit(_build, folder, wanted, progress, cancelled) for folder, wanted in missing.items()]
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                # A waiting process must not wait for builds that are not needed any more.
                cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for build in list(_builds):
                    _kill_build(build)
                raise
    return {program.name: found[program.name] or program.cached for program in programs}


def _kill_build(build: subprocess.Popen[str]) -> None:
    """Ends a build with the compilers that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(build.pid, signal.SIGKILL)


def max_parallel_builds(modules: int) -> int:
    """How many modules to build side by side: as the available memory allows, at most three."""
    text = Path("/proc/meminfo").read_text()
    available = re.search(r"MemAvailable:\s+(\d+) kB", text)
    builds_in_memory = int(available.group(1)) * 1024 // MEMORY_PER_BUILD if available else 1
    return max(1, min(modules, builds_in_memory, 3))


def is_held(lock: Path) -> bool:
    """Whether somebody holds a lock file at this moment."""
    if not lock.exists():
        return False
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def exclusive_lock(lock: Path) -> Iterator[None]:
    """Hold a lock file, so that of two labs that need the same thing only one makes it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_go(folder: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the go command in a folder of lab/tools; a LabError says what it said when it fails."""
    command = [_go_command(), *args]
    result = subprocess.run(
        command, cwd=tools_folder() / folder, env=_go_environment(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LabError(f"`go {' '.join(args)}` failed in lab/tools/{folder}:\n{_last_lines(result.stderr)}")
    return result


def _build(folder: str, wanted: Sequence[Program], progress: Progress, cancelled: threading.Event) -> None:
    cache = program_cache()
    with exclusive_lock(cache / f".{folder}.lock"):
        wanted = [program for program in wanted if find(program) is None]  # another lab may have built it meanwhile
        if not wanted:
            return
        names = ", ".join(program.name for program in wanted)
        what = f"Building {names} ({wanted[-1].version})"
        with progress.task(what), tempfile.TemporaryDirectory(dir=cache, prefix=f".{folder}-") as scratch:
            _go_build(folder, wanted, Path(scratch), lambda detail: progress.update(what, detail), cancelled)
            for program in wanted:
                program.cached.parent.mkdir(exist_ok=True)
                built = Path(scratch) / (program.built_as or program.name)
                built.replace(program.cached)


def _go_build(
    folder: str, wanted: Sequence[Program], target: Path, report: Callable[[str], None], cancelled: threading.Event
) -> None:
    flags = " ".join(["-s", "-w", *_version_flags(wanted[-1])])
    packages = [program.package for program in wanted]
    command = [_go_command(), "build", "-v", "-o", f"{target}/", "-ldflags", flags, *packages]
    output_lines: list[str] = []
    compiled = downloaded = 0
    environment = {**_go_environment(), "GOTMPDIR": str(target)}
    with subprocess.Popen(
        command,
        cwd=tools_folder() / folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        _builds.add(process)
        if cancelled.is_set():  # since before it was among those that are ended
            _kill_build(process)
        assert process.stderr
        for line in process.stderr:
            output_lines.append(line)
            if line.startswith("go: downloading"):
                downloaded += 1
                report(f"{downloaded} modules fetched")
            else:
                compiled += 1
                report(f"{compiled} packages compiled")
    _builds.discard(process)
    if process.returncode:
        raise LabError(
            f"building {', '.join(packages)} in lab/tools/{folder} failed:\n{_last_lines(''.join(output_lines))}"
        )


def _version_flags(program: Program) -> list[str]:
    """Linker flags for the programs that do not know their own version: clients refuse to parse what they say else."""
    version = program.version
    major, minor = version.lstrip("v").split(".")[:2]
    if program.module == KUBERNETES_MODULE:
        component = "k8s.io/component-base/version"
        return [
            f"-X {component}.gitVersion={version} -X {component}.gitMajor={major} -X {component}.gitMinor={minor}",
            f"-X k8s.io/client-go/pkg/version.gitVersion={version}",
        ]
    if program.module == KUBEVIRT_MODULE:
        return [f"-X kubevirt.io/client-go/version.gitVersion={version}"]
    return []


def _go_command() -> str:
    command = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not command:
        raise LabError(
            "the lab's programs are built with Go, and there is no `go` on PATH: install it (https://go.dev/dl), "
            "or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"
        )
    return command


def _go_environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
