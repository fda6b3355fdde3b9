"""Check before the first write whether the user may do all that a run needs, so that otherwise it does nothing.

One SelfSubjectAccessReview for each verb, kind and namespace, in parallel
(https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access), also for the rounds to
come: what a preview of the same planner shows, and `Plan.future_changes`, such as the start of a VM that is to be
stopped. A missing permission is treated like a write that failed for good, but nothing was written: the planner is
called with it in `RunContext.failed`.

Nothing is checked for a plan that records addresses in one network and then patches their VMs, since what can be
refused there is rolled back by a permission that was just used; so an attachment takes no longer. Where no server
answers the review, the writes themselves are refused, and rolled back. A planner may ask too
(`Snapshot.forbidden_reason`), where something else than a refusal follows: an address that a tenant may not release in
Calico stays recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ClusterError, ForbiddenError, RequestInfo, permission_hint
from kubectl_yoshi.model.access import Access, required_accesses
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.vm import VM

MAX_PARALLEL = 8


class Permissions:
    """The permissions of the user, checked once for each access of a run."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._allowed: dict[Access, bool] = {}

    def errors(self, plan: Plan, later: Plan, failed: Collection[str]) -> dict[str, YoshiError]:
        """Return why changes may not be sent, by the owners that get nothing because of it.

        Nothing is checked if a refused write leaves nothing half done: it is the first one, or follows directly after a
        record, which is removed again (plan.attach.rollback).

        Args:
            plan: the changes to send next.
            later: what is known of the rounds after it.
            failed: owners that are being rolled back: as much of the rollback is sent as is permitted.
        """
        if "" in failed:
            return {}
        changes = [*plan, *plan.future_changes, *later, *later.future_changes]
        needed = [(change, required_accesses(change)) for change in changes if change.owner not in failed]
        accesses = list(dict.fromkeys(access for _, required in needed for access in required))
        can_be_rolled_back = not plan.future_changes and _writes_only_allocations_and_vms(plan, accesses)
        if len({_without_name(access) for access in accesses}) < 2 or can_be_rolled_back:
            return {}
        return self._find_errors(needed, {**plan.results, **later.results})

    def all_errors(self, plan: Plan) -> dict[str, YoshiError]:
        """Return why changes may not be sent, like `errors`, of a plan that is applied after another one."""
        return self._find_errors(
            [(change, required_accesses(change)) for change in (*plan, *plan.future_changes)], plan.results
        )

    def _find_errors(
        self, needed: Sequence[tuple[Change, tuple[Access, ...]]], results: Iterable[str]
    ) -> dict[str, YoshiError]:
        accesses = list(dict.fromkeys(access for _, required in needed for access in required))
        self._check_accesses(_without_name(access) for access in accesses)
        self._check_accesses(access for access in accesses if access.name and not self._allowed[_without_name(access)])
        errors: dict[str, YoshiError] = {}
        for change, required in needed:
            missing_permission = next((access for access in required if not self._is_allowed(access)), None)
            if missing_permission is not None:
                subjects = (change.owner,) if change.owner else ("", *results)
                error = forbidden_error(missing_permission, change.summary or f"{change.verb.value} {change.ref}")
                errors = {**dict.fromkeys(subjects, error), **errors}
        return errors

    def _is_allowed(self, access: Access) -> bool:
        return self._allowed[_without_name(access)] or self._allowed.get(access, False)

    def _check_accesses(self, accesses: Iterable[Access]) -> None:
        unknown = [access for access in dict.fromkeys(accesses) if access not in self._allowed]
        if unknown:
            with ThreadPoolExecutor(min(MAX_PARALLEL, len(unknown))) as pool:
                self._allowed.update(zip(unknown, pool.map(partial(is_allowed, self._api), unknown), strict=True))


def is_allowed(api: Api, access: Access) -> bool:
    """Return whether an access is permitted; True if it cannot be checked, as the write itself will show it."""
    try:
        return api.is_allowed(access)
    except ClusterError:
        return True


def describe_missing_permission(access: Access) -> str:
    """Return one line: "may not update ipamblocks.crd.projectcalico.org"."""
    return f"may not {_request_info(access).permission}"


def forbidden_error(access: Access, summary: str) -> ForbiddenError:
    """Return the error for a change that would be refused.

    Args:
        access: the missing permission.
        summary: what the change does, see Change.summary.
    """
    request_info = _request_info(access)
    message = f"cannot {summary}: may not {request_info.permission}"
    return ForbiddenError(
        message, permission_hint(request_info), missing_permission=describe_missing_permission(access), status=403
    )


def _request_info(access: Access) -> RequestInfo:
    return RequestInfo(access.verb, access.resource, access.name, access.namespace, access.subresource)


def _without_name(access: Access) -> Access:
    """Return the access to any object of the same resource and namespace."""
    return replace(access, name="")


def _writes_only_allocations_and_vms(plan: Plan, accesses: Sequence[Access]) -> bool:
    """Return whether a plan only records addresses in one network and then writes to their VMs.

    Nearly every attachment does. It needs no check in advance, since the record of a VM that may not be written to is
    removed with the same permission by which it was written. A network with AddressBlocks is patched after them: if
    that is refused, the records are removed from the blocks likewise.
    """
    networks = {access for access in accesses if access.resource == NETWORKWIZARD}
    blocks = {_without_name(access) for access in accesses if access.resource == ADDRESSBLOCK}
    others = {access.resource for access in accesses if access.resource not in (NETWORKWIZARD, ADDRESSBLOCK)}
    patches = {access.verb for access in accesses} == {"patch"}
    first = {change.ref.resource for stage in plan.stages[:1] for change in stage}
    return patches and len(networks) <= 1 and len(blocks) <= 1 and others <= {VM} and VM not in first
