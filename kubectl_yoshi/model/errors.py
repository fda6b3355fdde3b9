"""Errors that a person reads.

The tree::

    YoshiError                  what was wanted, what stands in the way, what to do about it
    ├── PlanningError           it cannot be planned; what planners catch of each other
    │   ├── UsageError          the command line or a file asks for something that cannot be (exit 2)
    │   └── PreconditionFailed  something in the cluster stands in the way (exit 1)
    │       ├── OutdatedError   what the plan was made from has changed since it was read
    │       └── UnreadableError it rests on what may not be read, and so is unknown
    └── kube.errors.*           the API server said no, or said nothing (exit 1); no planner catches these
"""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.printable import indent_continuation, to_single_line

ASK_ADMIN_HINT = "Ask an administrator for this right; the ClusterRole yoshi-user holds it."
"""The way out where something may not be read, or changed, that a user of networks may."""


LIST_VMS_HINT = "See `kubectl get virtualmachines`, or with -A if you may; choose the namespace with -n."


def first_few(items: Sequence[str], limit: int, separator: str = ", and") -> str:
    """Words with commas between them; of more than `limit` those that come first, and how many more there are."""
    remaining = len(items) - limit
    return ", ".join(items[:limit]) + (f"{separator} {remaining} more" if remaining > 0 else "")


class YoshiError(Exception):
    """An error whose text is for the user: one sentence on what is wrong, one on the way out.

    Args:
        message: what was wanted and what stands in the way, naming the object.
        hint: what the user can do about it; may be empty.

    Attributes:
        changes_so_far: what had been done when it came, one sentence; "" where nothing had.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.changes_so_far = ""

    @property
    def in_one_line(self) -> str:
        """What is wrong and what had been done, where there are many errors and no room for ways out."""
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
    """What was asked for cannot be planned: it is wrong in itself, or does not fit what was read."""


class UsageError(PlanningError):
    """What was asked for can never be, whatever the cluster holds (a CIDR that is none, a range outside it)."""

    exit_code = 2


class PreconditionFailed(PlanningError):
    """Something in the cluster stands in the way; nothing was changed, but for what `changes_so_far` says."""


class OutdatedError(PreconditionFailed):
    """What a plan was made from has changed since it was read: read and plan again."""


class UnreadableError(PreconditionFailed):
    """What is asked for rests on something that may not be read: whether it is there is unknown."""
