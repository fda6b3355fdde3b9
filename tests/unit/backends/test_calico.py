"""A VM on Calico: what makes it want an address, what shows that it has one, and what will not work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.backends.calico.annotations import (
    HW_ADDR_ANNOTATION,
    IP_ADDRS_ANNOTATION,
    POD_IPS_ANNOTATION,
    parse_pinned_addresses,
)
from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.backend import ALLOW_MIGRATION_ANNOTATION, Calico
from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import AddressUse, Attachment, UsageKind
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot, Unreadable
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VM, VMI, Vm
from tests.unit.jsonpatch import DoesNotFit, apply_patch
from tests.unit.plan.fake_api import served

CALICO = Calico()
NETWORK_NAME = "plumber.k8s.pf9.io/networkName"
SERVED = served((RAW.pool, RAW.information, RAW.block, RAW.handle, RAW.config))
NOTHING = Snapshot(SERVED)


def known(**plugins: str) -> Snapshot:
    """Facts in which networks of these plugins are there, "gone" is none, and "hidden" may not be read."""
    results: dict[Query, tuple[Json, ...] | Unreadable] = {
        Query(NETWORKWIZARD, "prod", name): ({"metadata": {"name": name}, "spec": {"plugin": plugin}},)
        for name, plugin in plugins.items()
    }
    results |= {
        Query(NETWORKWIZARD, "prod", "gone"): (),
        Query(NETWORKWIZARD, "prod", "hidden"): Unreadable("forbidden"),
    }
    return Snapshot(SERVED, results)


def network(cidr: str = "10.133.0.0/24", name: str = "blue") -> Network:
    return parse_network(
        {
            "metadata": {"name": name, "namespace": "prod", "uid": f"uid-{name}"},
            "spec": {"plugin": "calico", "cidr": cidr},
        }
    )


def number(text: str) -> int:
    return int(parse_address(text))


def vm(annotations: Json | None = None, template: Json | None = None, spec: Json | None = None) -> Vm:
    inner: Json = {"spec": spec or {"domain": {}}}
    if template is not None:
        inner["metadata"] = {"annotations": template}
    meta: Json = {"name": "web-1", "namespace": "prod", "uid": "uid-1"}
    if annotations is not None:
        meta["annotations"] = annotations
    return Vm({"metadata": meta, "spec": {"runStrategy": "Halted", "template": inner}})


# -- what makes a VM want an address --------------------------------------------------------------------------------

WORDS = st.text(alphabet="ab/~.", min_size=1, max_size=4)
TEXTS = st.dictionaries(WORDS, WORDS, max_size=3)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=6,
)
FIELDS = st.dictionaries(WORDS, ANYTHING, max_size=3)


@st.composite
def vms(draw: st.DrawFn) -> Vm:
    """A VM with fields that nobody has heard of, with and without annotations, metadata and pins."""
    template: Json = {**draw(FIELDS), "spec": draw(FIELDS)}
    if draw(st.booleans()):
        template["metadata"] = draw(FIELDS)
        annotations = draw(st.none() | TEXTS)
        if annotations is not None:
            if draw(st.booleans()):
                annotations[IP_ADDRS_ANNOTATION] = draw(
                    st.sampled_from(['["10.133.0.5"]', '["10.133.0.9"]', '["10.9.9.9"]', "x"])
                )
            if draw(st.booleans()):
                annotations[HW_ADDR_ANNOTATION] = draw(st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"]))
            template["metadata"]["annotations"] = annotations
    meta = {**draw(FIELDS), "name": "web-1", "namespace": "prod", "uid": "uid-1"}
    annotations = draw(st.none() | TEXTS)
    if annotations is not None:
        if draw(st.booleans()):
            annotations[NETWORK_NAME] = draw(st.sampled_from(["blue", "prod/blue", "red"]))
        meta["annotations"] = annotations
    return Vm({**draw(FIELDS), "metadata": meta, "spec": {**draw(FIELDS), "template": template}})


def without_ours(obj: Json) -> Json:
    """The object without the annotations that are ours to change, and without maps that are only there for them."""
    result: Json = json.loads(json.dumps(obj))
    template = result["spec"]["template"]
    for holder, keys in ((result, (NETWORK_NAME,)), (template, (IP_ADDRS_ANNOTATION, HW_ADDR_ANNOTATION))):
        annotations = (holder.get("metadata") or {}).get("annotations")
        for key in keys:
            (annotations or {}).pop(key, None)
        if not annotations:
            (holder.get("metadata") or {}).pop("annotations", None)
        if not holder.get("metadata"):
            holder.pop("metadata", None)
    return result


@given(vms(), st.sampled_from(["", "02:00:00:00:00:01"]))
def test_attach_patch_sets_the_address_and_changes_nothing_else(before: Vm, mac: str) -> None:
    changes = CALICO.attach_patch(Attachment(before, network(), number("10.133.0.9"), mac), known(red="calico"))
    after = before.raw
    for change in changes:
        assert (change.ref, change.owner, change.before) == (before.ref, "prod/web-1", before.raw)
        after = apply_patch(change.body, after)
    assert without_ours(after) == without_ours(before.raw)
    fastened = Vm(after)
    assert fastened.template_annotations[IP_ADDRS_ANNOTATION] == '["10.133.0.9"]'
    assert fastened.template_annotations.get(HW_ADDR_ANNOTATION, "") == mac
    assert fastened.annotations[NETWORK_NAME] in ("blue", "prod/blue")  # the one that it was
    assert CALICO.attach_patch(Attachment(fastened, network(), number("10.133.0.9"), mac), NOTHING) == ()


@given(vms())
def test_detach_patch_removes_the_address_and_changes_nothing_else(before: Vm) -> None:
    after = before.raw
    for change in CALICO.detach_patch(before, network(), NOTHING):
        after = apply_patch(change.body, after)
    assert without_ours(after) == without_ours(before.raw)
    loosened = Vm(after)
    assert not [address for address in parse_pinned_addresses(loosened.template_annotations) if address in network()]
    assert loosened.annotations.get(NETWORK_NAME) not in ("blue", "prod/blue")
    assert CALICO.detach_patch(loosened, network(), NOTHING) == ()
    if not [address for address in parse_pinned_addresses(before.template_annotations) if address in network()]:
        assert loosened.template_annotations == before.template_annotations


@given(vms(), TEXTS)
def test_patches_preserve_concurrent_annotations(before: Vm, theirs: dict[str, str]) -> None:
    meanwhile = json.loads(json.dumps(before.raw))
    annotations = dig(meanwhile, "spec", "template", "metadata", "annotations")
    if annotations is None:
        return
    annotations.update(theirs)
    (change,) = CALICO.attach_patch(Attachment(before, network(), number("10.133.0.77")), known(red="calico"))
    after = Vm(apply_patch(change.body, meanwhile))
    assert theirs.items() <= after.template_annotations.items()


@pytest.mark.parametrize("key", [IP_ADDRS_ANNOTATION, HW_ADDR_ANNOTATION])
def test_attach_patch_does_not_overwrite_a_concurrent_address_or_mac(key: str) -> None:
    before = vm(template={"team": "a"})
    (change,) = CALICO.attach_patch(Attachment(before, network(), number("10.133.0.9"), "02:00:00:00:00:01"), NOTHING)
    meanwhile = vm(template={"team": "a", key: "theirs"})
    with pytest.raises(DoesNotFit):
        apply_patch(change.body, meanwhile.raw)


def test_patches_fail_for_a_recreated_vm() -> None:
    anew = vm()
    anew.raw["metadata"]["uid"] = "uid-2"
    for change in (
        *CALICO.attach_patch(Attachment(vm(), network(), number("10.133.0.9")), NOTHING),
        *CALICO.detach_patch(vm(template={IP_ADDRS_ANNOTATION: '["10.133.0.9"]'}), network(), NOTHING),
    ):
        with pytest.raises(DoesNotFit):
            apply_patch(change.body, anew.raw)


def test_vm_of_another_namespace_is_annotated_with_the_full_network_name() -> None:
    other = vm()
    other.raw["metadata"]["namespace"] = "dev"
    (change,) = CALICO.attach_patch(Attachment(other, network(), number("10.133.0.9")), NOTHING)
    assert Vm(apply_patch(change.body, other.raw)).annotations[NETWORK_NAME] == "prod/blue"


def test_mac_of_the_interface_is_not_written_as_annotation() -> None:
    interface = {"name": "default", "bridge": {}, "macAddress": "02:11:22:33:44:55"}
    spec = {"domain": {"devices": {"interfaces": [interface]}}, "networks": [{"name": "default", "pod": {}}]}
    one = vm(spec=spec)
    assert CALICO.macs_of(one, network()) == ("02:11:22:33:44:55", "")
    (change,) = CALICO.attach_patch(Attachment(one, network(), number("10.133.0.9"), "02:11:22:33:44:55"), NOTHING)
    assert HW_ADDR_ANNOTATION not in Vm(apply_patch(change.body, one.raw)).template_annotations


def test_detach_patch_keeps_the_pin_of_another_network() -> None:
    both = vm(template={IP_ADDRS_ANNOTATION: '["10.133.0.9", "fd00::9"]', HW_ADDR_ANNOTATION: "02:00:00:00:00:01"})
    (change,) = CALICO.detach_patch(both, network(), NOTHING)
    after = Vm(apply_patch(change.body, both.raw))
    assert after.template_annotations == {IP_ADDRS_ANNOTATION: '["fd00::9"]', HW_ADDR_ANNOTATION: "02:00:00:00:00:01"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('["10.133.0.9"]', ["10.133.0.9"]),
        ('["10.133.0.9", "fd00::9"]', ["10.133.0.9", "fd00::9"]),
        ("[]", []),
        ("10.133.0.9", []),
        ('["10.133.0.9/32"]', []),
        ('"10.133.0.9"', []),
        ("{}", []),
        ("5", []),
        ("null", []),
        ("", []),
    ],
)
def test_pinned_addresses_are_parsed_like_calico(text: str, wanted: list[str]) -> None:
    assert [str(address) for address in parse_pinned_addresses({IP_ADDRS_ANNOTATION: text})] == wanted
    assert parse_pinned_addresses({}) == ()


@pytest.mark.parametrize(
    ("pin", "requested", "wanted"),
    [
        ("", None, ""),
        ('["10.133.0.9"]', "blue", ""),
        ('["10.144.0.9"]', "red", "10.144.0.9 on network red"),
        ('["10.144.0.9"]', None, f"10.144.0.9 ({IP_ADDRS_ANNOTATION} in its template)"),
        ('["10.144.0.9"]', "blue", f"10.144.0.9 ({IP_ADDRS_ANNOTATION} in its template)"),
        ('["10.133.0.9", "fd00::9"]', "blue", f"fd00::9 ({IP_ADDRS_ANNOTATION} in its template)"),
    ],
)
def test_conflicting_address_is_named_with_its_network(pin: str, requested: str | None, wanted: str) -> None:
    one = vm({NETWORK_NAME: requested} if requested else None, {IP_ADDRS_ANNOTATION: pin} if pin else None)
    assert CALICO.conflicting_address(one, network(), known(red="calico")) == wanted


@pytest.mark.parametrize(
    ("requested", "wanted"),
    [
        (None, "blue"),
        ("red", "blue"),  # one Calico network at a time
        ("lab", "lab,blue"),  # and as many others as there are
        ("red,prod/lab", "prod/lab,blue"),
        ("lab, blue", "lab, blue"),
        ("gone,blue", "blue"),  # there is no such network
        ("hidden", "hidden,blue"),  # what may not be read may be another's
    ],
)
def test_annotation_lists_this_network_with_those_of_other_plugins(requested: str | None, wanted: str) -> None:
    attachment = Attachment(vm({NETWORK_NAME: requested} if requested else None), network(), number("10.133.0.9"))
    [change] = CALICO.attach_patch(attachment, known(red="calico", lab="ovs"))
    assert Vm(apply_patch(change.body, change.before)).annotations[NETWORK_NAME] == wanted


def test_detach_patch_keeps_other_networks_in_the_annotation() -> None:
    [change] = CALICO.detach_patch(vm({NETWORK_NAME: "lab,blue,fast"}), network(), NOTHING)
    assert Vm(apply_patch(change.body, change.before)).annotations[NETWORK_NAME] == "lab,fast"


def test_requested_networks_are_parsed_from_the_vm() -> None:
    assert CALICO.requested_networks(vm({NETWORK_NAME: " blue "})).networks == ("blue",)
    assert CALICO.requested_networks(vm({NETWORK_NAME: "blue, prod/lab,"})).networks == ("blue", "prod/lab")
    assert CALICO.requested_networks(vm()).networks == ()


# -- what shows that it has one -------------------------------------------------------------------------------------


def vmi(address: str = "", pin: str = "", owner: str = "uid-1", phase: str = "Running") -> Json:
    return {
        "metadata": {
            "name": "web-1",
            "namespace": "prod",
            "annotations": {IP_ADDRS_ANNOTATION: json.dumps([pin])} if pin else {},
            "ownerReferences": [{"kind": "VirtualMachine", "name": "web-1", "uid": owner}],
        },
        "status": {"phase": phase, "interfaces": [{"name": "default", "ipAddress": address}] if address else []},
    }


def pod(address: str = "", pin: str = "", phase: str = "Running", name: str = "virt-launcher-web-1-x") -> Json:
    annotations = {"kubevirt.io/domain": "web-1"}
    if pin:
        annotations[IP_ADDRS_ANNOTATION] = json.dumps([pin])
    if address:
        annotations[POD_IPS_ANNOTATION] = f"{address}/32"
    return {
        "metadata": {
            "name": name,
            "namespace": "prod",
            "labels": {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "web-1"},
            "annotations": annotations,
        },
        "status": {"phase": phase},
    }


def surveyed(*vms: Vm, vmis: tuple[Json, ...] = (), pods: tuple[Json, ...] = (), blocks: Any = ()) -> list[AddressUse]:
    snapshot = NOTHING.with_results(
        {
            Query(VM): tuple(one.raw for one in vms),
            Query(VMI): vmis,
            Query(POD, label_selector=LAUNCHER_SELECTOR): pods,
            Query(RAW.block): blocks,
        }
    )
    return list(CALICO.all_address_uses(network(), None, snapshot))


def shown(address_uses: list[AddressUse]) -> list[tuple[str, str, str]]:
    return [
        (str(parse_address(str(network().address(u.number)))), u.kind.value, u.ref.resource.kind) for u in address_uses
    ]


def test_pinned_address_is_requested() -> None:
    (use,) = surveyed(vm(template={IP_ADDRS_ANNOTATION: '["10.133.0.9", "10.144.0.9"]'}))
    assert (use.kind, use.number) == (UsageKind.REQUESTED, number("10.133.0.9"))
    assert use.is_for_vm("prod", "web-1", "uid-1")
    assert not use.is_for_vm("prod", "web-1", "uid-2")


RUNS = [
    ("an instance with an address", vmi("10.133.0.9"), None, ["VirtualMachineInstance"]),
    ("an instance that has none yet, but is pinned", vmi(pin="10.133.0.9"), None, ["VirtualMachineInstance"]),
    ("an instance that has another one than its pin", vmi("10.144.0.8", "10.133.0.9"), None, []),
    ("an instance that has ended", vmi("10.133.0.9", phase="Failed"), None, []),
    ("a pod with an address", None, pod("10.133.0.9"), ["Pod"]),
    ("a pod that has none yet, but is pinned", None, pod(pin="10.133.0.9"), ["Pod"]),
    ("a pod that has another one than its pin", None, pod("10.144.0.8", "10.133.0.9"), []),
    ("a pod that has ended", None, pod("10.133.0.9", phase="Succeeded"), []),
    ("both", vmi("10.133.0.9"), pod("10.133.0.9"), ["VirtualMachineInstance", "Pod"]),
]


@pytest.mark.parametrize(("what", "instance", "launcher", "kinds"), RUNS, ids=[row[0] for row in RUNS])
def test_running_uses_of_an_address(what: str, instance: Json | None, launcher: Json | None, kinds: list[str]) -> None:
    address_uses = surveyed(vmis=(instance,) if instance else (), pods=(launcher,) if launcher else ())
    assert shown(address_uses) == [("10.133.0.9", "running", kind) for kind in kinds]
    assert all(use.is_for_vm("prod", "web-1") for use in address_uses)


def test_both_pods_of_a_migration_use_the_address() -> None:
    address_uses = surveyed(pods=(pod("10.133.0.9"), pod("10.133.0.9", name="virt-launcher-web-1-target")))
    assert [use.ref.name for use in address_uses] == ["virt-launcher-web-1-x", "virt-launcher-web-1-target"]


def test_ipam_addresses_are_held_by_the_backend() -> None:
    block = {
        "metadata": {"name": "10-133-0-0-26"},
        "spec": {
            "cidr": "10.133.0.0/26",
            "allocations": [None, 0, 1],
            "attributes": [{"handle_id": "k8s-pod-network.vmi.prod.web-1"}, {"handle_id": "k8s-pod-network.abc"}],
        },
    }
    address_uses = surveyed(blocks=(block,))
    assert shown(address_uses) == [("10.133.0.1", "held", "IPAMBlock"), ("10.133.0.2", "held", "IPAMBlock")]
    assert [(use.namespace, use.name) for use in address_uses] == [("prod", "web-1"), ("", "")]


@pytest.mark.parametrize(
    ("pools", "block"),
    [
        ({"prod.blue": {"cidr": "10.0.0.0/8", "blockSize": 26}}, "10-9-9-64-26"),
        ({"prod.blue": {"cidr": "10.0.0.0/8", "blockSize": 28}}, "10-9-9-64-28"),
        ({"prod.blue": {"cidr": "10.0.0.0/8"}}, "10-9-9-64-26"),
        ({"blue": {"cidr": "10.0.0.0/8", "blockSize": 24}}, "10-9-9-0-24"),
        ({"blue": {"cidr": "10.0.0.0/9", "blockSize": 24}}, "10-9-9-64-26"),
        ({}, "10-9-9-64-26"),
    ],
    ids=["as the spec says", "another size", "the usual size", "Platform9 yoshi's pool", "somebody's pool", "no pool"],
)
def test_only_the_ipam_block_of_the_address_is_read(pools: dict[str, Json], block: str) -> None:
    asked: list[Query] = []
    snapshot = NOTHING
    while True:
        try:
            CALICO.address_uses(network("10.0.0.0/8"), [], Intervals.from_numbers([number("10.9.9.70")]), snapshot)
            break
        except MissingQueriesError as more:
            asked += more.queries
            found = {one: pools.get(one.name) for one in more.queries if one.resource == RAW.pool}
            results = {
                one: ({"metadata": {"name": one.name}, "spec": spec},) if spec else () for one, spec in found.items()
            }
            snapshot = snapshot.with_results({**dict.fromkeys(more.queries, ()), **results})
    assert {*asked[:2]} == {Query(RAW.pool, name="prod.blue"), Query(RAW.block, name="10-9-9-64-26")}
    assert Query(RAW.block, name=block) in asked
    assert {one.name for one in asked if one.resource == RAW.block} == {"10-9-9-64-26", block}


# -- what will not work ---------------------------------------------------------------------------------------------


def interface(binding: str, **pod_network: Any) -> Json:
    return {
        "domain": {"devices": {"interfaces": [{"name": "default", binding: {}}]}},
        "networks": [{"name": "default", "pod": pod_network}],
    }


MIGRATES = {ALLOW_MIGRATION_ANNOTATION: ""}
FINE = vm(template=MIGRATES, spec=interface("bridge"))


def warnings(
    one: Vm, cidr: str = "10.133.0.0/24", version: str = "v3.32.1", strict: bool = False, unread: bool = False
) -> list[str]:
    config: Any = ({"metadata": {"name": "default"}, "spec": {"strictAffinity": strict}},)
    snapshot = NOTHING.with_results(
        {
            Query(RAW.config, name="default"): Unreadable("no right") if unread else config,
            Query(RAW.information, name="default"): ({"spec": {"calicoVersion": version}},) if version else (),
        }
    )
    net = network(cidr)
    return list(CALICO.warnings(Attachment(one, net, net.usable.nth(0)), snapshot))


def test_valid_vm_has_no_warnings() -> None:
    assert warnings(FINE) == []
    assert warnings(FINE, unread=True) == []
    assert warnings(FINE, version="") == []
    assert warnings(vm(spec=interface("masquerade"))) == []


CONCERNS: list[tuple[str, Json, str]] = [
    (
        "no interface on the pod network",
        {"one": vm(spec={"domain": {"devices": {"autoattachPodInterface": False}}})},
        "has no interface on the pod network: the address has no effect",
    ),
    (
        "masquerade inside the network",
        {"one": vm(spec=interface("masquerade")), "cidr": "10.0.0.0/16"},
        "masquerade uses 10.0.2.0/24 inside the guest, which overlaps 10.0.0.0/16",
    ),
    (
        "masquerade with its own inside",
        {"one": vm(spec=interface("masquerade", vmNetworkCIDR="10.133.0.0/28"))},
        "masquerade uses 10.133.0.0/28 inside the guest, which overlaps 10.133.0.0/24",
    ),
    (
        "IPv6 over a bridge",
        {"one": FINE, "cidr": "fd00::/64"},
        "bridge binding gives the guest no IPv6 address",
    ),
    ("strict affinity", {"one": FINE, "strict": True}, "ipamconfig/default has strictAffinity"),
]


@pytest.mark.parametrize(("what", "case", "said"), CONCERNS, ids=[row[0] for row in CONCERNS])
def test_each_warning_is_one_line_naming_the_object(what: str, case: Json, said: str) -> None:
    (line,) = warnings(**case)
    assert said in line
    assert "\n" not in line
    assert "virtualmachine/web-1" in line


def test_masquerade_without_overlap_has_no_warning() -> None:
    assert warnings(vm(spec=interface("masquerade", vmNetworkCIDR="172.16.0.0/24")), "10.0.0.0/16") == []
    assert warnings(vm(spec=interface("masquerade")), "fd00::/64") == []


# -- live migration -------------------------------------------------------------------------------------------------


def migration_blockers(one: Vm, version: str = "v3.32.1", persistence: str = "Enabled", **calico: Any) -> list[str]:
    """Why a VM that is to be live-migrated cannot be, on a network with this spec.calico."""
    config: Json = {"metadata": {"name": "default"}, "spec": {"kubeVirtVMAddressPersistence": persistence}}
    snapshot = NOTHING.with_results(
        {
            Query(RAW.config, name="default"): (config,),
            Query(RAW.information, name="default"): ({"spec": {"calicoVersion": version}},) if version else (),
        }
    )
    spec = {"plugin": "calico", "cidr": "10.133.0.0/24", "calico": calico}
    net = parse_network({"metadata": {"name": "blue", "namespace": "prod"}, "spec": spec})
    return [str(blocker) for blocker in CALICO.migration_blockers(one, net, snapshot)]


EVICTED: Json = {**interface("bridge"), "evictionStrategy": "LiveMigrate"}
OVERLAY = "network prod/blue has VXLAN and NAT (created without --live-migration)"
BRIDGE = f"bridge binding without annotation {ALLOW_MIGRATION_ANNOTATION}"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"one": vm(spec=interface("bridge"))}, []),  # nobody asks for it
        ({"one": vm(spec={**interface("bridge"), "evictionStrategy": "None"})}, []),
        ({"one": FINE, "liveMigration": True}, []),
        ({"one": FINE, "liveMigration": True, "version": ""}, []),
        ({"one": FINE, "encapsulation": "None", "natOutgoing": False}, []),
        ({"one": FINE}, [OVERLAY]),
        ({"one": FINE, "encapsulation": "None"}, [OVERLAY.replace("VXLAN and NAT", "NAT")]),
        (
            {"one": FINE, "encapsulation": "IPIPCrossSubnet", "natOutgoing": False},
            [OVERLAY.replace("VXLAN and NAT", "IPIP")],
        ),
        ({"one": vm(spec=EVICTED)}, [OVERLAY, BRIDGE]),
        ({"one": vm(), "liveMigration": True}, [BRIDGE]),
        ({"one": vm(spec={**interface("masquerade"), "evictionStrategy": "LiveMigrateIfPossible"})}, [OVERLAY]),
        (
            {"one": FINE, "liveMigration": True, "version": "v3.31.2"},
            ["Calico v3.31 does not keep the addresses of VMs (v3.32 and later do)"],
        ),
        (
            {"one": FINE, "liveMigration": True, "persistence": "Disabled"},
            ["ipamconfig/default has kubeVirtVMAddressPersistence: Disabled"],
        ),
    ],
)
def test_migration_blockers_list_all_missing_settings(case: Json, expected: list[str]) -> None:
    assert migration_blockers(**case) == expected
