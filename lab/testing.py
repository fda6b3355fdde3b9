"""What tests need of a cluster, a lab or kind."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.api import NOT_FOUND, Api, ApiError, api_of_kubeconfig, wait_until
from lab.errors import LabError
from lab.running import kubectl_command


@dataclass(frozen=True)
class Cluster:
    """A cluster of the tests' own: they may change anything in it."""

    kubeconfig: Path
    context: str

    @cached_property
    def api(self) -> Api:
        """A client in this process that is the administrator."""
        return api_of_kubeconfig(self.kubeconfig, self.context)

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
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield name
        finally:
            try:
                self.api.delete(f"/api/v1/namespaces/{name}")
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise

    def wait_for_namespace_deletion(self, seconds: float = 120) -> None:
        """Wait until the namespaces of earlier tests are gone: their networks may go later than what was made for
        them elsewhere is looked at. Raises a LabError if that takes longer."""
        terminating = "/api/v1/namespaces?fieldSelector=status.phase%3DTerminating&limit=1"
        wait_until("no namespace is still being deleted", lambda: not self.api.get(terminating)["items"], seconds)


def must_run_for_real() -> bool:
    """Whether a test that cannot run its real part has failed: in CI nobody reads what was skipped."""
    return os.environ.get("CI", "").lower() in {"true", "1", "yes"}
