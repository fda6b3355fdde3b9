"""Which back-end makes a network's objects, and whether the cluster has what that takes."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.snapshot import Snapshot


def get_backend(network: Network, backends: Mapping[str, Backend]) -> Backend:
    """The back-end that makes a network's objects.

    Raises:
        PreconditionFailed: this program knows none of that name.
    """
    try:
        return backends[network.plugin]
    except KeyError:
        known = f"Known plugins: {', '.join(sorted(backends))}."
        if not network.plugin:
            fix = f"Set spec.plugin: kubectl edit networkwizard {network.name} -n {network.namespace}"
            raise PreconditionFailed(f"network {network.full_name} has no plugin", f"{known} {fix}") from None
        raise PreconditionFailed(
            f'network {network.full_name} has plugin "{network.plugin}", which this program does not know', known
        ) from None


def check_backend_available(network: Network, backend: Backend, snapshot: Snapshot) -> None:
    """Raises PreconditionFailed where the cluster lacks what the network is made with."""
    if missing_apis := backend.missing_apis(snapshot.served):
        raise PreconditionFailed(
            f"network {network.full_name} needs {backend.plugin}, which this cluster lacks: looked for {missing_apis}",
            "Install it first, or choose another network or --plugin.",
        )
