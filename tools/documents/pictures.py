"""Pictures of a terminal, docs/pictures/*.svg, from real runs on a lab: `make pictures`."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

import lab
from lab.running import kubectl_command
from tools.documents.running import PRELUDE, clean, environment

FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"
COLUMNS = 100

BEFORE = "kubectl yoshi install >/dev/null; halted web-1 web-2 db-1"
PICTURES = {
    "first-network": (
        "kubectl yoshi network create blue --cidr 10.20.0.0/24 --gateway 10.20.0.1",
        "kubectl yoshi vm attach web-1 web-2 --network blue",
        "kubectl yoshi vm attach db-1 --network blue --ip 10.20.0.50",
        "kubectl yoshi ips list",
        "kubectl yoshi ips list --free",
        "kubectl yoshi ips who 10.20.0.50",
    ),
}
"""Name of the file -> the commands that are typed."""


def main() -> int:
    """Makes every picture anew."""
    FOLDER.mkdir(exist_ok=True)
    with lab.start() as running, tempfile.TemporaryDirectory() as home:
        variables = environment(running.kubeconfig, Path(kubectl_command()), Path(home))
        for name, commands in PICTURES.items():
            on_a_terminal(BEFORE, variables)
            session = [("$ " + command, on_a_terminal(command, variables)) for command in commands]
            (FOLDER / f"{name}.svg").write_text(picture(name, session), encoding="utf-8")
            clean(variables)
    return 0


def on_a_terminal(commands: str, variables: Mapping[str, str]) -> str:
    """What commands show on a terminal, colours and all.

    Raises:
        CalledProcessError: they fail.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", PRELUDE + commands],
        env={**variables, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)},
        cwd=variables["HOME"], stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
    os.close(ours)
    if code := process.wait():
        raise subprocess.CalledProcessError(code, commands, shown)
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2].removeprefix("\x1b[K") for line in lines)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def picture(name: str, session: list[tuple[str, str]]) -> str:
    """An SVG of a terminal, the same for the same session; whoever looks at it need not load a font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for command, shown in session:
        console.print(Text(command, style="bold"))
        console.print(Text.from_ansi(shown.rstrip()))
    svg = console.export_svg(title="kubectl yoshi", unique_id=name)
    return re.sub(r"\s*@font-face \{.*?\}|<!--.*?-->", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
