"""What a rule reports about an object."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from dataclasses import field as dataclasses_field
from typing import TYPE_CHECKING

from kubectl_yoshi.model.objects import NamespacedName, ObjectRef

if TYPE_CHECKING:
    from kubectl_yoshi.plan.inventory import InventoryRow


class Severity(enum.Enum):
    """How serious a finding is, as printed."""

    ERROR = "Error"  # an address does not work, or invariants are violated
    WARNING = "Warning"  # it works, but will not after a restart, a migration or more allocations
    INFO = "Info"  # worth knowing

    @property
    def rank(self) -> int:
        """Return 0 for the most serious severity, 2 for the least."""
        return list(Severity).index(self)


class CannotCheckError(Exception):
    """A rule needs something that cannot be read.

    Args:
        reason: why, in one line, as printed: the missing permission, API or status.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Observation:
    """What a rule reports about one object.

    Attributes:
        ref: the object that is to be changed, or the one that shows the problem.
        message: a sentence that names the objects concerned, without a full stop.
        field: the path of the field concerned, such as "spec.template.metadata.annotations"; "" for none.
        evidence: what was seen, a line each.
        commands: the commands that repair it, or that show what to repair.
        network, vm: those concerned, for filters and `trace`; None for none.
        address: the address concerned; "" for none.
        row: the address with its state, for -o json; None for other observations.
    """

    ref: ObjectRef
    message: str
    field: str = ""
    evidence: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    network: NamespacedName | None = None
    vm: NamespacedName | None = None
    address: str = ""
    row: InventoryRow | None = dataclasses_field(default=None, compare=False, repr=False)

    @property
    def line(self) -> str:
        """Return the message with the first command."""
        return f"{self.message} (`{self.commands[0]}`)" if self.commands else self.message
