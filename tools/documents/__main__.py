"""python -m tools.documents [--check]: makes docs/commands.md and the man pages, or tells whether they are current."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.documents.markdown import commands_page
from tools.documents.roff import man_pages

ROOT = Path(__file__).parent.parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files; with --check only tells which differ (exit code 1). --man FOLDER writes the man pages alone."""
    parser = argparse.ArgumentParser("python -m tools.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file is not current")
    parser.add_argument("--man", type=Path, metavar="FOLDER", help="write the man pages there, and nothing else")
    parsed = parser.parse_args(arguments)
    if parsed.man:
        parsed.man.mkdir(parents=True, exist_ok=True)
        for name, text in man_pages().items():
            (parsed.man / name).write_text(text, encoding="utf-8")
        return 0
    old = stale()
    for path, text in old.items():
        if parsed.check:
            print(f"{path.relative_to(ROOT)} is not current: run `make documents`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 1 if parsed.check and old else 0


def stale() -> dict[Path, str]:
    """The files whose text is not what the program makes of them, with the text that they should have."""
    made = {ROOT / "docs" / "commands.md": commands_page()}
    return {path: text for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text}


if __name__ == "__main__":
    sys.exit(main())
