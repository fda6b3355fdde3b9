"""The state of an address or attachment, as printed."""

from __future__ import annotations

import enum


class AddressState(enum.Enum):
    """The state of an address, as printed: docs/reference/states.md has all, and output/tables.py their colours."""

    BOUND = "Bound"  # recorded, on the VM's template, and the VM runs with it or does not run
    PENDING = "Pending"  # recorded recently and not on the VM's template yet; or not announced yet
    CONFLICT = "Conflict"  # the backend would assign another address to the VM, or prevents its start
    RESTART_NEEDED = "RestartNeeded"  # the running VM has an address that its template lacks, or lacks one that it has
    ORPHANED = "Orphaned"  # recorded for a VM that no longer exists, or that does not request it
    RESERVED = "Reserved"  # reserved by a user, or used by the network itself
    LEASED = "Leased"  # leased by the network's DHCP server to a client without an allocation
    RELEASED = "Released"  # without a record, and not assigned again by the network or its backend yet
    UNRECORDED = "Unrecorded"  # used without a record
    UNKNOWN = "Unknown"  # what would show its state cannot be read
    FREE = "Free"  # can be assigned to any VM (`ips show`)
    UNUSABLE = "Unusable"  # never assigned, such as the gateway (`ips show`)
