"""Which back-end makes a network's objects, and whether the cluster has what that takes."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import Network


def backend_of(network: Network, backends: Mapping[str, Backend]) -> Backend:
    """The back-end that makes a network's objects.

    Raises:
        Refused: this program knows none of that name.
    """
    try:
        return backends[network.plugin]
    except KeyError:
        known = f"Known plugins: {', '.join(sorted(backends))}."
        if not network.plugin:
            mend = f"Set spec.plugin: kubectl edit networkwizard {network.name} -n {network.namespace}"
            raise Refused(f"network {network.full_name} has no plugin", f"{known} {mend}") from None
        raise Refused(
            f'network {network.full_name} has plugin "{network.plugin}", which this program does not know', known
        ) from None


def must_be_served(network: Network, backend: Backend, facts: Facts) -> None:
    """Raises Refused where the cluster lacks what the network is made with."""
    if missing := backend.missing(facts.served):
        raise Refused(
            f"network {network.full_name} needs {backend.plugin}, which this cluster lacks: looked for {missing}",
            "Install it first, or choose another network or --plugin.",
        )
