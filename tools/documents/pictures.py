"""Pictures of a terminal, docs/pictures/*.svg, from real runs on a lab: `make pictures`."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

import lab
from lab.running import kubectl_command
from tools.documents.running import PRELUDE, clean, environment

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "pictures"
COLUMNS = 80

SECONDS_BETWEEN = 3.0
"""As somebody takes them who types; MetalLB reports meanwhile from where it announces an address."""
FINDS = "kubectl yoshi ips check"
"""What ends with 1 where it found something."""


@dataclass(frozen=True)
class Picture:
    """A session at a terminal.

    Attributes:
        commands: that are typed, each of kubectl, and no line longer than COLUMNS with its prompt.
        before: commands that prepare it, and are not shown; as in a document's `given`.
        needs: "core" or "full", the lab.
        files: pictures that the commands write, with the name that each has in FOLDER.
    """

    commands: tuple[str, ...]
    before: str
    needs: str = "core"
    files: Mapping[str, str] = field(default_factory=dict)


ON_TWO_NODES = """
halted web-1 web-2
for number in 1 2; do
  node='{"nodeSelector":{"kubernetes.io/hostname":"node-'$number'"}}'
  kubectl patch virtualmachine web-$number --type=merge \\
    -p '{"spec":{"runStrategy":"Always","template":{"spec":'"$node"'}}}'
done
kubectl wait virtualmachine web-1 web-2 --for=condition=Ready --timeout=60s
"""
EVERY_STATE = """
kubectl yoshi network create blue --cidr 10.20.0.0/24 --gateway 10.20.0.1 --exclude 10.20.0.192/26 --cooldown 1h
halted web-1 web-2 web-3 web-4 db-1 old-1 copy-1 legacy-1
kubectl yoshi vm attach web-1 web-2 web-3 web-4 db-1 old-1 --network blue
kubectl yoshi vm detach old-1 --network blue
kubectl yoshi ips reserve blue 10.20.0.100-10.20.0.107 --note printers
by_hand() {
  kubectl patch virtualmachine $1 --type=merge \\
    -p '{"spec":{"template":{"metadata":{"annotations":{"cni.projectcalico.org/ipAddrs":"[\\"'$2'\\"]"}}}}}'
}
by_hand copy-1 10.20.0.4
by_hand legacy-1 10.20.0.60
for number in 1 2 3 4; do
  kubectl patch virtualmachine web-$number --type=merge -p '{"spec":{"runStrategy":"Always"}}'
done
kubectl wait virtualmachine web-1 web-2 web-3 web-4 --for=condition=Ready --timeout=120s
"""
PICTURES = {
    "first-network": Picture(
        (
            "kubectl yoshi network create blue --cidr 10.20.0.0/24 --gateway 10.20.0.1",
            "kubectl yoshi vm attach web-1 web-2 --network blue",
            "kubectl yoshi vm attach db-1 --network blue --ip 10.20.0.50",
            "kubectl yoshi ips list",
            "kubectl yoshi ips list --free",
            "kubectl yoshi ips show 10.20.0.50",
        ),
        "halted web-1 web-2 db-1",
    ),
    "left-behind": Picture(
        (
            "kubectl delete virtualmachine web-1",
            "kubectl yoshi ips check",
            "kubectl yoshi ips list",
            "kubectl yoshi ips gc --grace 0s --yes",
            "kubectl yoshi ips check",
            "kubectl yoshi ips show 10.23.0.1",
        ),
        "halted web-1 web-2; kubectl yoshi network create red --cidr 10.23.0.0/24;"
        "kubectl yoshi vm attach web-1 web-2 --network red; kubectl yoshi ips reserve red 10.23.0.9 --note printer",
    ),
    "public-address": Picture(
        (
            (
                "kubectl yoshi network create internet --type public --cidr 203.0.113.0/28 \\\n"
                "  --announce metallb-bgp --peer 10.240.0.5 --my-asn 64512 --remote-asn 64513"
            ),
            "kubectl yoshi vm attach web-1 --public-network internet --port 22,443 --wait",
            "kubectl yoshi ips list",
            "kubectl yoshi ips move 203.0.113.1 --to web-2 --wait",
            "kubectl yoshi ips show 203.0.113.1",
        ),
        ON_TWO_NODES,
        "full",
    ),
    "address-map": Picture(
        (
            "kubectl yoshi ips map blue",
            "kubectl yoshi ips show 10.20.0.4",
            "kubectl yoshi ips map blue -o svg > blue.svg",
        ),
        EVERY_STATE,
        "full",
        {"blue.svg": "address-map-blue"},
    ),
}
"""By the name of the file."""


def main() -> int:
    """Make every picture again."""
    FOLDER.mkdir(exist_ok=True)
    for needs in sorted({picture.needs for picture in PICTURES.values()}):
        with lab.start(needs) as running, tempfile.TemporaryDirectory() as home:
            variables = {
                **environment(running.kubeconfig, Path(kubectl_command()), Path(home)),
                "PYTHONPATH": str(ROOT),
            }
            for name, picture in PICTURES.items():
                if picture.needs == needs:
                    (FOLDER / f"{name}.svg").write_text(drawn(name, taken(picture, variables)), encoding="utf-8")
                    for file, saved in picture.files.items():
                        (FOLDER / f"{saved}.svg").write_bytes((Path(home) / file).read_bytes())
                    clean(variables)
    return 0


def taken(picture: Picture, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each command with its prompt, and what it showed."""
    on_a_terminal("kubectl yoshi install; " + picture.before, variables)
    session = []
    for command in picture.commands:
        time.sleep(SECONDS_BETWEEN)
        session.append(("$ " + command, on_a_terminal(command, variables)))
    return session


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
    if (code := process.wait()) and not (code == 1 and commands.startswith(FINDS)):
        raise subprocess.CalledProcessError(code, commands, shown)
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2].removeprefix("\x1b[K") for line in lines)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def drawn(name: str, session: list[tuple[str, str]]) -> str:
    """An SVG of a terminal, the same for the same session, without external fonts."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for command, shown in session:
        console.print(Text(command, style="bold"))
        console.print(Text.from_ansi(shown.rstrip()))
    svg = console.export_svg(title="kubectl yoshi", unique_id=name)
    return re.sub(r"\s*@font-face \{.*?\}|<!--.*?-->", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
