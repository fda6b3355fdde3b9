"""python -m tools.documents: makes docs/rules, and commands.md, output.md and api.md in docs/reference.

--check          only tells whether they are current
--man FOLDER     the man pages
--outputs PAGE…  runs the command blocks of pages on a lab, and writes down what they print
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.documents.api import api_page
from tools.documents.markdown import commands_page
from tools.documents.output_page import output_page
from tools.documents.roff import man_pages
from tools.documents.rules_pages import rules_pages

ROOT = Path(__file__).parent.parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the flags say; 1 where --check finds a file that is not current."""
    parser = argparse.ArgumentParser(
        "python -m tools.documents", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file is not current")
    parser.add_argument("--man", type=Path, metavar="FOLDER", help="write the man pages there, and nothing else")
    parser.add_argument("--outputs", type=Path, nargs="+", metavar="PAGE", help="write down what command blocks print")
    parsed = parser.parse_args(arguments)
    if parsed.outputs:
        from tools.documents.outputs import write_outputs

        write_outputs(parsed.outputs)
        return 0
    if parsed.man:
        parsed.man.mkdir(parents=True, exist_ok=True)
        for name, text in man_pages().items():
            (parsed.man / name).write_text(text, encoding="utf-8", newline="\n")
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
    folder = ROOT / "docs" / "reference"
    made = {
        folder / "commands.md": commands_page(),
        folder / "output.md": output_page(),
        folder / "api.md": api_page(),
        **{ROOT / "docs" / "rules" / name: text for name, text in rules_pages()},
    }
    return {path: text for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text}


if __name__ == "__main__":
    sys.exit(main())
