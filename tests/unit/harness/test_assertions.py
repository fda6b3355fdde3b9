"""The assertions of the fault tests: a failed run must report what it has changed. They need no cluster."""

from __future__ import annotations

import pytest

from tests.cluster.assertions import check_reported
from tests.cluster.harness import CommandResult

BEFORE = {"NetworkWizard blue": "1", "VirtualMachine web-1": "1", "VirtualMachine web-2": "1", "IPPool ns.blue": "1"}
ATTACHED = "virtualmachine.kubevirt.io/web-2 attached to blue: 10.60.0.1\n"
REFUSED = "error: ns/web-1: the API server ended the connection\n"
SO_FAR = (
    "Done before the error: record 10.60.0.1 for ns/web-1; assign 10.60.0.1 to virtualmachine/web-1 in namespace ns."
)


@pytest.mark.parametrize(
    ("out", "err", "changes"),
    [
        ("", REFUSED, {}),
        (ATTACHED, REFUSED, {"VirtualMachine web-2": "2", "NetworkWizard blue": "2"}),
        (ATTACHED, f"{REFUSED.strip()}. {SO_FAR}", {"VirtualMachine web-2": "2", "VirtualMachine web-1": "2"}),
        ("", "error: no answer\nDone before the error: assign 10.60.0.1 to virtualmachine/web-2; and 2 more.",
         {"VirtualMachine web-1": "2"}),
        ("", "error: no answer\nDone before the error: delete networkwizard/blue.", {"NetworkWizard blue": ""}),
        ("", "error: the change may or may not have been made", {"VirtualMachine web-1": "2"}),
    ],
)  # fmt: skip
def test_check_reported_accepts_reported_changes(out: str, err: str, changes: dict[str, str]) -> None:
    check_reported(failed(out, err), BEFORE, changed(changes))


@pytest.mark.parametrize(
    ("out", "err", "changes"),
    [
        ("", REFUSED, {"IPPool ns.blue": "2"}),
        ("", REFUSED, {"VirtualMachine web-1": "2"}),
        (ATTACHED, REFUSED, {"VirtualMachine web-1": "2"}),
        ("nothing to collect\n", "error: 2 of 3 VMs failed", {"VirtualMachine web-1": "2"}),
        ("web-11 attached to blue\n", "error: 2 of 3 VMs failed", {"VirtualMachine web-1": "2"}),
        (ATTACHED, "error: ns/web-3: no answer. Done before the error: assign 10.60.0.1 to virtualmachine/web-3.",
         {"VirtualMachine web-1": "2"}),
        (ATTACHED, "error: no answer", {"NetworkWizard red": "1"}),
    ],
)  # fmt: skip
def test_check_reported_finds_unreported_changes(out: str, err: str, changes: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="does not tell what it has done"):
        check_reported(failed(out, err), BEFORE, changed(changes))


def failed(out: str, err: str) -> CommandResult:
    return CommandResult(("vm", "attach", "web-1", "web-2", "--network", "blue"), 1, out, err, 0.1)


def changed(changes: dict[str, str]) -> dict[str, str]:
    """BEFORE with changes; "" is for what is gone."""
    return {key: text for key, text in {**BEFORE, **changes}.items() if text}
