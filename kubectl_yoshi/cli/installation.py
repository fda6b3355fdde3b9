"""The objects that `install` creates and `uninstall` removes, from the package's manifests, and the plans for both.

The admission policies are loaded by `cli.policies`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kubectl_yoshi import __version__
from kubectl_yoshi.cli.manifests import parse_objects
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import NotFoundError
from kubectl_yoshi.model.errors import PreconditionFailed, first_few
from kubectl_yoshi.model.network import GROUP, PART_OF_LABEL, VERSION_ANNOTATION, is_newer
from kubectl_yoshi.model.objects import (
    CRD,
    POLICY,
    POLICY_BINDING,
    Json,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Plan, Verb

CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
RESOURCES = {resource.kind: resource for resource in (CRD, CLUSTER_ROLE, POLICY, POLICY_BINDING)}
INSTALL_ORDER = (CRD, POLICY, POLICY_BINDING, CLUSTER_ROLE)
"""The CRDs come before the policies, whose parameters they are: an API server that does not serve them yet finds them
only half a minute later. The roles come last: where there are roles without policies, these are off (choose_mode)."""
UNINSTALL_ORDER = ((POLICY_BINDING,), (POLICY,), (CRD, CLUSTER_ROLE))
"""A binding without its policy would be an error in the API server's log."""


def load_manifests() -> list[Json]:
    """Return the CRDs and roles to install, CRDs first, each annotated with this version."""
    from importlib.resources import files

    folder = files("kubectl_yoshi.manifests")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    objects = [obj for name in names for obj in parse_objects(folder.joinpath(name).read_text(encoding="utf-8"), name)]
    for obj in objects:
        obj["metadata"].setdefault("annotations", {})[VERSION_ANNOTATION] = __version__
    return sorted(objects, key=lambda obj: obj["kind"] != CRD.kind)


def manifest_ref(obj: Json) -> ObjectRef:
    """Return the reference to the object of a manifest."""
    return RESOURCES[obj["kind"]].ref(name_of(obj))


def find_installed(api: Api, desired: list[Json]) -> dict[ObjectRef, Json]:
    """Return those objects of the manifests that exist in the cluster."""
    found = {}
    for ref in map(manifest_ref, desired):
        try:
            found[ref] = api.get(ref)
        except NotFoundError:
            continue
    return found


def is_managed(obj: Json) -> bool:
    """Return whether `install` created the object, or Platform9 yoshi, whose CRD is of the same API group."""
    return is_managed_by_label(obj) or (manifest_ref(obj).resource == CRD and dig(obj, "spec", "group") == GROUP)


def is_managed_by_label(obj: Json) -> bool:
    """Return whether `install` created the object."""
    return labels_of(obj).get(PART_OF_LABEL[0]) == PART_OF_LABEL[1]


def plan_install(desired: Iterable[Json], found: Mapping[ObjectRef, Json]) -> Plan:
    """Plan a server-side apply of every manifest.

    Args:
        desired: the manifests.
        found: the objects that exist already.

    Raises:
        PreconditionFailed: an object with the same name is not managed by yoshi, or a newer version installed it: the
            API server would drop the fields that only the newer CRDs have.
    """
    changes = []
    for obj in desired:
        ref = manifest_ref(obj)
        before = found.get(ref)
        if before is not None and not is_managed(before):
            raise PreconditionFailed(
                f"{ref} exists and was not created by kubectl yoshi; it is not changed",
                f"Rename or delete it, or label it {PART_OF_LABEL[0]}={PART_OF_LABEL[1]} to let kubectl yoshi manage "
                "it.",
            )
        installed_version = annotations_of(before or {}).get(VERSION_ANNOTATION, "")
        if is_newer(installed_version):
            raise PreconditionFailed(
                f"{ref} was installed by kubectl yoshi {installed_version}, and this is {__version__}: fields that "
                "only the newer version has would be lost",
                f"Use kubectl yoshi {installed_version} or a later one.",
            )
        changes.append(Change(Verb.APPLY, ref, "", body=obj, before=before))
    return order_stages(Plan((tuple(changes),)))


def order_stages(plan: Plan) -> Plan:
    """Return a plan whose stages are in INSTALL_ORDER; deletions of bindings come first, those of policies last."""
    changes = list(plan)
    removed = [change for change in changes if change.verb is Verb.DELETE]
    applied = [change for change in changes if change.verb is not Verb.DELETE]
    stages = (
        [change for change in removed if change.ref.resource == POLICY_BINDING],
        *([change for change in applied if change.ref.resource == resource] for resource in INSTALL_ORDER),
        [change for change in removed if change.ref.resource != POLICY_BINDING],
    )
    return replace(plan, stages=tuple(tuple(stage) for stage in stages if stage))


def plan_removal(found: Iterable[Json]) -> Plan:
    """Plan the deletion of objects that `install` created, in the order in which they can do without each other.

    Args:
        found: the objects that exist; unmanaged ones stay.
    """
    notes = []
    deletions = []
    for obj in found:
        if is_managed(obj):
            ref = manifest_ref(obj)
            deletions.append(Change(Verb.DELETE, ref, "", before=obj, uid=uid_of(obj), ignore_not_found=True))
        else:
            notes.append(f"{manifest_ref(obj)} was not created by kubectl yoshi; it is kept")
    stages = (tuple(change for change in deletions if change.ref.resource in stage) for stage in UNINSTALL_ORDER)
    return Plan(tuple(stage for stage in stages if stage), tuple(notes))


def plan_uninstall(found: Iterable[Json]) -> Plan:
    """Plan the deletion of the objects that `install` created, and wait for it; unmanaged objects stay.

    Args:
        found: the objects with the manifests' names that exist.
    """
    removal = plan_removal(found)
    waits = tuple(
        replace(change, verb=Verb.WAIT, wait_for="deleted") for change in removal if change.ref.resource == CRD
    )
    return removal + Plan((waits,) if waits else ())


@dataclass(frozen=True)
class LostNetwork:
    """A network that would be lost.

    Attributes:
        network: "namespace/name".
        allocations: their number.
    """

    network: str
    allocations: int

    def __str__(self) -> str:
        return f"{self.network} ({self.allocations} {'address' if self.allocations == 1 else 'addresses'} held)"


def find_lost_networks(networks: Iterable[Json], blocks: Iterable[Json]) -> list[LostNetwork]:
    """Return the networks that are deleted with the CRDs, with their allocations, also those in AddressBlocks."""
    in_blocks: Counter[tuple[str, str]] = Counter()
    for block in blocks:
        network = str(dig(block, "spec", "network", default=""))
        in_blocks[(namespace_of(block), network)] += len(dig(block, "status", "allocations", default={}))
    return [
        LostNetwork(
            f"{namespace_of(obj)}/{name_of(obj)}",
            len(dig(obj, "status", "allocations", default={})) + in_blocks[(namespace_of(obj), name_of(obj))],
        )
        for obj in networks
    ]


def format_lost_networks(lost: list[LostNetwork], limit: int = 10) -> str:
    """Return the lost networks in one line."""
    return first_few([*map(str, lost)], limit, " and")


def is_established(crd: Json) -> bool:
    """Return whether the API server serves the objects of a CRD."""
    return any(
        condition.get("type") == "Established" and condition.get("status") == "True"
        for condition in dig(crd, "status", "conditions", default=[])
    )


def names_conflict_reason(crd: Json) -> str:
    """Return the message that another CRD has the same names, so that this one will never be served; else ""."""
    for condition in dig(crd, "status", "conditions", default=[]):
        if condition.get("type") == "NamesAccepted" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "its names are in use")
    return ""
