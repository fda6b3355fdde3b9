"""Recording: scenarios are run in child processes, so that nothing of one is left for the next, or for other tests."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import pkgutil
import shlex
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TextIO

import yaml

from tests.golden import clock, rounds, transport
from tests.golden.cluster import Cluster
from tests.golden.kinds import Json
from tests.golden.scenario import Run, Scenario
from tests.golden.seam import COMPLETION_LIMIT, MANIFESTS, PACKAGE, main
from tests.golden.server import FakeApiServer
from tests.golden.transcript import Entry
from tests.golden.transport import Transport
from tests.golden.watches import act
from tests.output_schema import check_output

PROGRAM = "kubectl yoshi"
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: golden
contexts:
- {name: golden, context: {cluster: golden, user: golden, namespace: prod}}
- {name: other, context: {cluster: golden, user: golden, namespace: dev}}
clusters:
- {name: golden, cluster: {server: "http://127.0.0.1:6443"}}
users:
- {name: golden, user: {}}
"""


def record(subjects: Mapping[str, Sequence[Scenario]]) -> dict[str, str]:
    """Run the scenarios of each subject; return the transcripts by subject."""
    with tempfile.TemporaryDirectory() as folder:
        text = in_child(lambda: _record_all(subjects, Path(folder)))
    return dict(zip(subjects, text.split("\f"), strict=True))


def in_child(function: Callable[[], str]) -> str:
    """Return what a function returns that is run in a forked process.

    Raises:
        RuntimeError: it failed; its traceback is on stderr.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        code = 1
        try:
            with os.fdopen(writer, "w", encoding="utf-8") as pipe:
                pipe.write(function())
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", newline="") as pipe:
        text = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("a scenario could not be recorded; see stderr")
    return text


def _record_all(subjects: Mapping[str, Sequence[Scenario]], folder: Path) -> str:
    crds = _crds()
    rounds.install()
    _import_program(folder)
    return "\f".join(
        "".join(in_child(lambda s=scenario: _record_scenario(s, folder, crds)) for scenario in scenarios)  # type: ignore[misc]
        for scenarios in subjects.values()
    )


def _crds() -> list[Json]:
    text = files(PACKAGE).joinpath(MANIFESTS).read_text(encoding="utf-8")
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _import_program(folder: Path) -> None:
    """Import all modules, and run a command that imports the client, so that no scenario needs to."""
    for found in pkgutil.walk_packages(importlib.import_module(PACKAGE).__path__, f"{PACKAGE}."):
        importlib.import_module(found.name)
    transport.install(Transport(FakeApiServer([], lambda: "")))
    _run(Run("network list"), folder)


def _record_scenario(scenario: Scenario, parent: Path, crds: Sequence[Json]) -> str:
    folder = Path(tempfile.mkdtemp(dir=parent))
    now = clock.Clock()
    options = {"crds": crds, **scenario.cluster}
    cluster = Cluster(now, folder, **options)
    line = Transport(cluster.server)
    transport.install(line)
    clock.install(now, real_waits=scenario.real_waits)
    texts: list[str] = []
    names: set[str] = set()
    macs: dict[str, str] = {}
    for step in scenario.steps:
        if callable(step):
            step(cluster)
            cluster.controllers.run()
            continue
        run = Run(step) if isinstance(step, str) else step
        line.begin(list(run.faults()))
        cluster.clock.advance(minutes=1)
        code, out, err = _run(run, folder, lambda out, run=run: _watch(run, cluster, line, out))  # type: ignore[misc]
        if line.mistake:
            raise line.mistake
        check_output(shlex.split(run.line), out)
        cluster.controllers.run()
        if run.recorded:
            name = f"{scenario.name}: {PROGRAM} {run.line}" + (f" ({run.note})" if run.note else "")
            assert name not in names, f"{name} is there twice: give the second one a note"
            names.add(name)
            texts.append(Entry(name, code, out, err, line.exchanges, str(folder)).text(macs))
        elif code:
            raise AssertionError(f"{run.line} ended with {code}:\n{out}{err}")
    shutil.rmtree(folder)
    return "".join(texts)


class _Input(io.StringIO):
    """The standard input."""

    def __init__(self, text: str, terminal: bool) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class _Output(io.TextIOWrapper):
    """A standard stream that is kept."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8", newline="\n", write_through=True)

    @property
    def text(self) -> str:
        """What was written."""
        return self._bytes.getvalue().decode()


def _watch(run: Run, cluster: Cluster, line: Transport, printed: Callable[[], str]) -> None:
    """Let happen what is to happen while the command watches."""
    if run.watch is None:
        return
    actions = [(text, partial(action, cluster, line.watches)) for text, action in run.watch.actions]
    act(actions, run.watch.count, line.watches, printed)


def _run(
    run: Run, folder: Path, beside: Callable[[Callable[[], str]], object] = lambda printed: None
) -> tuple[int, str, str]:
    """Run a command line in this process; return its exit code and what it printed.

    Args:
        run: the command line.
        folder: the home folder.
        beside: called before, with a function that gives what is printed.
    """
    out, err = _Output(), _Output()
    rounds.begin_command()
    clock.begin_command()
    code: Any = 0
    with _process(run, folder, out, err):
        beside(lambda: out.text + err.text)
        try:
            main(shlex.split(run.line))
        except SystemExit as leaving:
            code = leaving.code
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.partition(".")[0] == PACKAGE:
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
    return int(code or 0), out.text, err.text


@contextlib.contextmanager
def _process(run: Run, folder: Path, out: TextIO, err: TextIO) -> Iterator[None]:
    """Give the command what a process of its own has: streams, variables, a working folder."""
    kubeconfig = folder / "kubeconfig"
    if not kubeconfig.exists():
        kubeconfig.write_text(KUBECONFIG)
    variables = {
        "PATH": "/usr/bin:/bin", "HOME": str(folder), "KUBECONFIG": str(kubeconfig), "TZ": "UTC", "LANG": "C.UTF-8",
        "COLUMNS": "100", "LINES": "40", "TERM": "dumb", "SHELL": "/bin/bash", COMPLETION_LIMIT: "100",
        **run.environment,
    }  # fmt: skip
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["/usr/local/bin/kubectl-yoshi"]
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = _Input(run.stdin, run.terminal), out, err
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        left = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        assert not [thread for thread in left if not thread.daemon], left
