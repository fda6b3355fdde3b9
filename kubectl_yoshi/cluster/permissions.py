"""Whether the user may write what a plan writes, asked before its first write, so that a run which may not do all that
is needed does nothing at all (SelfSubjectAccessReview).

https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import Asked, ClusterError, Forbidden, who_may
from kubectl_yoshi.model.access import Access, accesses_of
from kubectl_yoshi.model.change import Change, Plan
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.vm import VM

PARALLEL = 8


class Permissions:
    """What the user may do, asked once for each access of a run."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._allowed: dict[Access, bool] = {}

    def refusals(self, plan: Plan, later: Plan, failed: Collection[str]) -> dict[str, YoshiError]:
        """Return why changes may not be sent, by the subjects that get nothing therefore.

        Nothing is asked where a write that is refused leaves nothing half done: it is the first one, or comes right
        after a record, which is removed again (plan.undoing).

        Args:
            plan: what is to be sent next.
            later: what is known of the rounds after it.
            failed: subjects whose changes are being taken back: as much of that is sent as may be.
        """
        if "" in failed:
            return {}
        changes = [*plan, *plan.foreseen, *later, *later.foreseen]
        needed = [(change, accesses_of(change)) for change in changes if change.subject not in failed]
        accesses = list(dict.fromkeys(access for _, some in needed for access in some))
        may_be_taken_back = not plan.foreseen and _only_records_and_vms(plan, accesses)
        if len({_kind(access) for access in accesses}) < 2 or may_be_taken_back:
            return {}
        return self._refusals(needed, {**plan.answers, **later.answers})

    def all_refusals(self, plan: Plan) -> dict[str, YoshiError]:
        """Return why changes may not be sent, as `refusals`, of a plan that is carried out after another one."""
        return self._refusals([(change, accesses_of(change)) for change in (*plan, *plan.foreseen)], plan.answers)

    def _refusals(
        self, needed: Sequence[tuple[Change, tuple[Access, ...]]], answers: Iterable[str]
    ) -> dict[str, YoshiError]:
        accesses = list(dict.fromkeys(access for _, some in needed for access in some))
        self._ask(_kind(access) for access in accesses)
        self._ask(access for access in accesses if access.name and not self._allowed[_kind(access)])
        refused: dict[str, YoshiError] = {}
        for change, some in needed:
            missing = next((access for access in some if not self._is_allowed(access)), None)
            if missing is not None:
                subjects = (change.subject,) if change.subject else ("", *answers)
                error = forbidden(missing, change.says or f"{change.verb.value} {change.ref}")
                refused = {**dict.fromkeys(subjects, error), **refused}
        return refused

    def _is_allowed(self, access: Access) -> bool:
        return self._allowed[_kind(access)] or self._allowed.get(access, False)

    def _ask(self, accesses: Iterable[Access]) -> None:
        unknown = [access for access in dict.fromkeys(accesses) if access not in self._allowed]
        if unknown:
            with ThreadPoolExecutor(min(PARALLEL, len(unknown))) as pool:
                self._allowed.update(zip(unknown, pool.map(self._may, unknown), strict=True))

    def _may(self, access: Access) -> bool:
        return may(self._api, access)


def may(api: Api, access: Access) -> bool:
    """Return whether the user may do that; True where the API server cannot say: the write itself will be answered."""
    try:
        return api.may(access)
    except ClusterError:
        return True


def missing_right(access: Access) -> str:
    """Return one line: "may not update ipamblocks.crd.projectcalico.org"."""
    return f"may not {_asked(access).right}"


def forbidden(access: Access, says: str) -> Forbidden:
    """Return the error for a change that would be refused.

    Args:
        access: what may not be done.
        says: what the change does, see Change.says.
    """
    asked = _asked(access)
    message = f"cannot {says}: may not {asked.right}"
    return Forbidden(message, who_may(asked), missing=missing_right(access), status=403, ref=asked.ref)


def _asked(access: Access) -> Asked:
    return Asked(access.verb, access.resource, access.name, access.namespace, access.subresource)


def _kind(access: Access) -> Access:
    """The access to any object of its kind and namespace."""
    return replace(access, name="")


def _only_records_and_vms(plan: Plan, accesses: Sequence[Access]) -> bool:
    """Whether a plan records addresses in one network and then writes to their VMs, and does nothing else.

    This is what nearly every attachment does; it needs no answer before, since a record whose VM may not be written to
    is removed by the same right by which it was written. A network with AddressBlocks is patched after them: if that is
    refused, the records are removed from the blocks likewise.
    """
    networks = {access for access in accesses if access.resource == NETWORKWIZARD}
    blocks = {_kind(access) for access in accesses if access.resource == ADDRESSBLOCK}
    others = {access.resource for access in accesses if access.resource not in (NETWORKWIZARD, ADDRESSBLOCK)}
    patches = {access.verb for access in accesses} == {"patch"}
    first = {change.ref.resource for stage in plan.stages[:1] for change in stage}
    return patches and len(networks) <= 1 and len(blocks) <= 1 and others <= {VM} and VM not in first
