"""The lab's error."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab needs is missing or did not start; the message says what, and what to do about it."""
