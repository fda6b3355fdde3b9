"""Which of Calico's API groups is talked to.

served                   APIService v3.projectcalico.org   writes to        IPAM is read from
-----------------------  --------------------------------  ---------------  -----------------
v3 and crd v1            names a Service                   v3 (aggregated)  crd v1
v3                       names none                        v3 (native)      v3
crd v1                   is not there                      crd v1           crd v1
v3 and crd v1            names none, migration unfinished  nothing          crd v1
v3 and crd v1            names none, migration complete    v3 (native)      v3
v3 and crd v1            names none, no migration          crd v1           crd v1
v3 is broken, and any    is not available                  nothing          what is there
any                      any, the datastore is locked      nothing          as above
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import (
    AGGREGATED,
    APISERVICE,
    MIGRATION,
    NATIVE,
    RAW,
    V3,
    CalicoApi,
    calico_version,
    get_read_api,
    get_write_api,
    is_installed,
)
from kubectl_yoshi.backends.ownership import (
    NETWORK_ANNOTATION,
    NETWORK_UID_ANNOTATION,
    get_annotations,
    is_created_for,
    ownership_annotations,
)
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot, Unreadable
from tests.unit.plan.fake_api import served

CRD_V1 = (RAW.pool, RAW.information, RAW.block, RAW.handle, RAW.config)
V3_AGGREGATED = (NATIVE.pool, NATIVE.information, NATIVE.config)
V3_NATIVE = (*V3_AGGREGATED, NATIVE.block, NATIVE.handle)
SERVICE = Query(APISERVICE, name="v3.projectcalico.org")
OF_A_SERVER: Json = {"spec": {"service": {"name": "calico-api", "namespace": "calico-system"}}}
OF_CRDS: Json = {"spec": {"service": None}}


def snapshot(*resources: Resource, broken: dict[str, str] | None = None, **results: Any) -> Snapshot:
    """What is served, and what was read: service, migrations, information (of either group)."""
    known: dict[Query, Any] = {
        SERVICE: results.get("service", ()),
        Query(RAW.information, name="default"): results.get("information", ()),
        Query(NATIVE.information, name="default"): results.get("information", ()),
    }
    if MIGRATION in resources:
        known[Query(MIGRATION)] = results.get("migrations", ())
    return Snapshot(served((*resources, APISERVICE), broken), known)


def migration(phase: str) -> Json:
    return {"metadata": {"name": "v1-to-v3"}, "status": {"phase": phase} if phase else {}}


CASES = [
    ("classic", snapshot(*CRD_V1, *V3_AGGREGATED, service=(OF_A_SERVER,)), AGGREGATED, RAW),
    ("native v3", snapshot(*V3_NATIVE, service=(OF_CRDS,)), NATIVE, NATIVE),
    ("no API server", snapshot(*CRD_V1), RAW, RAW),
    ("both as CRDs", snapshot(*CRD_V1, *V3_NATIVE, service=(OF_CRDS,)), RAW, RAW),
    ("both as CRDs, never migrated", snapshot(*CRD_V1, *V3_NATIVE, MIGRATION, service=(OF_CRDS,)), RAW, RAW),
    (
        "migrated",
        snapshot(*CRD_V1, *V3_NATIVE, MIGRATION, service=(OF_CRDS,), migrations=(migration("Complete"),)),
        NATIVE,
        NATIVE,
    ),
    (
        "classic, with the means to migrate",
        snapshot(*CRD_V1, *V3_AGGREGATED, MIGRATION, service=(OF_A_SERVER,), migrations=(migration(""),)),
        AGGREGATED,
        RAW,
    ),
]


@pytest.mark.parametrize(("what", "known", "writes", "reads"), CASES, ids=[case[0] for case in CASES])
def test_api_group_is_the_one_that_calico_uses(what: str, known: Snapshot, writes: CalicoApi, reads: CalicoApi) -> None:
    assert get_write_api(known) == writes
    assert get_read_api(known) == reads
    assert is_installed(known.served)


@pytest.mark.parametrize("phase", ["Migrating", "Pending", "Failed", ""])
def test_datastore_migration_blocks_writes(phase: str) -> None:
    known = snapshot(*CRD_V1, *V3_NATIVE, MIGRATION, service=(OF_CRDS,), migrations=(migration(phase),))
    with pytest.raises(PreconditionFailed, match=rf"moving its data .*datastoremigration is {phase or 'not started'}"):
        get_write_api(known)
    assert get_read_api(known) == RAW


@pytest.mark.parametrize("resources", [CRD_V1, (*CRD_V1, *V3_AGGREGATED), ()], ids=["v1", "both", "none"])
def test_unavailable_calico_api_server_blocks_writes(resources: tuple[Resource, ...]) -> None:
    known = snapshot(*resources, broken={V3: "no endpoints available"})
    with pytest.raises(PreconditionFailed, match="does not answer: no endpoints available") as refused:
        get_write_api(known)
    assert "v3.projectcalico.org" in refused.value.hint
    assert is_installed(known.served)
    assert get_read_api(known) == RAW


@pytest.mark.parametrize(
    "known",
    [
        snapshot(*CRD_V1, information=({"spec": {"datastoreReady": False}},)),
        snapshot(*V3_NATIVE, service=(OF_CRDS,), information=({"spec": {"datastoreReady": False}},)),
        snapshot(*CRD_V1, *V3_AGGREGATED, service=(OF_A_SERVER,), information=({"spec": {"datastoreReady": False}},)),
    ],
    ids=["v1", "native", "classic"],
)
def test_locked_datastore_blocks_writes(known: Snapshot) -> None:
    with pytest.raises(PreconditionFailed, match="datastore is locked"):
        get_write_api(known)


@pytest.mark.parametrize("ready", [{"datastoreReady": True}, {}])
def test_datastore_without_lock_field_is_writable(ready: Json) -> None:
    assert get_write_api(snapshot(*CRD_V1, information=({"spec": ready},))) == RAW


def test_unreadable_apiservice_blocks_writes() -> None:
    known = snapshot(*CRD_V1, *V3_AGGREGATED, service=Unreadable("may not get apiservices"))
    with pytest.raises(
        PreconditionFailed, match=r"cannot check whether Calico's API server serves .*: may not get apiservices"
    ):
        get_write_api(known)
    assert get_read_api(known) == RAW


def test_apiservice_is_read_only_if_both_groups_are_served() -> None:
    both = Snapshot(served((*CRD_V1, *V3_AGGREGATED, APISERVICE)))
    with pytest.raises(MissingQueriesError) as more:
        get_write_api(both)
    assert more.value.queries == (SERVICE,)
    assert get_read_api(both) == RAW
    for resources in (CRD_V1, V3_NATIVE):
        with pytest.raises(MissingQueriesError) as more:
            get_write_api(Snapshot(served(resources)))
        assert [read.resource.kind for read in more.value.queries] == ["ClusterInformation"]


def test_calico_is_not_installed_without_ippools() -> None:
    assert not is_installed(served([APISERVICE]))


def test_ipam_is_never_read_from_the_aggregated_api() -> None:
    assert {AGGREGATED.block.group, AGGREGATED.handle.group, AGGREGATED.config.group} == {"crd.projectcalico.org"}
    assert (RAW.config.plural, NATIVE.config.plural) == ("ipamconfigs", "ipamconfigurations")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("v3.32.1", (3, 32)),
        ("3.30.0", (3, 30)),
        ("v3.34.0-0.dev-123-gabc", (3, 34)),
        ("master", None),
        ("v3", None),
        ("", None),
    ],
)
def test_calico_version_is_parsed(text: str, wanted: tuple[int, int] | None) -> None:
    known = snapshot(*CRD_V1, information=({"spec": {"calicoVersion": text}},))
    assert calico_version(RAW, known) == wanted
    assert calico_version(RAW, snapshot(*CRD_V1)) is None


# -- marks ----------------------------------------------------------------------------------------------------------


def network() -> Network:
    return parse_network(
        {
            "metadata": {"name": "blue", "namespace": "prod", "uid": "uid-blue"},
            "spec": {"plugin": "calico", "cidr": "10.133.0.0/24"},
        }
    )


def pool(annotations: Json) -> Json:
    return {"metadata": {"name": "prod.blue", "annotations": annotations}}


def test_ownership_annotations_are_recognized() -> None:
    assert is_created_for(pool(ownership_annotations(network())), network())
    assert not is_created_for(pool({}), network())
    assert not is_created_for({"metadata": {}}, network())


@pytest.mark.parametrize("key", [NETWORK_ANNOTATION, NETWORK_UID_ANNOTATION])
def test_ownership_annotations_of_another_network_are_not_recognized(key: str) -> None:
    assert not is_created_for(pool({**ownership_annotations(network()), key: "another"}), network())


def test_ownership_annotations_survive_a_write_by_the_calico_client() -> None:
    """It moves an object's annotations into one of its own and blanks the rest (backends.md, raw v1 rules)."""
    inner = {"name": "prod.blue", "uid": "another", "annotations": {**ownership_annotations(network()), "theirs": "x"}}
    moved = pool({"projectcalico.org/metadata": json.dumps(inner)})
    assert is_created_for(moved, network())
    assert get_annotations(moved)["theirs"] == "x"


def test_outer_annotations_take_precedence_over_inner_ones() -> None:
    inner = json.dumps({"annotations": {NETWORK_UID_ANNOTATION: "older", NETWORK_ANNOTATION: "prod/blue"}})
    assert (
        get_annotations(pool({"projectcalico.org/metadata": inner, NETWORK_UID_ANNOTATION: "newer"}))[
            NETWORK_UID_ANNOTATION
        ]
        == "newer"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", '{"annotations": null}'])
def test_invalid_calico_metadata_annotation_is_ignored(text: str) -> None:
    assert is_created_for(pool({"projectcalico.org/metadata": text, **ownership_annotations(network())}), network())
