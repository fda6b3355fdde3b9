"""Define the errors that are printed for users.

The tree::

    YoshiError                  what failed, the cause and a hint
    ├── PlanningError           no plan is possible; the only errors that planners catch from each other
    │   ├── UsageError          the command line or a manifest requests something impossible
    │   └── PreconditionFailed  the state of the cluster prevents the change
    │       ├── OutdatedError   what the plan depends on has changed since it was read
    │       └── UnreadableError what the plan depends on could not be read, so it is unknown
    └── kube.errors.*           the API server returned an error or did not answer; planners do not catch these
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from kubectl_yoshi.model.printable import indent_continuation, to_single_line

ASK_ADMIN_HINT = "Ask an administrator for this permission; the ClusterRole yoshi-user grants it."
"""The hint if a permission is missing that users of networks normally have."""


LIST_VMS_HINT = "See `kubectl get virtualmachines`, or with -A if you have permission; choose the namespace with -n."


def first_few(items: Sequence[str], limit: int, separator: str = ", and") -> str:
    """Return the items joined by commas: the first `limit` of them, then the number of the remaining ones."""
    remaining = len(items) - limit
    return ", ".join(items[:limit]) + (f"{separator} {remaining} more" if remaining > 0 else "")


class ExitCode(enum.IntEnum):
    """The exit codes of every command, as in kubectl.

    `diff`, `ips check` and `doctor` exit with 1 if they find something. A failure of these has another code, so that it
    cannot be mistaken for a finding.
    """

    SUCCESS = 0
    FAILURE = 1
    USAGE = 2
    UNCHECKED = 3
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """Return what the exit code says, for documentation."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.SUCCESS: "success; `diff` and `ips check`: no differences; `doctor`: no errors",
    ExitCode.FAILURE: "failure; `diff` and `ips check`: differences; `doctor`: errors, or lost addresses",
    ExitCode.USAGE: "usage error",
    ExitCode.UNCHECKED: "`diff`, `ips check` and `doctor` could not check (server, permissions)",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


class YoshiError(Exception):
    """An error for the user: one sentence about what is wrong, and one hint.

    Args:
        message: what failed and why, naming the object.
        hint: what the user can do about it; may be empty.

    Attributes:
        changes_so_far: a sentence about the changes made before the error; "" if there were none.
    """

    exit_code = ExitCode.FAILURE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.changes_so_far = ""

    @property
    def in_one_line(self) -> str:
        """Return the message and the changes made so far without the hint, for use in a list of many errors."""
        return to_single_line(
            f"{self.message.rstrip('.')}. {self.changes_so_far}" if self.changes_so_far else self.message
        )

    def __str__(self) -> str:
        return "\n".join(
            text
            for text in (indent_continuation(self.message), indent_continuation(self.changes_so_far), self.hint)
            if text
        )


class PlanningError(YoshiError):
    """A request cannot be planned: it is invalid, or conflicts with what was read."""


class UsageError(PlanningError):
    """A request is invalid whatever the state of the cluster (an invalid CIDR, a range outside it)."""

    exit_code = ExitCode.USAGE


class PreconditionFailed(PlanningError):
    """The state of the cluster prevents the change; nothing was changed except what `changes_so_far` states."""


def vm_not_found_error(namespace: str | None, name: str) -> PreconditionFailed:
    """Return the error that a VM does not exist."""
    return PreconditionFailed(f'VM "{name}" not found in namespace "{namespace}"', LIST_VMS_HINT)


class OutdatedError(PreconditionFailed):
    """What a plan depends on has changed since it was read: read and plan again."""


class UnreadableError(PreconditionFailed):
    """A request depends on something that could not be read, so it is unknown whether it exists."""
