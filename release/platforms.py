"""The platforms with archives, in krew's terms, and the names of the archives."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from kubectl_yoshi import __version__

VERSION = f"v{__version__}"


class ReleaseError(Exception):
    """A release cannot be made; says why."""


@dataclass(frozen=True)
class Platform:
    """An operating system and an architecture, as Go names them.

    Attributes:
        os: linux, darwin or windows.
        arch: amd64 or arm64.
    """

    os: str
    arch: str

    @property
    def archive(self) -> str:
        """The archive's name, e.g. `kubectl-yoshi_v0.1.0_linux_amd64.tar.gz`."""
        suffix = "zip" if self.os == "windows" else "tar.gz"
        return f"kubectl-yoshi_{VERSION}_{self.os}_{self.arch}.{suffix}"

    @property
    def program(self) -> str:
        """The name of the file that is started."""
        return "kubectl-yoshi.exe" if self.os == "windows" else "kubectl-yoshi"


PLATFORMS = (
    Platform("linux", "amd64"),
    Platform("linux", "arm64"),
    Platform("darwin", "amd64"),
    Platform("darwin", "arm64"),
    Platform("windows", "amd64"),
)

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def this_platform() -> Platform:
    """The platform of the machine that this runs on.

    Raises:
        ReleaseError: there are no archives for it.
    """
    system = {"linux": "linux", "darwin": "darwin", "win32": "windows"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    found = Platform(system, _ARCHITECTURES.get(machine, machine))
    if found not in PLATFORMS:
        known = ", ".join(f"{p.os}/{p.arch}" for p in PLATFORMS)
        raise ReleaseError(f"there are no archives for {found.os}/{found.arch}, but for {known}")
    return found
