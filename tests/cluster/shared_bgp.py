"""Calico's BGPConfiguration "default" shared by several fixtures: foreign entries in it, and each fixture's own."""

from __future__ import annotations

import copy
from collections.abc import Collection

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.bgp_configuration import (
    ASN_ANNOTATION,
    ENTRY_PREFIX,
    EXTERNAL_IPS,
    LOAD_BALANCER_IPS,
)
from kubectl_yoshi.backends.ownership import NEEDED_BY_PREFIX
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ConflictError, NotFoundError
from kubectl_yoshi.model.objects import Json

REF = RAW.bgp_configuration.ref("default")
THEIRS = {
    LOAD_BALANCER_IPS: [{"cidr": "198.51.100.0/28"}, {"cidr": "198.51.100.77/32"}],
    EXTERNAL_IPS: [{"cidr": "198.51.100.32/28"}],
    "nodeToNodeMeshEnabled": True,
}
"""What another client has written, who says nothing of an asNumber."""
DEFAULTS = ("logSeverityScreen", "serviceLoadBalancerAggregation")
"""What Calico's CRD adds."""


def create_foreign_entries(api: Api) -> None:
    """Create the configuration with entries of another client."""
    delete_foreign_entries(api)
    resource = RAW.bgp_configuration
    metadata = {"name": "default", "annotations": {"example.com/theirs": "stay"}}
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": THEIRS}
    api.create(REF, body)


def check_foreign_entries(api: Api) -> None:
    """Fail if the foreign entries have changed."""
    there = api.get(REF)
    assert {key: value for key, value in there["spec"].items() if key not in DEFAULTS} == THEIRS, there
    assert there["metadata"]["annotations"] == {"example.com/theirs": "stay"}, there


def delete_foreign_entries(api: Api) -> None:
    """Delete the configuration."""
    try:
        api.delete(REF)
    except NotFoundError:
        return


def find(api: Api) -> Json | None:
    """Return the configuration; None if there is none."""
    try:
        return api.get(REF)
    except NotFoundError:
        return None


def part_of(there: Json | None, prefix: str, uids: Collection[str]) -> Json | None:
    """What is in it for one fixture, as an object, its lists by their CIDRs, as their order means nothing; None where
    nothing is.

    Args:
        there: the configuration.
        prefix: of the fixture's addresses, "10.60.".
        uids: of the fixture's networks.
    """
    if there is None:
        return None
    part: Json = {
        "kind": REF.resource.kind,
        "metadata": {"name": "default", "uid": there["metadata"]["uid"]},
        "spec": {},
    }
    annotations = there["metadata"].get("annotations") or {}
    part["metadata"]["annotations"] = {key: annotations[key] for key in annotations if _is_own(key, prefix, uids)}
    for field in (LOAD_BALANCER_IPS, EXTERNAL_IPS):
        entries = there["spec"].get(field, ())
        part["spec"][field] = {entry["cidr"]: entry for entry in entries if entry["cidr"].startswith(prefix)}
    if any(key.startswith(NEEDED_BY_PREFIX) for key in part["metadata"]["annotations"]):
        part["spec"]["asNumber"] = there["spec"].get("asNumber")
    if not part["metadata"]["annotations"] and not any(part["spec"].values()):
        return None
    return part


def clear(api: Api, prefix: str, uids: Collection[str]) -> None:
    """Remove one fixture's part, while others write."""
    while True:
        there = find(api)
        if there is None or part_of(there, prefix, uids) is None:
            return
        kept = copy.deepcopy(there)
        annotations = kept["metadata"]["annotations"]
        kept["metadata"]["annotations"] = {k: v for k, v in annotations.items() if not _is_own(k, prefix, uids)}
        for field in (LOAD_BALANCER_IPS, EXTERNAL_IPS):
            kept["spec"][field] = [one for one in kept["spec"].get(field, ()) if not one["cidr"].startswith(prefix)]
        is_last = not any(key.startswith((ENTRY_PREFIX, NEEDED_BY_PREFIX)) for key in kept["metadata"]["annotations"])
        if is_last and kept["metadata"]["annotations"].pop(ASN_ANNOTATION, None):
            del kept["spec"]["asNumber"]
        try:
            api.replace(REF, kept)
            return
        except ConflictError:
            continue


def _is_own(key: str, prefix: str, uids: Collection[str]) -> bool:
    return key.startswith(f"{ENTRY_PREFIX}{prefix}") or key.removeprefix(NEEDED_BY_PREFIX) in uids
