"""The program killed by SIGKILL in the middle of its work: after a number of writes, not of seconds.

Which writes were done then depends on the command alone, not on how fast or busy the machine is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.testing import Cluster
from tests.cluster.harness import CommandResult, Yoshi
from tests.cluster.request_gate import RequestGate
from tests.cluster.scripted_fault_proxy import ScriptedFaultProxy, open_fault_proxy, write_kubeconfig
from tests.cluster.seeded_fault_proxy import Kill, Proxy
from tests.waiting import wait_for

KILLS = int(os.environ.get("YOSHI_KILLS", "0"))
"""Before how many of its writes each case is killed: the first, the last, and between. 0: the cases of a command take
turns, so that each is killed before one write at least, and one of them before the first, the last, and between."""
MOST = 100
"""More writes than any command here makes one after the other."""


@dataclass(frozen=True)
class ProxiedProgram:
    """The program, by way of a proxy that records its requests and follows rules."""

    proxy: ScriptedFaultProxy
    yoshi: Yoshi

    @contextmanager
    def held(self, gate: RequestGate, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command until it waits at the gate or has ended; kill it at the end."""
        with self._gated(gate), self.yoshi.alone(*words) as process:
            try:
                wait_for(lambda: gate.is_reached(0.05) or process.poll() is not None, "it is at the gate, or done")
                yield process
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def _gated(self, gate: RequestGate) -> Iterator[None]:
        """The proxy has a gate; what waits there in the end is dropped."""
        self.proxy.gate = gate
        try:
            yield
        finally:
            gate.close()
            wait_for(lambda: not self.proxy.under_way, "what was sent has been done")
            self.proxy.gate = None

    def is_killed(self, writes: int, *words: str) -> bool:
        """Run a command and kill it before it writes once more; return False if it ended before."""
        gate = RequestGate(writes)
        with self._gated(gate), ThreadPoolExecutor(1) as beside:
            running = beside.submit(self.yoshi.run, *words)
            try:
                wait_for(lambda: gate.is_reached(0.05) or running.done(), "it is at the gate, or done")
            finally:
                if not running.done():
                    self.yoshi.server.kill()
            return running.result().killed

    def kills(self, *words: str, step: int = 1, look: Callable[[], object] = lambda: None) -> int:
        """Kill a command before its first write, then after one, after two, until it is not killed any more.

        Args:
            step: so many writes more each time.
            look: is called after each.

        Returns:
            How many were killed.
        """
        killed = 0
        while self.is_killed(killed * step, *words):
            look()
            killed += 1
            assert killed < MOST, "it never ends"
        look()
        return killed


@contextmanager
def open_proxied_program(yoshi: Yoshi, folder: Path) -> Iterator[ProxiedProgram]:
    """Open the same program with a proxy before the cluster.

    Args:
        folder: for a kubeconfig.
    """
    with open_fault_proxy(Cluster(yoshi.kubeconfig, yoshi.context)) as proxy:
        kubeconfig = write_kubeconfig(folder / "behind", proxy.url)
        yield ProxiedProgram(proxy, Yoshi(kubeconfig, "it", yoshi.server, yoshi.namespace))


def run_killed(
    program: Yoshi, proxy: Proxy, words: Sequence[str], write: int = 0, path: str = "", done: bool = False
) -> tuple[CommandResult, Kill]:
    """Run a command as a process, kill it at one of its writes (see Kill), and wait until its requests are done.

    Args:
        program: by way of the proxy; its warm parent runs nothing else.
    """
    schedule = Kill(write, program.server.kill, path, done)
    proxy.schedule = schedule
    ran = program.run(*words)
    proxy.wait_until_idle()
    return ran, schedule
