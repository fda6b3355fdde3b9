"""Every command line sends and prints what its trace says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.comparing import TRACES
from tests.golden.scenarios import SUBJECTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_command_lines_match_the_recorded_traces(subject: str) -> None:
    """In a process of its own, which forks and replaces parts of the standard library."""
    command = [sys.executable, "-m", "tests.golden", "compare", subject]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    hint = "If this is wanted, `python -m tests.golden record` writes it down."
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}\n{hint}"


def test_every_trace_has_a_subject() -> None:
    assert {path.stem for path in TRACES.glob("*.txt")} == {*SUBJECTS}
