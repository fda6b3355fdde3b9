"""What a test needs of a cluster, whether it is a lab or kind."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.api import wait_until
from lab.errors import LabError
from lab.running import kubectl_command


@dataclass(frozen=True)
class Cluster:
    """A cluster of the tests' own: they may change anything in it."""

    kubeconfig: Path
    context: str

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl as the administrator; returns its stdout, and raises a LabError with its stderr if it fails."""
        command = [kubectl_command(), f"--kubeconfig={self.kubeconfig}", f"--context={self.context}", *args]
        result = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if result.returncode:
            raise LabError(f"kubectl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout

    @contextmanager
    def namespace(self, prefix: str = "yoshi-test") -> Iterator[str]:
        """A fresh namespace, deleted at the end."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def wait_for_namespace_deletion(self, seconds: float = 120) -> None:
        """Wait until the namespaces of earlier tests are gone: their networks may go later than what was made for
        them elsewhere is looked at. Raises a LabError if that takes longer."""
        list_terminating = ("get", "namespaces", "--field-selector=status.phase=Terminating", "-o", "name")
        wait_until("no namespace is still being deleted", lambda: not self.kubectl(*list_terminating), seconds, 0.2)


def must_run_for_real() -> bool:
    """Whether a test that cannot run its real part has failed: in CI nobody reads what was skipped."""
    return os.environ.get("CI", "").lower() in {"true", "1", "yes"}
