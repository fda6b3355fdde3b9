"""A headless Chromium, controlled by the DevTools protocol through two pipes.

https://chromedevtools.github.io/devtools-protocol has the methods. With --remote-debugging-pipe the browser reads
messages from file descriptor 3 and writes to 4, each ended by a NUL byte.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe",
)  # fmt: skip
PIPES = 'exec "$0" "$@" 3<&"$READ" 4>&"$WRITE"'


class Browser:
    """A page of a browser."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._received = b""
        self._number = 0
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        answer = self._wait_for(lambda found: found.get("id") == self._number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, file: Path, width: int, scheme: str = "light", height: int = 800) -> None:
        """Load a file in a window of that many pixels, with a light or dark colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=file.as_uri())
        self._wait_for(lambda found: found.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _wait_for(self, is_wanted: Any) -> dict[str, Any]:
        while True:
            message, end, rest = self._received.partition(b"\0")
            if end:
                self._received = rest
                found: dict[str, Any] = json.loads(message)
                if is_wanted(found):
                    return found
            else:
                part = os.read(self._reader, 1 << 16)
                assert part, "the browser has ended"
                self._received += part


def find_browser() -> str | None:
    """Return the path of a Chromium; None if there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@contextmanager
def new_browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended with the block."""
    read, write_to_us = os.pipe()
    read_from_us, write = os.pipe()
    process = subprocess.Popen(
        ["bash", "-c", PIPES, program, *FLAGS, f"--user-data-dir={profile}"],
        env={**os.environ, "READ": str(read_from_us), "WRITE": str(write_to_us)},
        pass_fds=(read_from_us, write_to_us), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_from_us)
    os.close(write_to_us)
    try:
        yield Browser(read, write)
    finally:
        os.close(write)
        process.kill()
        process.wait()
        os.close(read)
