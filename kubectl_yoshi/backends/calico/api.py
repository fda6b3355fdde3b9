"""Which of Calico's two API groups to use.

Calico keeps its objects either as crd.projectcalico.org/v1 (raw, or behind its aggregated API server, which serves
projectcalico.org/v3) or as projectcalico.org/v3 custom resources. The cases: docs/design.md, "Which Calico API".
Objects are found by name and have the ownership annotations; Calico's API server may move annotations into its own
`projectcalico.org/metadata`, so they are looked for there too.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.objects import APISERVICE, Json, Resource, dig
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot

V1 = "crd.projectcalico.org"
V3 = "projectcalico.org"

MIGRATION = Resource("migration.projectcalico.org", "v1beta1", "datastoremigrations", "DatastoreMigration", False)

COMPLETE = "Complete"
_APISERVICE_QUERY = Query(APISERVICE, name=f"v3.{V3}")


def _v1(plural: str, kind: str) -> Resource:
    return Resource(V1, "v1", plural, kind, namespaced=False)


def _v3(plural: str, kind: str) -> Resource:
    return Resource(V3, "v3", plural, kind, namespaced=False)


@dataclass(frozen=True)
class CalicoApi:
    """The resources to use; configuration and IPAM may be in different groups."""

    pool: Resource
    information: Resource
    block: Resource
    handle: Resource
    config: Resource
    bgp_configuration: Resource
    bgp_peer: Resource


def _api(group: str, ipam: str) -> CalicoApi:
    spec = _v3 if group == V3 else _v1
    ipam_resource = _v3 if ipam == V3 else _v1
    return CalicoApi(
        pool=spec("ippools", "IPPool"),
        information=spec("clusterinformations", "ClusterInformation"),
        block=ipam_resource("ipamblocks", "IPAMBlock"),
        handle=ipam_resource("ipamhandles", "IPAMHandle"),
        config=ipam_resource("ipamconfigurations", "IPAMConfiguration")
        if ipam == V3
        else ipam_resource("ipamconfigs", "IPAMConfig"),
        bgp_configuration=spec("bgpconfigurations", "BGPConfiguration"),
        bgp_peer=spec("bgppeers", "BGPPeer"),
    )


RAW = _api(V1, V1)
AGGREGATED = _api(V3, V1)
NATIVE = _api(V3, V3)


def is_installed(served: ServedApis) -> bool:
    """Return whether the API server serves Calico's pools in either group."""
    return f"ippools.{V1}" in served.resources or f"ippools.{V3}" in served.resources or V3 in served.unavailable


def get_read_api(snapshot: Snapshot) -> CalicoApi:
    """Return the resources that hold Calico IPAM. A resource that is not served reads as empty."""
    served = snapshot.served
    raw = f"ippools.{V1}" in served.resources or f"ipamblocks.{V1}" in served.resources
    v3 = f"ippools.{V3}" in served.resources
    if raw and v3 and MIGRATION.full_name in served.resources and not _is_aggregated(snapshot):
        phases = {_phase(migration) for migration in snapshot.lookup(Query(MIGRATION))}
        return NATIVE if phases == {COMPLETE} else RAW
    return RAW if raw or not v3 else NATIVE


def get_write_api(snapshot: Snapshot) -> CalicoApi:
    """Return the resources through which Calico must be configured.

    Raises:
        PreconditionFailed: Calico is migrating its datastore, its datastore is locked, or its API server is down.
    """
    served = snapshot.served
    raw, v3 = f"ippools.{V1}" in served.resources, f"ippools.{V3}" in served.resources
    if V3 in served.unavailable:
        raise PreconditionFailed(
            f"Calico's API server does not answer: {served.unavailable[V3]}",
            "Repair APIService v3.projectcalico.org first; bypassing it could break Calico.",
        )
    if v3 and not raw:
        api = NATIVE
    elif raw and not v3:
        api = RAW
    else:
        api = _choose_served_api(snapshot)
    _check_ready(api, snapshot)
    return api


def _choose_served_api(snapshot: Snapshot) -> CalicoApi:
    aggregated = _is_aggregated(snapshot)
    if reason := snapshot.unreadable_reason(_APISERVICE_QUERY):
        raise PreconditionFailed(
            f"cannot check whether Calico's API server serves {V3}/v3: {reason}",
            "Ask an administrator for permission to get apiservices, or to run this command.",
        )
    if aggregated:
        return AGGREGATED
    if MIGRATION.full_name in snapshot.served.resources:
        migrations = snapshot.lookup(Query(MIGRATION))
        for migration in migrations:
            if _phase(migration) != COMPLETE:
                raise PreconditionFailed(
                    f"Calico is moving its data from {V1} to {V3} (datastoremigration is {_phase(migration)})",
                    "Wait until the migration is complete, then run this again.",
                )
        if migrations:
            return NATIVE
    return RAW


def _is_aggregated(snapshot: Snapshot) -> bool:
    """Return whether Calico's own API server serves projectcalico.org/v3, rather than custom resources."""
    return any(dig(service, "spec", "service") for service in snapshot.lookup(_APISERVICE_QUERY))


def _phase(migration: Json) -> str:
    return str(dig(migration, "status", "phase", default="not started"))


def _check_ready(api: CalicoApi, snapshot: Snapshot) -> None:
    for information in snapshot.lookup(Query(api.information, name="default")):
        if dig(information, "spec", "datastoreReady") is False:
            raise PreconditionFailed(
                "Calico's datastore is locked (clusterinformation/default has datastoreReady: false)",
                "Wait until it is unlocked; `calicoctl datastore migrate` locks it.",
            )


def calico_version(api: CalicoApi, snapshot: Snapshot) -> tuple[int, int] | None:
    """Return Calico's version as (major, minor) from ClusterInformation; None if it is missing or cannot be read."""
    for information in snapshot.lookup(Query(api.information, name="default")):
        parts = str(dig(information, "spec", "calicoVersion", default="")).lstrip("v").split(".")
        if len(parts) >= 2 and parts[0].isdecimal() and parts[1].isdecimal():
            return int(parts[0]), int(parts[1])
    return None
