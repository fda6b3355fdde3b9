"""The command line of `python -m release`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from release import bundle, krew
from release.platforms import PLATFORMS, VERSION, ReleaseError


def main() -> None:
    """Does what the command line asks for, and exits."""
    parser = argparse.ArgumentParser(prog="python -m release", description="Makes what a release is made of.")
    parser.add_argument("--dist", type=Path, default=krew.ROOT / "dist", help="folder of archives (default: dist)")
    parser.add_argument("--work", type=Path, default=krew.ROOT / "build", help="folder to work in (default: build)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("archive", help="make the archive for this machine")
    filling = commands.add_parser("krew", help="fill in krew's manifest")
    filling.add_argument("--repository", required=True, help="owner/name on GitHub")
    filling.add_argument("--partly", action="store_true", help="archives may be missing")
    tagged = commands.add_parser("version", help="check that a tag is of this version")
    tagged.add_argument("tag")
    commands.add_parser("checksums", help="write SHA256SUMS")
    asked = parser.parse_args()
    try:
        if asked.command == "archive":
            print(bundle.report(bundle.build(asked.dist, asked.work)))
        elif asked.command == "krew":
            _fill_in(asked.dist, asked.repository, partly=asked.partly)
        elif asked.command == "version":
            _check_tag(asked.tag)
        else:
            (asked.dist / "SHA256SUMS").write_text(krew.checksums(asked.dist), encoding="utf-8")
    except ReleaseError as error:
        sys.exit(f"error: {error}")


def _check_tag(tag: str) -> None:
    if tag != VERSION:
        raise ReleaseError(f"the tag is {tag}, and this is {VERSION}")


def _fill_in(dist: Path, made_in: str, *, partly: bool) -> None:
    source = krew.repository(krew.PROJECT.read_text(encoding="utf-8"), made_in)
    sums = krew.sums_in(dist)
    missing = [platform.archive for platform in PLATFORMS if platform.archive not in sums]
    if missing and not partly:
        raise ReleaseError(f"{dist} has no {', '.join(missing)}")
    (dist / "yoshi.yaml").write_text(krew.filled(krew.MANIFEST.read_text(encoding="utf-8"), sums, source))


if __name__ == "__main__":
    main()
