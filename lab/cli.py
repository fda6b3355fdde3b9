"""The lab's command line: up, down, status, env, route, program, build, demo."""

from __future__ import annotations

import argparse
import importlib
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence

import lab
from lab.building import find_or_build
from lab.errors import LabError
from lab.manifests import CALICO_CHOICES
from lab.programs import ALL_PROGRAMS, DEFAULT_KUBERNETES
from lab.progress import Progress
from lab.running import BGP_CHOICES, PROFILES, Options, find_lab, list_labs, prepare, start

DEFAULT_NAME = "default"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 misused, 130 interrupted."""
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        return int(parsed.run(parsed) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; nothing is left behind", file=sys.stderr)
        return 130


def up(options: argparse.Namespace) -> int:
    """Bring a lab up and print its kubeconfig's path."""
    progress = Progress()
    started_at = time.monotonic()
    running = start(
        options.profile,
        options.name,
        options.kubernetes,
        calico=options.calico,
        bgp=options.bgp,
        background=not options.foreground,
        progress=progress,
    )
    progress.print_line(f"Lab {running.name} is up after {time.monotonic() - started_at:.1f} s.")
    print(running.kubeconfig, flush=True)
    if options.foreground:
        with running:
            progress.print_line("Ctrl-C ends it.")
            threading.Event().wait()
    return 0


def down(options: argparse.Namespace) -> int:
    """End one lab, or all."""
    labs = list_labs() if options.all else [find_lab(options.name)]
    for running in labs:
        running.down()
        print(f"Lab {running.name} is down.", file=sys.stderr)
    return 0


def status(options: argparse.Namespace) -> int:
    """List each program: exit code 1 when one that should run does not."""
    labs = [find_lab(options.name)] if options.name else list_labs()
    if not labs:
        print("No lab is up.", file=sys.stderr)
    rows = [("LAB", "PROGRAM", "PID", "RUNNING", "MEMORY", "PORT")]
    all_running = True
    for running in labs:
        total = 0
        for program in running.programs:
            alive = program.running
            all_running = all_running and alive
            total += program.memory
            port = str(program.launch.port or "-")
            rows.append(
                (running.name, program.launch.name, str(program.pid), "yes" if alive else "no",
                 _mebibytes(program.memory), port)
            )  # fmt: skip
        rows.append((running.name, "(all)", "", "", _mebibytes(total), ""))
    if labs:
        _print_table(rows)
    return 0 if all_running else 1


def env(options: argparse.Namespace) -> int:
    """Print what a shell needs to talk to the lab."""
    print(f"export KUBECONFIG={shlex.quote(str(find_lab(options.name).kubeconfig))}")
    return 0


def route(options: argparse.Namespace) -> int:
    """Print the router's table."""
    print(find_lab(options.name).route_table())
    return 0


def program(options: argparse.Namespace) -> int:
    """Print where one of the lab's programs is, after building it if it is nowhere."""
    if options.program not in ALL_PROGRAMS:
        raise LabError(f"no program {options.program!r}: there are {', '.join(sorted(ALL_PROGRAMS))}")
    print(find_or_build([ALL_PROGRAMS[options.program]], Progress())[options.program])
    return 0


def build(options: argparse.Namespace) -> int:
    """Find or build all programs of a profile."""
    prepare(Options(options.profile), Progress())
    return 0


def demo(_: argparse.Namespace) -> int:
    """The main job, shown on a lab that it starts itself."""
    return int(importlib.import_module("lab.demo").main() or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m lab", description=lab.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: object, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    up_parser = command("up", up, "bring a lab up and print the path of its kubeconfig")
    up_parser.add_argument("--profile", choices=PROFILES, default="core", help="what it runs (default: core)")
    up_parser.add_argument("--name", default=DEFAULT_NAME, help=f"tells labs apart (default: {DEFAULT_NAME})")
    up_parser.add_argument("--kubernetes", default=DEFAULT_KUBERNETES, metavar="MINOR", help="default: %(default)s")
    up_parser.add_argument(
        "--calico", choices=list(CALICO_CHOICES), default="v1", help="which of Calico's API groups is served"
    )
    up_parser.add_argument(
        "--bgp",
        choices=BGP_CHOICES,
        default="native",
        help="how MetalLB speaks BGP; frr (installed) knows IPv6, frr-k8s also reports its sessions",
    )
    up_parser.add_argument("--foreground", action="store_true", help="stay, and end it all on Ctrl-C")
    down_parser = command("down", down, "end a lab, and leave nothing of it")
    down_parser.add_argument("--name", default=DEFAULT_NAME)
    down_parser.add_argument("--all", action="store_true", help="every lab of this user")
    command("status", status, "each program: running, memory, port").add_argument("--name", help="only this lab")
    command("env", env, "print `export KUBECONFIG=...` for a shell").add_argument("--name", default=DEFAULT_NAME)
    command("route", route, "the router's table (full profile)").add_argument("--name", default=DEFAULT_NAME)
    command("program", program, "print where one of the lab's programs is, built if need be").add_argument("program")
    build_parser = command("build", build, "build the programs of a profile, as far as they are not there yet")
    build_parser.add_argument("--profile", choices=PROFILES, default="core", help="whose programs (default: core)")
    command("demo", demo, "show what kubectl yoshi does, on a lab of its own")
    return parser


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _mebibytes(amount: int) -> str:
    return f"{amount / (1 << 20):.0f} MiB"
