"""`python -m tests.golden record` and `python -m tests.golden compare`."""

from __future__ import annotations

import argparse
import sys

from tests.golden.comparing import difference, summary, write
from tests.golden.recording import record
from tests.golden.scenarios import SUBJECTS


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden")
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("subjects", nargs="*", help=f"only these; of {', '.join(SUBJECTS)}")
    parser.add_argument(
        "--ignore-reads", action="store_true", help="compare only exit codes, what is printed, and writes"
    )
    options = parser.parse_args()
    chosen = {name: SUBJECTS[name] for name in options.subjects or SUBJECTS}
    texts = record(chosen)
    if options.command == "record":
        write(texts)
        return 0
    found = "".join(difference(owner, text, ignore_reads=options.ignore_reads) for owner, text in texts.items())
    sys.stdout.write(found)
    print(summary(texts), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
