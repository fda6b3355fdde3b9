"""Which of Calico's two API groups to talk to.

Calico keeps its objects either as crd.projectcalico.org/v1 (raw, or behind its aggregated API server, which serves
projectcalico.org/v3) or as projectcalico.org/v3 custom resources. The cases: docs/design.md, "Which Calico API".
"""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.kinds import APISERVICE
from kubectl_yoshi.model.objects import Json, Resource, dig

V1 = "crd.projectcalico.org"
V3 = "projectcalico.org"

MIGRATION = Resource("migration.projectcalico.org", "v1beta1", "datastoremigrations", "DatastoreMigration", False)

COMPLETE = "Complete"
_SERVICE = Read(APISERVICE, name=f"v3.{V3}")


def _v1(plural: str, kind: str) -> Resource:
    return Resource(V1, "v1", plural, kind, namespaced=False)


def _v3(plural: str, kind: str) -> Resource:
    return Resource(V3, "v3", plural, kind, namespaced=False)


@dataclass(frozen=True)
class CalicoApi:
    """The resources to use: configuration in one group, IPAM's bookkeeping maybe in another."""

    pool: Resource
    information: Resource
    block: Resource
    handle: Resource
    config: Resource
    bgp_configuration: Resource
    bgp_peer: Resource


def _api(of: str, ipam: str) -> CalicoApi:
    spec = _v3 if of == V3 else _v1
    books = _v3 if ipam == V3 else _v1
    return CalicoApi(
        pool=spec("ippools", "IPPool"),
        information=spec("clusterinformations", "ClusterInformation"),
        block=books("ipamblocks", "IPAMBlock"),
        handle=books("ipamhandles", "IPAMHandle"),
        config=books("ipamconfigurations", "IPAMConfiguration") if ipam == V3 else books("ipamconfigs", "IPAMConfig"),
        bgp_configuration=spec("bgpconfigurations", "BGPConfiguration"),
        bgp_peer=spec("bgppeers", "BGPPeer"),
    )


RAW = _api(V1, V1)
AGGREGATED = _api(V3, V1)
NATIVE = _api(V3, V3)


def is_installed(served: Served) -> bool:
    """Whether Calico's pools are served in either group."""
    return f"ippools.{V1}" in served.resources or f"ippools.{V3}" in served.resources or V3 in served.broken


def api_for_reading(facts: Facts) -> CalicoApi:
    """The resources that hold Calico's bookkeeping. What is not served reads as empty.

    Raises:
        NeedMore: whether Calico has moved its data to projectcalico.org/v3 was not read yet.
    """
    served = facts.served
    raw = f"ippools.{V1}" in served.resources or f"ipamblocks.{V1}" in served.resources
    v3 = f"ippools.{V3}" in served.resources
    if raw and v3 and MIGRATION.full_name in served.resources and not _is_aggregated(facts):
        phases = {_phase(migration) for migration in facts.ask(Read(MIGRATION))}
        return NATIVE if phases == {COMPLETE} else RAW
    return RAW if raw or not v3 else NATIVE


def api_for_writing(facts: Facts) -> CalicoApi:
    """The resources through which Calico itself is to be configured.

    Raises:
        NeedMore: whether projectcalico.org/v3 is Calico's API server or plain custom resources was not read yet.
        Refused: Calico is between two stores, locked, or its API server is down.
    """
    served = facts.served
    raw, v3 = f"ippools.{V1}" in served.resources, f"ippools.{V3}" in served.resources
    if V3 in served.broken:
        raise Refused(
            f"Calico's API server does not answer: {served.broken[V3]}",
            "Repair APIService v3.projectcalico.org first; writing past it could break Calico.",
        )
    if v3 and not raw:
        api = NATIVE
    elif raw and not v3:
        api = RAW
    else:
        api = _of_both(facts)
    _must_be_ready(api, facts)
    return api


def _of_both(facts: Facts) -> CalicoApi:
    aggregated = _is_aggregated(facts)
    if why := facts.why_unknown(_SERVICE):
        raise Refused(
            f"whether Calico's API server serves {V3}/v3 cannot be told: {why}",
            "Ask an administrator for the right to get apiservices, or let them run this command.",
        )
    if aggregated:
        return AGGREGATED
    if MIGRATION.full_name in facts.served.resources:
        migrations = facts.ask(Read(MIGRATION))
        for migration in migrations:
            if _phase(migration) != COMPLETE:
                raise Refused(
                    f"Calico is moving its data from {V1} to {V3} (datastoremigration is {_phase(migration)})",
                    "Wait until the migration is complete, then run this again.",
                )
        if migrations:
            return NATIVE
    return RAW


def _is_aggregated(facts: Facts) -> bool:
    """Whether projectcalico.org/v3 is served by Calico's own API server, and not as plain custom resources."""
    return any(dig(service, "spec", "service") for service in facts.ask(_SERVICE))


def _phase(migration: Json) -> str:
    return str(dig(migration, "status", "phase", default="not started"))


def _must_be_ready(api: CalicoApi, facts: Facts) -> None:
    for information in facts.ask(Read(api.information, name="default")):
        if dig(information, "spec", "datastoreReady") is False:
            raise Refused(
                "Calico's datastore is locked (clusterinformation/default says datastoreReady: false)",
                "Wait until whoever locked it (calicoctl datastore migrate) unlocks it.",
            )


def calico_version(api: CalicoApi, facts: Facts) -> tuple[int, int] | None:
    """Calico's version as (major, minor) from ClusterInformation; None where it does not tell or may not be read."""
    for information in facts.ask(Read(api.information, name="default")):
        words = str(dig(information, "spec", "calicoVersion", default="")).lstrip("v").split(".")
        if len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal():
            return int(words[0]), int(words[1])
    return None
