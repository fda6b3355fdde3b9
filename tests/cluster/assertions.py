"""Assertions about a command under faults: its exit code, its output, and the state after it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import pytest

from tests.cluster.harness import CommandResult
from tests.cluster.seeded_fault_proxy import WRITE_FAULTS

SHOWN = 5
AND_MORE = re.compile(r"\band \d+ more\b|\bstarting with\b")
"""The end of a line that does not name all that was done."""
ONE_VM = re.compile(r"error: [^ ]+/web-\d: ")
"""The beginning of a line about one of the VMs."""
UNSURE = ("may or may not", "Done before the error", "Outcome unknown", "could not be rolled back")


def raise_first(wrong: list[BaseException]) -> None:
    if wrong:
        told = [f"{type(error).__name__}: {error}" for error in wrong]
        left = [text.partition("\n")[0] for text in told[SHOWN:]]
        pytest.fail("\n\n".join([*told[:SHOWN], "\n".join(left)]), pytrace=False)


def check_success(ran: CommandResult) -> None:
    """Check that a command succeeded; deleting a deleted network fails, as `kubectl delete` does."""
    if ran.args[:2] == ("network", "delete") and ran.code == 1:
        assert "not found" in ran.err
    else:
        assert ran.code == 0


def is_failure(ran: CommandResult) -> bool:
    """Return whether a command printed an error; findings of `ips check` are none."""
    return any(line.startswith("error: ") for line in ran.err.splitlines())


def check_message(ran: CommandResult, code: int = 0, failed: int = 1) -> None:
    """Check the exit code and the error message of a command.

    Args:
        code: the exit code where nothing goes wrong.
        failed: the one where something does.
    """
    assert ran.code in (0, code, failed)
    for words in ("Traceback", "internal error", "<class ", "object at 0x"):
        assert words not in ran.err
    if ran.code not in (0, code):
        assert is_failure(ran)


def check_reported(ran: CommandResult, before: dict[str, str], after: dict[str, str]) -> None:
    """Check that a failed command reports what it has changed.

    A VM that it names as refused is as it was, unless the line says more. A VM that is changed, and a network that is
    made or deleted, are named by a line that tells what was done, unless a line is unsure of more than one VM; all else
    may be a part of what such lines mean.
    """
    unsure = [line for line in ran.err.splitlines() if any(words in line for words in UNSURE)]
    lines = [line for line in [*ran.err.splitlines(), *ran.out.splitlines()] if line not in unsure]
    for name in ("web-1", "web-2", "web-3"):
        key = f"VirtualMachine {name}"
        if any(is_refusal(line, name) for line in lines):
            assert_state(
                {key: after.get(key, "")}, {key: before.get(key, "")}, f"of {name} it does not tell what it has done"
            )
    told = [*unsure, *ran.out.splitlines()]
    if not told:
        assert_state(after, before, "it does not tell what it has done")
    if any(not ONE_VM.match(line) or AND_MORE.search(line) for line in unsure):
        return
    for key in sorted({*before, *after}):
        kind, _, name = key.partition(" ")
        named = any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", line) for line in told)
        if kind == "VirtualMachine" or (kind == "NetworkWizard" and (key in before) != (key in after)):
            one, other = ({key: state[key]} if key in state and not named else {} for state in (after, before))
            assert_state(one, other, f"of {key} it does not tell what it has done")


def is_refusal(line: str, name: str) -> bool:
    """Return whether a line is the refusal of a VM: an error, or a row of `ips import`."""
    return (line.startswith("error: ") and f"/{name}: " in line) or (f"/{name} " in line and " refused " in line)


def assert_state(now: dict[str, str], wanted: dict[str, str], trouble: str) -> None:
    """Fail with the differences: - expected, + actual."""
    if now != wanted:
        raise AssertionError(f"{trouble}:\n{differences(wanted, now)}")


def assert_output(said: list[str], wanted: list[str], more: bool = False) -> None:
    """Fail if a command does not print its fault-free output or, with `more`, all lines of it."""
    if more:
        said = sorted({*said} & {*wanted})
    assert_state(
        {"stdout": "\n".join(said)}, {"stdout": "\n".join(wanted)}, "it does not say what it says without faults"
    )


def differences(before: dict[str, str], after: dict[str, str]) -> str:
    """Return the differences, a line for each object."""
    lines = []
    for key in sorted({*before, *after}):
        one, other = before.get(key, "nothing").splitlines(), after.get(key, "nothing").splitlines()
        if one != other:
            lines.append(f"{key}:")
            lines += [f"  - {line}" for line in one if line not in other]
            lines += [f"  + {line}" for line in other if line not in one]
    return "\n".join(lines)


def table_of(faults: Mapping[str, Counter[str]]) -> str:
    """Return a table of how often each command met each fault: "read", "write"."""
    lines = [f"{'read/write':16}{''.join(f'{fault:>13}' for fault in WRITE_FAULTS)}"]
    for command, counts in sorted(faults.items()):
        cells = [f"{counts[f'read {fault}']}/{counts[f'write {fault}']}" for fault in WRITE_FAULTS]
        lines.append(f"{command:16}{''.join(f'{cell:>13}' for cell in cells)}")
    return "\n".join(lines)
