"""Find out what a network still waits for, for `--wait`."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, UnreadableError
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.network_lookup import being_deleted_error, get_backend, load_network


def find_pending_rollout(name: NamespacedName, backends: Mapping[str, Backend], snapshot: Snapshot) -> str:
    """Return why VMs cannot use the network yet, as printed; "" if they can.

    The condition Ready states whether the network's objects exist and no controller rejects them. This also covers what
    the controllers do with them, such as bridges on the nodes, as far as they report it.

    Args:
        name: the network's namespace and name.
        backends: by plugin.

    Raises:
        PreconditionFailed: the network no longer exists, is being deleted, or cannot be checked.
    """
    network = load_network(*name, snapshot)
    backend = get_backend(network, backends)
    if network.is_deleting:
        raise being_deleted_error(network)
    pending = backend.health(network, snapshot) or backend.pending_rollout(network, snapshot)
    if unreadable := snapshot.unreadable_reasons():
        raise UnreadableError(
            f"cannot check whether network {network.full_name} is ready: {unreadable[0]}", ASK_ADMIN_HINT
        )
    return pending
