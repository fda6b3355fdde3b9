"""Every name of the program that the golden traces use: a rename of these is made here and nowhere else."""

from __future__ import annotations

import kubectl_yoshi
from kubectl_yoshi.__main__ import main
from kubectl_yoshi.model.objects import Resource as Kind

VERSION = kubectl_yoshi.__version__

PACKAGE = "kubectl_yoshi"
"""The package, in whose modules `clock` and `rounds` replace what they imported from the standard library."""

MANIFESTS = "manifests/crds.yaml"
"""The CRDs that the program installs, a file in the package."""

COMPLETION_LIMIT = "KUBECTL_YOSHI_COMPLETION_SECONDS"
"""The environment variable for how many seconds of real time a completion may take."""

__all__ = ["COMPLETION_LIMIT", "MANIFESTS", "PACKAGE", "VERSION", "Kind", "main"]
