"""The lab's paths: built programs in a cache, one folder per running lab."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """`$XDG_CACHE_HOME`, or `~/.cache`, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def program_cache() -> Path:
    """The folder with one `<tool>-<version>` folder per built tool; kept between labs."""
    return cache_home() / "kubectl-yoshi" / "lab"


def labs_folder() -> Path:
    """The folder with one folder per running lab. Not in the runtime folder: that is memory, and etcd writes 100 MB."""
    return cache_home() / "kubectl-yoshi" / "labs"


def tools_folder() -> Path:
    """The Go modules that the programs are built from."""
    return Path(__file__).parent / "tools"


def envtest_folder() -> Path:
    """Where setup-envtest puts its binaries: one `<version>-<os>-<arch>` folder each."""
    data_home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data_home / "kubebuilder-envtest" / "k8s"
