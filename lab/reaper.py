"""A process that deletes a lab when the process that started it has ended.

It holds one end of a pipe. The other end is closed by the kernel when its owner ends, in whatever way: then the lab's
programs, folder, bridge and network namespaces go too. A parent-death signal would not do: it is tied to the thread
that forked, and nobody would remove the folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DISMISSED_MESSAGE = b"."


class Reaper:
    """The owner's end of the pipe."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", "import sys; from lab.reaper import watch; watch(sys.argv[1])", str(folder)]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The lab is down, or is to live on by itself."""
        try:
            self._process.communicate(DISMISSED_MESSAGE, timeout=10)
        except BrokenPipeError:
            self._process.wait(10)


def watch(folder: str) -> None:
    """Wait until dismissed or orphaned; orphaned, take the lab down."""
    if os.read(sys.stdin.fileno(), 1) != DISMISSED_MESSAGE:
        from lab.running import delete_lab

        delete_lab(Path(folder))
