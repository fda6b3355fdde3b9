"""A real Kubernetes control plane on one Linux machine, without containers: for the tests and the demo."""

from lab.errors import LabError
from lab.running import Lab, start

__all__ = ["Lab", "LabError", "start"]
