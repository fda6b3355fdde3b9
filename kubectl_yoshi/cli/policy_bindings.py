"""Bind the policies for the use of addresses to namespaces with networks, after a command that may have created one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_yoshi.kube.client import Api


def bind_policies(api: Api, namespace: str | None) -> tuple[str, ...]:
    """Create the missing bindings of namespaces with networks, as far as the user may.

    Args:
        api: the cluster.
        namespace: the namespace of the networks; None for all namespaces.

    Returns:
        A note about what could not be created.
    """
    from kubectl_yoshi.engine.apply import apply_plan
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.kube.errors import ClusterError
    from kubectl_yoshi.model.objects import POLICY
    from kubectl_yoshi.plan.address_policies import plan_bindings

    if POLICY not in api.served:
        return ()
    try:
        apply_plan(plan_bindings(namespace, new_snapshot(api)), api).raise_first()
    except ClusterError as error:
        networks = "all networks" if namespace is None else f"the networks of namespace {namespace}"
        until = "until an administrator of the cluster runs `kubectl yoshi install`"
        policies = "the policies for the use of addresses"
        return (f"{policies} do not compare VMs of other namespaces with {networks} {until}: {error.in_one_line}",)
    return ()
