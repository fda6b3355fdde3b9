"""Calico's blocks and handles: read as Calico writes them, released as Calico releases them.

The block below is one of Calico 3.32.1, by hand: a VM that runs (ordinal 10), a VM that was stopped, whose attribute
has lost its owner (11), a pod with two addresses that share one attribute (20, 21), and a hostless one (30).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.backends.calico import ipam
from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.errors import OutdatedError
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.plan import Verb
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot, Unreadable
from kubectl_yoshi.model.vm import POD, VMI

pytestmark = [pytest.mark.I6, pytest.mark.I10]

BASE = int(parse_address("10.133.0.0"))
WEB_1, WEB_2 = "k8s-pod-network.vmi.prod.web-1", "k8s-pod-network.vmi.prod.web-2"
REF = RAW.block.ref("10-133-0-0-26")


def example() -> Json:
    allocations: list[int | None] = [None] * 64
    allocations[10], allocations[11], allocations[20], allocations[21], allocations[30] = 0, 1, 2, 2, 3
    owner = {
        "namespace": "prod",
        "node": "node1",
        "pod": "virt-launcher-web-1-abcde",
        "timestamp": "2026-05-01 10:00:00 +0000 UTC",
        "vm-uid": "uid-1",
        "vmi-name": "web-1",
        "vmi-uid": "uid-vmi-1",
    }
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPAMBlock",
        "metadata": {"name": "10-133-0-0-26", "uid": "uid-block", "resourceVersion": "77", "annotations": {"a": "b"}},
        "spec": {
            "affinity": "host:node1",
            "affinityClaimTime": "2026-05-01T09:00:00Z",
            "allocations": allocations,
            "attributes": [
                {"handle_id": WEB_1, "secondary": owner, "alternateOwnerAttrs": {"node": "node2"}},
                {"handle_id": WEB_2},
                {"handle_id": "k8s-pod-network.0123abcd", "secondary": {"namespace": "prod", "pod": "shop"}},
                {"handle_id": None, "secondary": {"type": "ipipTunnelAddress", "node": "node1"}},
            ],
            "cidr": "10.133.0.0/26",
            "deleted": False,
            "sequenceNumber": 41,
            "sequenceNumberForAllocation": {"10": 3, "11": 9, "20": 12, "21": 12, "30": 1},
            "strictAffinity": False,
            "unallocated": [n for n in range(63, -1, -1) if n not in (10, 11, 20, 21, 30)],
            "theirs": {"deep": [1]},
        },
    }


def handle(name: str = WEB_2, resource_version: str = "88", **block: int) -> Json:
    counts = {key.replace("_", "."): count for key, count in block.items()} or {"10.133.0.0/26": 1}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": resource_version},
        "spec": {"handleID": name, "block": counts, "deleted": False},
    }


def number(text: str) -> int:
    return int(parse_address(text))


def held(block: Json) -> dict[str, tuple[str, str, str]]:
    """Address -> namespace and name of its VM, handle."""
    return {
        str(parse_address(str(ip_network(block["spec"]["cidr"])[h.number - BASE]))): (h.namespace, h.name, h.handle)
        for h in ipam.iter_block_allocations(block, REF)
    }


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cidr", "name"),
    [
        ("10.133.0.0/26", "10-133-0-0-26"),
        ("fd00:133::/122", "fd00-133---122"),
        ("fd00:133::ff40/122", "fd00-133--ff40-122"),
        ("2001:db8:0:1::/122", "2001-db8-0-1---122"),
    ],
)
def test_block_name_is_derived_from_its_cidr(cidr: str, name: str) -> None:
    assert ipam.block_name(ip_network(cidr)) == name


@given(st.ip_addresses(), st.integers(0, 12))
def test_block_cidr_contains_the_address(address: Any, spare: int) -> None:
    size = (32 if address.version == 4 else 128) - spare
    block = ipam.block_cidr(int(address), address.version, size)
    assert address in block
    assert block.prefixlen == size


def test_handle_name_of_a_vm() -> None:
    assert ipam.handle_name("prod", "web-1") == WEB_1
    assert ipam.handle_name("Prod", "Web-1") == WEB_1
    assert ipam.handle_name("prod", "w" * 128) == ""


@given(
    st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?\Z"),
    st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}\Z"),
)
def test_parse_handle_name_inverts_handle_name(namespace: str, name: str) -> None:
    assert ipam.parse_handle_name(ipam.handle_name(namespace, name)) == (namespace, name)


@pytest.mark.parametrize("text", ["", "k8s-pod-network.0123abcd", "ipip-tunnel-addr-node1", "other-net.vmi.prod.web-1"])
def test_other_handles_have_no_vm(text: str) -> None:
    assert ipam.parse_handle_name(text) == ("", "")


# -- reading --------------------------------------------------------------------------------------------------------


def test_block_allocations_are_parsed() -> None:
    assert held(example()) == {
        "10.133.0.10": ("prod", "web-1", WEB_1),
        "10.133.0.11": ("prod", "web-2", WEB_2),
        "10.133.0.20": ("", "", "k8s-pod-network.0123abcd"),
        "10.133.0.21": ("", "", "k8s-pod-network.0123abcd"),
        "10.133.0.30": ("", "", ""),
    }
    by_address = {h.number - BASE: h for h in ipam.iter_block_allocations(example(), REF)}
    assert (by_address[10].vm_uid, by_address[11].vm_uid) == ("uid-1", "")
    assert {h.version for h in by_address.values()} == {4}


def test_vm_of_a_hashed_handle_is_known_while_it_runs() -> None:
    block = example()
    block["spec"]["attributes"][0]["handle_id"] = "k8s-pod-network.vmi-7f3a"
    assert held(block)["10.133.0.10"] == ("prod", "web-1", "k8s-pod-network.vmi-7f3a")


def test_invalid_or_empty_block_is_tolerated() -> None:
    assert list(ipam.iter_block_allocations({"spec": {"cidr": "10.133.0.0/26"}}, REF)) == []
    block = {"spec": {"cidr": "10.133.0.0/26", "allocations": [None, 7], "attributes": []}}
    (found,) = ipam.iter_block_allocations(block, REF)
    assert (found.number, found.handle, found.name) == (BASE + 1, "", "")


def test_ipv6_block_is_parsed() -> None:
    block = {"spec": {"cidr": "fd00:133::40/122", "allocations": [None, None, 0], "attributes": [{"handle_id": WEB_1}]}}
    (found,) = ipam.iter_block_allocations(block, REF)
    assert (found.number, found.version, found.name) == (number("fd00:133::42"), 6, "web-1")


def test_only_addresses_in_the_intervals_of_live_blocks_are_returned() -> None:
    snapshot = Snapshot(results={Query(RAW.block): (example(),)})
    within = Intervals.from_spans([(BASE + 11, BASE + 20)])
    assert [h.number - BASE for h in ipam.list_block_allocations(within, 4, RAW, snapshot)] == [11, 20]
    assert ipam.list_block_allocations(within, 6, RAW, snapshot) == []
    gone = example()
    gone["spec"]["deleted"] = True
    assert ipam.list_block_allocations(within, 4, RAW, Snapshot(results={Query(RAW.block): (gone,)})) == []


def known(*blocks: Json, handles: tuple[Json, ...] = (handle(),), **more: Any) -> Snapshot:
    results: dict[Query, Any] = {
        Query(RAW.handle, name=WEB_2): tuple(h for h in handles if h["metadata"]["name"] == WEB_2)
    }
    for block in blocks:
        results[Query(RAW.block, name=block["metadata"]["name"])] = (block,)
    results[Query(VMI, "prod", "web-2")] = more.get("vmi", ())
    results[Query(POD, "prod", label_selector="kubevirt.io=virt-launcher")] = more.get("pods", ())
    return Snapshot(results=results)


def test_vm_allocations_are_found_by_handle() -> None:
    found, why = ipam.find_vm_allocations(RAW, "prod", "web-2", known(example()))
    assert [h.number - BASE for h in found] == [11]
    assert why == ""


def test_blocks_of_a_handle_are_read_by_name() -> None:
    two = handle(**{"10.133.0.0/26": 1, "fd00:133::/122": 1})
    with pytest.raises(MissingQueriesError) as more:
        ipam.find_vm_allocations(RAW, "prod", "web-2", Snapshot(results={Query(RAW.handle, name=WEB_2): (two,)}))
    assert [read.name for read in more.value.queries] == ["10-133-0-0-26", "fd00-133---122"]


def test_unreadable_handle_or_block_has_a_reason() -> None:
    no_handle = Snapshot(results={Query(RAW.handle, name=WEB_2): Unreadable("may not get ipamhandles")})
    assert ipam.find_vm_allocations(RAW, "prod", "web-2", no_handle) == ([], "may not get ipamhandles")
    no_block = known().with_results({Query(RAW.block, name="10-133-0-0-26"): Unreadable("may not get ipamblocks")})
    assert ipam.find_vm_allocations(RAW, "prod", "web-2", no_block) == ([], "may not get ipamblocks")


def test_vm_with_a_hashed_handle_name_is_not_searched() -> None:
    assert ipam.find_vm_allocations(RAW, "prod", "w" * 128, Snapshot()) == ([], "")


# -- what runs ------------------------------------------------------------------------------------------------------


def test_vm_counts_as_running_if_instance_or_pod_exist_or_are_unreadable() -> None:
    pod = {
        "metadata": {
            "name": "virt-launcher-web-2-x",
            "namespace": "prod",
            "labels": {"kubevirt.io": "virt-launcher"},
            "annotations": {"kubevirt.io/domain": "web-2"},
        }
    }
    vmi = {"metadata": {"name": "web-2", "namespace": "prod"}, "status": {"phase": "Scheduling"}}
    assert ipam.running_reason("prod", "web-2", known()) == ""
    assert ipam.running_reason("prod", "web-2", known(vmi=({**vmi, "status": {"phase": "Succeeded"}},))) == ""
    assert "virtualmachineinstance/web-2" in ipam.running_reason("prod", "web-2", known(vmi=(vmi,)))
    assert "pod/virt-launcher-web-2-x" in ipam.running_reason("prod", "web-2", known(pods=(pod,)))
    assert "cannot check whether it runs: no right" in ipam.running_reason(
        "prod", "web-2", known(pods=Unreadable("no right"))
    )
    assert "cannot check whether it runs: no right" in ipam.running_reason(
        "prod", "web-2", known(vmi=Unreadable("no right"))
    )


# -- releasing ------------------------------------------------------------------------------------------------------


def test_remove_address_matches_calico() -> None:
    before = example()
    after = ipam.remove_address(before, BASE + 11)
    assert before == example()
    wanted = example()
    spec = wanted["spec"]
    spec["allocations"][11] = None
    spec["allocations"][20] = spec["allocations"][21] = 1
    spec["allocations"][30] = 2
    del spec["attributes"][1]
    spec["unallocated"].append(11)
    del spec["sequenceNumberForAllocation"]["11"]
    spec["sequenceNumber"] = 42
    assert after == wanted


def test_remove_address_keeps_a_shared_attribute() -> None:
    after = ipam.remove_address(example(), BASE + 20)
    assert after["spec"]["attributes"] == example()["spec"]["attributes"]
    assert (after["spec"]["allocations"][20], after["spec"]["allocations"][21]) == (None, 2)
    last = ipam.remove_address(after, BASE + 21)
    assert [attribute["handle_id"] for attribute in last["spec"]["attributes"]] == [WEB_1, WEB_2, None]
    assert last["spec"]["allocations"][30] == 2


@given(st.permutations([10, 11, 20, 21, 30]), st.integers(0, 5))
def test_remove_address_in_any_order_keeps_the_rest(order: list[int], count: int) -> None:
    block = example()
    for ordinal in order[:count]:
        block = ipam.remove_address(block, BASE + ordinal)
    gone = {f"10.133.0.{ordinal}" for ordinal in order[:count]}
    assert held(block) == {address: who for address, who in held(example()).items() if address not in gone}
    spec = block["spec"]
    assert sorted(spec["unallocated"]) == [n for n, index in enumerate(spec["allocations"]) if index is None]
    assert {index for index in spec["allocations"] if index is not None} == set(range(len(spec["attributes"])))
    assert set(spec["sequenceNumberForAllocation"]) == {str(ordinal) for ordinal in order[count:]}
    assert spec["sequenceNumber"] == 41 + count
    assert spec["theirs"] == {"deep": [1]}


def test_release_writes_the_block_before_the_handle_with_preconditions() -> None:
    snapshot = known(example())
    found, _ = ipam.find_vm_allocations(RAW, "prod", "web-2", snapshot)
    plan = ipam.release_allocations(RAW, found, snapshot, "prod/web-2")
    (first,), (second,) = plan.stages
    assert (first.verb, first.ref, first.owner) == (Verb.REPLACE, REF, "prod/web-2")
    assert first.body == ipam.remove_address(example(), BASE + 11)
    assert first.body["metadata"]["resourceVersion"] == "77"
    assert "10.133.0.11" in first.summary
    assert (second.verb, second.ref) == (Verb.DELETE, RAW.handle.ref(WEB_2))
    assert (second.uid, second.resource_version) == (f"uid-{WEB_2}", "88")


def test_release_decrements_a_handle_with_other_blocks() -> None:
    two = handle(**{"10.133.0.0/26": 1, "10.144.0.0/26": 1})
    snapshot = known(example(), handles=(two,))
    one_block = [h for h in ipam.iter_block_allocations(example(), REF) if h.number == BASE + 11]
    plan = ipam.release_allocations(RAW, one_block, snapshot)
    (change,) = plan.stages[1]
    assert change.verb is Verb.REPLACE
    assert change.body["spec"]["block"] == {"10.144.0.0/26": 1}
    assert change.body["metadata"]["resourceVersion"] == "88"


def test_release_of_two_addresses_of_a_block_is_one_write() -> None:
    block = copy.deepcopy(example())
    block["spec"]["attributes"][2]["handle_id"] = WEB_2
    snapshot = known(block, handles=(handle(**{"10.133.0.0/26": 3}),))
    found, _ = ipam.find_vm_allocations(RAW, "prod", "web-2", snapshot)
    assert [h.number - BASE for h in found] == [11, 20, 21]
    (first,), (second,) = ipam.release_allocations(RAW, found, snapshot).stages
    assert first.body["spec"]["sequenceNumber"] == 44
    assert held(first.body).keys() == {"10.133.0.10", "10.133.0.30"}
    assert second.verb is Verb.DELETE


def test_handle_counts_are_compared_with_blocks() -> None:
    gone = example()
    gone["spec"] |= {"cidr": "10.133.0.64/26", "deleted": True}
    contained = ipam.count_by_handle([example(), gone])
    assert contained[WEB_2] == {"10.133.0.0/26": 1}
    assert contained["k8s-pod-network.0123abcd"] == {"10.133.0.0/26": 2}
    assert ipam.compare_counts(WEB_2, ipam.get_handle_counts(handle()), contained[WEB_2]) == []
    (more,) = ipam.compare_counts(WEB_2, {"10.133.0.0/26": 3}, contained[WEB_2])
    assert (more.is_excess, str(more)) == (
        True,
        f"IPAMHandle {WEB_2} counts 2 addresses that block 10.133.0.0/26 does not contain",
    )
    (missing,) = ipam.compare_counts(WEB_2, {}, contained[WEB_2])
    assert (missing.is_excess, str(missing)) == (
        False,
        f"block 10.133.0.0/26 contains 1 address of IPAMHandle {WEB_2}, which counts 0",
    )
    two = ipam.get_handle_counts(handle(**{"10.133.0.0/26": 1, "10.144.0.0/26": 1}))
    assert [one.cidr for one in ipam.compare_counts(WEB_2, two, contained[WEB_2])] == ["10.144.0.0/26"]
    being_deleted = handle()
    being_deleted["spec"]["deleted"] = True
    assert ipam.get_handle_counts(being_deleted) == {}


def once_more(snapshot: Snapshot) -> Snapshot:
    """The same answers to a second look."""
    again = {replace(read, read_number=ipam.SECOND_READ): answer for read, answer in snapshot.results.items()}
    return snapshot.with_results(again)


def test_handle_is_repaired_only_without_a_pod() -> None:
    block = ipam.remove_address(example(), BASE + 11)
    (change,) = ipam.repair_handle(RAW, "prod", "web-2", once_more(known(block)), "prod/web-2")
    assert (change.verb, change.resource_version) == (Verb.DELETE, "88")
    assert not ipam.repair_handle(RAW, "prod", "web-2", once_more(known(example())))
    assert not ipam.repair_handle(RAW, "prod", "web-2", once_more(known(block, pods=Unreadable("no right"))))
    pod = {"metadata": {"name": "virt-launcher-x", "namespace": "prod", "labels": {"kubevirt.io": "virt-launcher"},
                        "annotations": {"kubevirt.io/domain": "web-2"}}}  # fmt: skip
    assert not ipam.repair_handle(RAW, "prod", "web-2", once_more(known(block, pods=(pod,))))
    vmi = {"metadata": {"name": "web-2", "namespace": "prod"}}
    assert ipam.repair_handle(RAW, "prod", "web-2", once_more(known(block, vmi=(vmi,)))), (
        "without a pod there is no CNI ADD"
    )


def test_repair_reads_handle_then_blocks_then_pods() -> None:
    block = ipam.remove_address(example(), BASE + 11)
    snapshot, asked = known(block), []
    for _ in range(3):
        with pytest.raises(MissingQueriesError) as more:
            ipam.repair_handle(RAW, "prod", "web-2", snapshot)
        asked += [[read.resource.plural for read in more.value.queries]]
        snapshot = snapshot.with_results(
            {read: snapshot.results[replace(read, read_number=0)] for read in more.value.queries}
        )
    assert asked == [["ipamhandles"], ["ipamblocks"], ["pods"]]
    assert ipam.repair_handle(RAW, "prod", "web-2", snapshot)


def test_release_of_nothing_is_empty() -> None:
    assert not ipam.release_allocations(RAW, [], Snapshot())
    gone = next(iter(ipam.iter_block_allocations(example(), REF)))
    assert not ipam.release_allocations(RAW, [gone], Snapshot())


def edit_of_web_2() -> Any:
    snapshot = known(example())
    found, _ = ipam.find_vm_allocations(RAW, "prod", "web-2", snapshot)
    return ipam.release_allocations(RAW, found, snapshot).stages[0][0].edit


def test_release_is_applied_to_the_newest_block() -> None:
    newest = ipam.remove_address(example(), BASE + 10)  # its attribute goes, and all indexes shift
    newest["metadata"]["resourceVersion"] = "78"
    assert edit_of_web_2()(newest) == ipam.remove_address(newest, BASE + 11)


def test_released_address_is_not_released_again() -> None:
    newest = ipam.remove_address(example(), BASE + 11)
    assert edit_of_web_2()(newest) is newest


@pytest.mark.parametrize(
    "attribute",
    [
        {"handle_id": WEB_2, "secondary": {"namespace": "prod", "vmi-name": "web-2", "vmi-uid": "new"}},
        {"handle_id": WEB_2, "alternateOwnerAttrs": {"node": "node2"}},
        {"handle_id": WEB_1},
        {"handle_id": "k8s-pod-network.4567cdef", "secondary": {"namespace": "other", "pod": "shop"}},
        {},
    ],
)
def test_address_in_use_again_is_not_released(attribute: Json) -> None:
    newest = example()
    newest["spec"]["attributes"][1] = attribute
    with pytest.raises(OutdatedError, match=r"10\.133\.0\.11"):
        edit_of_web_2()(newest)
