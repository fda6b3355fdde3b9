"""Run a command while a busy loop runs on each core: `python -m tests.busy make unit`; exits as the command does."""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    """Run the command line's command, and return its exit code."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        return subprocess.run(sys.argv[1:], check=False).returncode
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
