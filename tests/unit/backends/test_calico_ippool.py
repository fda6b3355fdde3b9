"""A network's IPPool: every field, for every option and every Calico."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.backends.calico import ippool
from kubectl_yoshi.backends.calico.api import NATIVE, RAW
from kubectl_yoshi.backends.ownership import ownership_annotations
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.jsonpatch import apply_json_patch
from kubectl_yoshi.model.matching import matches
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import APISERVICE, Json
from kubectl_yoshi.model.plan import Plan, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot, Unreadable
from kubectl_yoshi.model.vm import VM
from tests.unit.normalization import normalized, without_empty
from tests.unit.plan.fake_api import served


def network(cidr: str = "10.133.0.0/16", **calico: Any) -> Network:
    return parse_network(
        {
            "metadata": {"name": "blue", "namespace": "prod", "uid": "uid-blue"},
            "spec": {"plugin": "calico", "cidr": cidr, **({"calico": calico} if calico else {})},
        }
    )


def snapshot(*there: Json, version: str = "v3.32.1", **more: Any) -> Snapshot:
    """A Calico of raw v1 objects with these pools and blocks."""
    return Snapshot(
        served((RAW.pool, RAW.information, RAW.block, RAW.handle, RAW.config)),
        {
            Query(RAW.pool): there,
            Query(RAW.information, name="default"): ({"spec": {"calicoVersion": version}},) if version else (),
            Query(RAW.block): more.get("blocks", ()),
            Query(VM): (),
        },
    )


def pool(name: str = "prod.blue", cidr: str = "10.133.0.0/16", ours: bool = True, **spec: Any) -> Json:
    annotations = ownership_annotations(network()) if ours else {}
    return {
        "metadata": {"name": name, "uid": "uid-pool", "annotations": annotations},
        "spec": {**ippool.pool_spec(network(), manual=True), "cidr": cidr, **spec},
    }


WITHOUT_OPTIONS = {
    "cidr": "10.133.0.0/16",
    "blockSize": 26,
    "ipipMode": "Never",
    "vxlanMode": "Always",
    "natOutgoing": True,
    "nodeSelector": "all()",
    "allowedUses": ["Workload"],
    "disabled": False,
    "disableBGPExport": True,
    "assignmentMode": "Manual",
}


def test_pool_spec_has_every_field_and_excludes_ordinary_pods() -> None:
    assert ippool.pool_spec(network(), manual=True) == WITHOUT_OPTIONS


def test_pool_spec_before_calico_3_30_uses_a_node_selector() -> None:
    spec = {**WITHOUT_OPTIONS, "nodeSelector": "!all()"}
    del spec["assignmentMode"]
    assert ippool.pool_spec(network(), manual=False) == spec


@pytest.mark.parametrize(
    ("encapsulation", "ipip", "vxlan", "exports"),
    [
        ("VXLAN", "Never", "Always", False),
        ("VXLANCrossSubnet", "Never", "CrossSubnet", False),
        ("IPIP", "Always", "Never", True),
        ("IPIPCrossSubnet", "CrossSubnet", "Never", True),
        ("None", "Never", "Never", True),
    ],
)
def test_encapsulation_sets_modes_and_bgp_export(encapsulation: str, ipip: str, vxlan: str, exports: bool) -> None:
    spec = ippool.pool_spec(network(encapsulation=encapsulation), manual=True)
    assert (spec["ipipMode"], spec["vxlanMode"], spec["disableBGPExport"]) == (ipip, vxlan, not exports)


def test_live_migration_pool_has_neither_overlay_nor_nat() -> None:
    spec = ippool.pool_spec(network(liveMigration=True), manual=True)
    assert (spec["ipipMode"], spec["vxlanMode"], spec["natOutgoing"]) == ("Never", "Never", False)
    same = ippool.pool_spec(network(liveMigration=True, encapsulation="None", natOutgoing=False), manual=True)
    assert same == spec


@pytest.mark.parametrize(("asked", "wanted"), [(None, True), (True, True), (False, False)])
def test_nat_outgoing_follows_the_spec(asked: bool | None, wanted: bool) -> None:
    calico = {} if asked is None else {"natOutgoing": asked}
    assert ippool.pool_spec(network(**calico), manual=True)["natOutgoing"] is wanted


@pytest.mark.parametrize(
    ("cidr", "calico", "why"),
    [
        ("fd00::/64", {"encapsulation": "IPIP"}, "IPIP does not support IPv6"),
        ("fd00::/64", {"encapsulation": "IPIPCrossSubnet"}, "IPIP does not support IPv6"),
        ("10.133.0.0/16", {"encapsulation": "vxlan"}, '"vxlan" is unknown'),
        ("10.133.0.0/16", {"liveMigration": True, "encapsulation": "VXLAN"}, "live migration"),
        ("10.133.0.0/16", {"liveMigration": True, "natOutgoing": True}, "live migration"),
    ],
)
def test_unsupported_settings_are_usage_errors_naming_the_network(cidr: str, calico: Json, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        ippool.pool_spec(network(cidr, **calico), manual=True)
    assert "prod/blue" in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("cidr", "wanted"),
    [
        ("10.0.0.0/8", 26),
        ("10.133.0.0/26", 26),
        ("10.133.0.0/27", 27),
        ("10.133.0.0/29", 29),
        ("10.133.0.9/32", 32),
        ("fd00::/48", 122),
        ("fd00::/122", 122),
        ("fd00::/125", 125),
        ("fd00::9/128", 128),
    ],
)
def test_default_block_size(cidr: str, wanted: int) -> None:
    assert ippool.block_size(network(cidr)) == wanted


@given(st.integers(8, 32), st.integers(0, 140))
def test_ipv4_block_size_limits(prefix: int, asked: int) -> None:
    net = network(f"10.0.0.0/{prefix}", blockSize=asked)
    if 20 <= asked <= 32 and asked >= prefix:
        assert ippool.block_size(net) == asked
    else:
        with pytest.raises(UsageError, match="does not fit"):
            ippool.block_size(net)


@given(st.integers(48, 128), st.integers(0, 140))
def test_ipv6_block_size_limits(prefix: int, asked: int) -> None:
    net = network(f"fd00::/{prefix}", blockSize=asked)
    if 116 <= asked <= 128 and asked >= prefix:
        assert ippool.block_size(net) == asked
    else:
        with pytest.raises(UsageError, match="does not fit"):
            ippool.block_size(net)


# -- making ---------------------------------------------------------------------------------------------------------


def only(plan: Plan) -> Any:
    (change,) = plan
    return change


@pytest.mark.parametrize(
    ("version", "mode", "selector"),
    [
        ("v3.32.1", "Manual", "all()"),
        ("v3.30.0", "Manual", "all()"),
        ("v3.29.4", None, "!all()"),
        ("", "Manual", "all()"),
    ],
)
def test_pool_creation_depends_on_the_calico_version(version: str, mode: str | None, selector: str) -> None:
    change = only(ippool.ensure(network(), snapshot(version=version)))
    assert change.verb is Verb.CREATE
    assert (change.body["spec"].get("assignmentMode"), change.body["spec"]["nodeSelector"]) == (mode, selector)
    assert change.body["metadata"] == {"name": "prod.blue", "annotations": ownership_annotations(network())}
    assert change.body["apiVersion"] == "crd.projectcalico.org/v1"


def test_pool_is_the_same_in_the_other_api_group() -> None:
    known = Snapshot(
        served((NATIVE.pool, NATIVE.information, NATIVE.block, APISERVICE)),
        {Query(NATIVE.pool): (), Query(NATIVE.information, name="default"): ()},
    )
    change = only(ippool.ensure(network(), known))
    assert change.body["apiVersion"] == "projectcalico.org/v3"
    assert change.body["spec"] == WITHOUT_OPTIONS


def test_matching_pool_is_not_changed() -> None:
    assert not ippool.ensure(network(), snapshot(pool()))


def test_pool_without_assignment_mode_gets_a_node_selector() -> None:
    there = pool()
    del there["spec"]["assignmentMode"]
    after = apply_json_patch(only(ippool.ensure(network(), snapshot(there))).body, there)
    assert after["spec"]["nodeSelector"] == "!all()"
    assert not ippool.ensure(network(), snapshot(after))


@given(
    st.dictionaries(
        st.sampled_from(["ipipMode", "vxlanMode", "natOutgoing", "allowedUses", "disabled", "disableBGPExport"]),
        st.sampled_from(["Never", "Always", True, False, ["Tunnel"], None]),
    ),
    st.dictionaries(st.sampled_from(["theirs", "namespaceSelector"]), st.integers()),
)
def test_changed_fields_are_repaired_and_foreign_ones_kept(changed: Json, theirs: Json) -> None:
    there = pool(**changed, **theirs)
    plan = ippool.ensure(network(), snapshot(there))
    after = apply_json_patch(only(plan).body, there) if plan else there
    assert matches({**WITHOUT_OPTIONS, **theirs}, after["spec"])
    assert not ippool.ensure(network(), snapshot(after))


@pytest.mark.parametrize("calico", [{}, {"natOutgoing": False}, {"liveMigration": True}, {"encapsulation": "IPIP"}])
@pytest.mark.parametrize("cidr", ["10.133.0.0/16", "fd00:133::/64"])
@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(without_empty, id="by Calico's API server, or stored by calicoctl replace"),
        pytest.param(lambda spec: normalized({"spec": spec}, "ippools")["spec"], id="otherwise"),
    ],
)
def test_normalized_pool_is_not_changed(cidr: str, calico: dict[str, Any], shown: Callable[[Json], Json]) -> None:
    if ":" in cidr and "encapsulation" in calico:
        calico = {}
    wanted = network(cidr, **calico)
    there = {**pool(), "spec": shown(ippool.pool_spec(wanted, manual=True))}
    assert not ippool.ensure(wanted, snapshot(there))
    assert not ippool.conflicts(wanted, snapshot(there))
    there["spec"]["disabled"] = True
    change = only(ippool.ensure(wanted, snapshot(there)))
    assert [op for op in change.body if op["op"] != "test"] == [{"op": "add", "path": "/spec/disabled", "value": False}]


def test_pool_is_found_by_its_cidr_in_any_notation() -> None:
    six = network("fd00:133::/64")
    original = pool("blue", "FD00:0133:0:0::/64", ours=False)
    assert ippool.find_pool(six, RAW, snapshot(original)) == original
    anew = Network(**{**vars(six), "uid": "uid-after-the-restore"})
    assert ippool.is_predecessors_pool(pool(cidr="FD00:0133:0:0::/64"), anew)


def test_cidr_and_block_size_are_never_changed() -> None:
    assert not ippool.ensure(network(), snapshot(pool(blockSize=28)))


def test_legacy_pool_is_used_unchanged() -> None:
    plan = ippool.ensure(network(), snapshot(pool("blue", ours=False, assignmentMode="Automatic", natOutgoing=False)))
    assert not plan
    assert "pods can get its addresses" in plan.notes[0]
    assert not ippool.ensure(network(), snapshot(pool("blue", ours=False))).notes


# -- what is in the way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (pool(), None),
        (pool("default", "192.168.0.0/16", ours=False), None),
        (pool("six", "fd00::/8", ours=False), None),
        (pool("blue", ours=False), None),
        (pool("blue", "10.133.0.0/17", ours=False), "10.133.0.0/16 overlaps ippool/blue (10.133.0.0/17)"),
        (pool("default", "10.0.0.0/8", ours=False), "10.133.0.0/16 overlaps ippool/default (10.0.0.0/8)"),
        (pool("default", "10.133.7.9/32", ours=False), "10.133.0.0/16 overlaps ippool/default (10.133.7.9/32)"),
        (pool("default", "10.133.7.9/24", ours=False), "10.133.0.0/16 overlaps ippool/default (10.133.7.0/24)"),
        (pool(ours=False), "ippool/prod.blue exists and was not created for this network"),
        (pool("broken", "nonsense", ours=False), None),
    ],
)
def test_conflicting_pools_are_named(there: Json, named: str | None) -> None:
    assert ippool.conflicts(network(), snapshot(there)) == ((NetworkConflict(named),) if named else ())


def test_unreadable_pools_are_a_conflict() -> None:
    known = snapshot().with_results({Query(RAW.pool): Unreadable("may not list ippools")})
    (conflict,) = ippool.conflicts(network(), known)
    assert "overlaps an IPPool: may not list ippools" in conflict.summary
    assert conflict.is_unreadable


# -- taking away ----------------------------------------------------------------------------------------------------


def block(cidr: str, *held: int) -> Json:
    size = 64
    allocations: list[int | None] = [None] * size
    for ordinal in held:
        allocations[ordinal] = 0
    return {
        "metadata": {"name": cidr.translate(str.maketrans("./:", "---"))},
        "spec": {"cidr": cidr, "allocations": allocations, "attributes": [{"handle_id": "some-pod"}] if held else []},
    }


def test_pool_is_disabled_before_it_is_deleted() -> None:
    disable, delete = ippool.teardown(network(), snapshot(pool()))
    assert apply_json_patch(disable.body, pool())["spec"]["disabled"] is True
    assert (delete.verb, delete.uid) == (Verb.DELETE, "uid-pool")
    assert [change.verb for change in ippool.teardown(network(), snapshot(pool(disabled=True)))] == [Verb.DELETE]


def test_pool_with_addresses_in_use_is_not_deleted() -> None:
    with pytest.raises(PreconditionFailed, match=r"still holds 2 addresses of ippool/prod\.blue: some-pod"):
        ippool.teardown(network(), snapshot(pool(), blocks=(block("10.133.5.0/26", 3, 9),)))


def test_pod_using_an_address_of_the_pool_is_named() -> None:
    held = block("10.133.5.0/26", 3)
    held["spec"]["attributes"] = [
        {"handle_id": "k8s-pod-network.0123", "secondary": {"namespace": "dev", "pod": "shop"}}
    ]
    with pytest.raises(
        PreconditionFailed, match=r"still holds 1 addresses of ippool/prod\.blue: pod/shop in namespace dev"
    ):
        ippool.teardown(network(), snapshot(pool(), blocks=(held,)))


def test_addresses_cooling_down_in_ipam_suggest_waiting() -> None:
    held = block("10.133.5.0/26", 3, 9)
    held["spec"]["attributes"] = [{"releasedAt": "2026-01-01T00:00:00Z"}]
    with pytest.raises(
        PreconditionFailed, match=r"2 addresses of ippool/prod\.blue are still cooling down in Calico"
    ) as error:
        ippool.teardown(network(), snapshot(pool(), blocks=(held,)))
    assert error.value.hint.startswith("Wait until Calico frees them")
    held["spec"]["allocations"][4] = 1
    held["spec"]["attributes"].append({"handle_id": "some-pod"})
    with pytest.raises(PreconditionFailed, match=r"still holds 1 addresses of ippool/prod\.blue: some-pod"):
        ippool.teardown(network(), snapshot(pool(), blocks=(held,)))


def test_empty_blocks_and_those_of_other_pools_do_not_prevent_deletion() -> None:
    blocks = (block("10.133.5.0/26"), block("192.168.0.0/26", 1))
    assert ippool.teardown(network(), snapshot(pool(), blocks=blocks))


def test_foreign_or_missing_pool_is_not_deleted() -> None:
    assert not ippool.teardown(network(), snapshot(pool("blue", ours=False)))
    assert not ippool.teardown(network(), snapshot())


def test_pool_of_a_recreated_network_is_not_orphaned() -> None:
    anew = Network(**{**vars(network()), "uid": "uid-after-the-restore"})
    assert not ippool.orphaned_objects([anew], None, snapshot(pool()))
    assert ippool.orphaned_objects([], None, snapshot(pool()))
    assert ippool.orphaned_objects([anew], None, snapshot(pool(cidr="10.134.0.0/16")))
