"""The admission policies of manifests/policies: load them, set how violations are treated, and find their state.

Each is a ValidatingAdmissionPolicy with one or more bindings. The bindings in the files deny; `set_mode` replaces that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubectl_yoshi import __version__
from kubectl_yoshi.cli.manifests import parse_objects
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ClusterError, NotFoundError, NotServedError, PolicyDeniedError
from kubectl_yoshi.model.network import ADDRESSBLOCK, VERSION_ANNOTATION
from kubectl_yoshi.model.objects import (
    POLICY,
    POLICY_BINDING,
    Json,
    ObjectRef,
    annotations_of,
    dig,
    metadata,
    name_of,
    new_object,
)
from kubectl_yoshi.model.policy_mode import ACTIONS, PolicyMode, mode_of
from kubectl_yoshi.plan.address_policies import ADDRESS_USE_POLICIES

PROBE = ADDRESSBLOCK.ref("policy-probe", "default")
"""An AddressBlock that the policy yoshi-allocations refuses to everybody, since its name does not fit its spec."""
PROBE_SPEC = {"network": "policy-probe", "networkUID": "policy-probe", "first": "192.0.2.0"}


def load_policies(mode: PolicyMode = PolicyMode.ENFORCE) -> list[Json]:
    """Return the policies, then their bindings, each annotated with this version; [] for PolicyMode.OFF."""
    from importlib.resources import files

    if mode is PolicyMode.OFF:
        return []
    folder = files("kubectl_yoshi.manifests").joinpath("policies")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    objects = [obj for name in names for obj in parse_objects(folder.joinpath(name).read_text(encoding="utf-8"), name)]
    for obj in objects:
        obj["metadata"].setdefault("annotations", {})[VERSION_ANNOTATION] = __version__
        if obj["kind"] == POLICY_BINDING.kind:
            obj["spec"]["validationActions"] = ACTIONS[mode]
    return sorted(objects, key=lambda obj: obj["kind"] != POLICY.kind)


def policy_ref(obj: Json) -> ObjectRef:
    """Return the reference to a policy or binding of the manifests."""
    return (POLICY if obj["kind"] == POLICY.kind else POLICY_BINDING).ref(name_of(obj))


@dataclass(frozen=True)
class PolicyStatus:
    """The state of one policy in the cluster.

    Attributes:
        name: of the ValidatingAdmissionPolicy.
        installed: whether it exists.
        mode: of its bindings; OFF if there is none.
        version: the version of this program that installed it; "" if that is unknown.
        active: whether the API server that answers applies the policies; None if that cannot be determined.
        warnings: of the API server's type checking, "FIELD: MESSAGE".
        unbound_namespaces: the namespaces with whose networks it compares only objects of the same namespace, for lack
            of a binding; None if that cannot be determined.
    """

    name: str
    installed: bool
    mode: PolicyMode
    version: str
    active: bool | None
    warnings: tuple[str, ...]
    unbound_namespaces: tuple[str, ...] | None


def list_policy_states(
    found: Mapping[ObjectRef, Json], active: bool | None, unbound_namespaces: Sequence[str] | None
) -> list[PolicyStatus]:
    """Return the state of each policy of the manifests.

    Args:
        found: the policies and bindings that exist.
        active, unbound_namespaces: see PolicyStatus.
    """
    manifests = load_policies()
    states = []
    for policy in (obj for obj in manifests if obj["kind"] == POLICY.kind):
        existing = found.get(policy_ref(policy))
        refs = [policy_ref(obj) for obj in manifests if dig(obj, "spec", "policyName") == name_of(policy)]
        mode = mode_of(found[ref] for ref in refs if ref in found)
        is_bound = existing is not None and mode is not PolicyMode.OFF
        version = annotations_of(existing or {}).get(VERSION_ANNOTATION, "")
        warnings = dig(existing, "status", "typeChecking", "expressionWarnings", default=[])
        texts = tuple(f"{warning.get('fieldRef')}: {warning.get('warning')}" for warning in warnings)
        is_active = active if is_bound else False
        unbound = () if name_of(policy) not in ADDRESS_USE_POLICIES or not is_bound else unbound_namespaces
        states.append(
            PolicyStatus(
                name_of(policy),
                existing is not None,
                mode,
                version,
                is_active,
                texts,
                None if unbound is None else tuple(unbound),
            )
        )
    return states


def choose_mode(requested: PolicyMode | None, found: Mapping[ObjectRef, Json], is_installed: bool) -> PolicyMode:
    """Return the mode to install the policies in.

    Args:
        requested: by the user; None to keep the mode of an existing installation, and to enforce in a new one.
        found: the policies and bindings that exist.
        is_installed: whether this program has installed roles. Policies are written before them, so that an
            installation that is killed between the two does not look like one without policies.
    """
    if requested is not None:
        return requested
    if found:
        mode = mode_of(obj for ref, obj in found.items() if ref.resource == POLICY_BINDING)
        return mode if mode is not PolicyMode.OFF else PolicyMode.ENFORCE
    return PolicyMode.OFF if is_installed else PolicyMode.ENFORCE


def find_policies(api: Api) -> dict[ObjectRef, Json]:
    """Return those policies and bindings of the manifests that exist and are not being deleted."""
    found = {}
    for ref in map(policy_ref, load_policies()):
        try:
            obj = api.get(ref)
        except (NotFoundError, NotServedError):
            continue
        if not metadata(obj).get("deletionTimestamp"):
            found[ref] = obj
    return found


def are_policies_active(api: Api) -> bool | None:
    """Return whether the API server that answers applies the policies; None if that cannot be determined.

    It loads all policies at once, about a second after they were created, and no status says that it did. So this sends
    a dry run of a request that the policy yoshi-allocations refuses to everybody, or warns of.
    """
    warnings: list[str] = []
    try:
        api.with_warnings_to(warnings.append).create(PROBE, new_object(PROBE, {"spec": PROBE_SPEC}), dry_run=True)
    except PolicyDeniedError:
        return True
    except NotServedError:  # a new CRD
        return False
    except ClusterError:
        return None
    return any("ValidatingAdmissionPolicy" in warning for warning in warnings)
