"""Public addresses for many VMs at once, killed and moved; networks without a CIDR; MetalLB's objects.

What Calico's objects look like: test_public.py. Whether an address is announced: tests/e2e/test_public.py.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from kubectl_yoshi.plan.release import RELEASED_AT_ANNOTATION
from tests.cluster.checker import check
from tests.cluster.harness import get, make, make_vms, vm, wait_for_role
from tests.cluster.killing import open_proxied_program
from tests.cluster.legacy_fixtures import README_PUBLIC_IP, vm_with
from tests.cluster.public_scene import BGP, PublicScene, version

pytestmark = [pytest.mark.I1, pytest.mark.I2]

Json = dict[str, Any]

# -- many at once, killed, moved -------------------------------------------------------------------------------------


def consistent(public_scene: PublicScene, network: str) -> dict[str, str]:
    """Address -> VM by the allocations, after it was compared with Services and with Calico's list."""
    records = {address: record["name"] for address, record in public_scene.records(network).items()}
    carried = {}
    for service in public_scene.services():
        address = service["metadata"]["annotations"]["plumber.k8s.pf9.io/publicIP"]
        assert address not in carried
        carried[address] = service["metadata"]["ownerReferences"][0]["name"]
        assert [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]] == [address]
    assert carried == records
    assert len(set(records.values())) == len(records)
    listed = public_scene.listed()
    assert sorted(listed) == sorted(f"{address}/32" for address in records)
    return records


def test_attach_of_twenty_vms_by_one_command(public_scene: PublicScene) -> None:
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/27", *BGP)
    names = [f"web-{number}" for number in range(20)]
    public_scene.vms(*names, labels={"app": "web"})
    public_scene.yoshi.done("vm", "attach", "-l", "app=web", "--public-network", "pub")
    assert sorted(consistent(public_scene, "pub").values()) == sorted(names)
    public_scene.yoshi.done("vm", "detach", "-l", "app=web", "--public-network", "pub")
    assert consistent(public_scene, "pub") == {}


def test_eight_processes_on_a_small_pool_assign_no_address_twice(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/29", *BGP)
    names = [f"web-{number}" for number in range(8)]
    public.vms(*names)
    runs = public.yoshi.together(*(["vm", "attach", name, "--public-network", "pub"] for name in names))
    assert sorted(ran.code for ran in runs) == [0] * 6 + [1] * 2, "\n".join(map(str, runs))
    assert all("full" in ran.err for ran in runs if ran.code)
    winners = {ran.args[2] for ran in runs if not ran.code}
    assert set(consistent(public, "pub").values()) == winners


def test_eight_processes_attaching_one_vm_create_one_service(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public.vms("web")
    runs = public.yoshi.together(*[["vm", "attach", "web", "--public-network", "pub"]] * 8)
    assert all(ran.code == 0 for ran in runs), "\n".join(map(str, runs))
    assert list(consistent(public, "pub").values()) == ["web"]


def test_killed_attach_is_completed_by_a_second_run(public: PublicScene, tmp_path: Path) -> None:
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/26", *BGP)
    names = [f"web-{number}" for number in range(8)]
    public.vms(*names)
    attach = ["vm", "attach", *names, "--public-network", "pub"]
    detach = ["vm", "detach", *names, "--public-network", "pub"]
    with open_proxied_program(public.yoshi, tmp_path) as proxied:
        for words, wanted in ((attach, names), (detach, [])):
            assert proxied.kills(*words, step=3) > 3
            assert sorted(consistent(public, "pub").values()) == sorted(wanted)


def test_move_includes_ports_and_is_idempotent(public_scene: PublicScene) -> None:
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public_scene.vms("web-1", "web-2", "web-3")
    public_scene.yoshi.done("vm", "attach", "web-1", "--public-network", "pub", "--ip", "203.0.113.5", "--port", "8443")
    assert "203.0.113.5 is not free" in public_scene.yoshi.refused(
        "vm", "attach", "web-2", "--public-ip", "203.0.113.5"
    )
    public_scene.yoshi.done("ips", "move", "203.0.113.5", "--to", "web-2")
    assert consistent(public_scene, "pub") == {"203.0.113.5": "web-2"}
    assert [port["port"] for port in public_scene.services()[0]["spec"]["ports"]] == [8443]
    assert set(public_scene.vm("web-1")["metadata"]["annotations"]) == {RELEASED_AT_ANNOTATION}
    before = version(public_scene.services()[0])
    assert "unchanged" in public_scene.yoshi.done("ips", "move", "203.0.113.5", "--to", "web-2")
    assert version(public_scene.services()[0]) == before
    public_scene.yoshi.done("vm", "attach", "web-3", "--public-network", "pub")
    said = public_scene.yoshi.refused("ips", "move", "203.0.113.5", "--to", "web-3")
    assert "already has 203.0.113.1" in said
    assert "is not assigned on network" in public_scene.yoshi.refused("ips", "move", "203.0.113.9", "--to", "web-3")
    public_scene.yoshi.done("ips", "reserve", "pub", "203.0.113.9")
    public_scene.yoshi.done("vm", "detach", "web-3", "--public-network", "pub")
    assert "it is reserved on network" in public_scene.yoshi.refused("ips", "move", "203.0.113.9", "--to", "web-3")


def test_killed_move_is_completed_by_a_second_run(public: PublicScene, tmp_path: Path) -> None:
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public.vms("web-0", "web-1")
    public.yoshi.done("vm", "attach", "web-0", "--public-network", "pub")
    with open_proxied_program(public.yoshi, tmp_path) as proxied:
        for turn in itertools.count():
            writes, heir = 2 * turn, f"web-{(turn + 1) % 2}"
            words = ("ips", "move", "203.0.113.1", "--to", heir)
            killed = proxied.is_killed(writes, *words)
            assert len(public.services()) <= 1
            public.yoshi.done(*words)
            assert consistent(public, "pub") == {"203.0.113.1": heir}
            if not killed:
                break
    assert 3 < writes < 20


@pytest.mark.parametrize("cidr", ["203.0.113.0/28", "203.0.112.0/23"])
def test_move_into_a_namespace_at_its_quota_leaves_the_address_with_its_vm(public: PublicScene, cidr: str) -> None:
    quota = ("--max-addresses-per-namespace", "4")
    public.yoshi.done(
        "network", "create", "pub", "--plugin", "public", "--announce", "metallb-l2", "--cidr", cidr, *quota
    )
    network, have = f"{public.namespace}/pub", [f"web-{number}" for number in range(4)]
    public.vms(*have)
    public.yoshi.done("vm", "attach", *have, "--public-network", "pub")
    with public.cluster.namespace() as other:
        theirs = public.yoshi.within(other)
        make_vms(public.cluster, other, "had-0", "had-1", *(f"gets-{number}" for number in range(4)))
        theirs.done("vm", "attach", "had-0", "had-1", "--public-network", network)
        of = {name: address for address, (_, name) in holders(public, other).items()}
        moves = [("ips", "move", of[f"web-{number}"], "--to", f"gets-{number}") for number in range(4)]
        rans = theirs.together(*moves)
        assert sum(1 for ran in rans if not ran.code) >= 2, "\n".join(map(str, rans))
        for ran in rans:  # each counts once, before it changes anything
            assert not ran.code or re.search(rf"namespace {other} holds [45] addresses", ran.err), str(ran)
        for number, (ran, address) in enumerate(zip(rans, (move[2] for move in moves), strict=True)):
            expected = (public.namespace, f"web-{number}") if ran.code else (other, f"gets-{number}")
            assert holders(public, other)[address] == expected
        held = holders(public, other)
        for move in (move for move, ran in zip(moves, rans, strict=True) if ran.code):
            assert f"namespace {other} holds" in theirs.refused(*move)
        assert holders(public, other) == held
        assert len(held) == 6
        check(public.cluster, public.namespace, other, settled=True)
        theirs.done("vm", "detach", *(name for namespace, name in held.values() if namespace == other),
                    "--public-network", network)  # fmt: skip


def holders(public_scene: PublicScene, other: str) -> dict[str, tuple[str, str]]:
    """Address -> namespace and name of its VM, by the allocations; each has just one Service, owned by that VM."""
    found: dict[str, tuple[str, str]] = {}
    for obj in get(public_scene.cluster, "networkwizards,addressblocks", namespace=public_scene.namespace)["items"]:
        for address, record in (obj["status"].get("allocations") or {}).items():
            assert address not in found
            found[address] = record["namespace"], record["name"]
    services = [*public_scene.services(), *get(public_scene.cluster, "services", namespace=other)["items"]]
    carried = {
        service["metadata"]["annotations"]["plumber.k8s.pf9.io/publicIP"]: (
            service["metadata"]["namespace"], service["metadata"]["ownerReferences"][0]["name"]
        )
        for service in services
    }  # fmt: skip
    assert len(services) == len(carried)
    assert carried == found
    return found


# -- without a CIDR, and by MetalLB ----------------------------------------------------------------------------------


def test_network_without_a_cidr_assigns_requested_addresses(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "elastic", "--plugin", "public", *BGP)
    public.vms("web-1", "web-2", "web-3")
    public.yoshi.done("vm", "attach", "web-1", "--public-ip", "198.51.100.7")
    public.yoshi.done("vm", "attach", "web-2", "--public-network", "elastic", "--ip", "2001:db8::7")
    assert public.listed() == ["198.51.100.7/32", "2001:db8::7/128"]
    assert sorted(public.records("elastic")) == ["198.51.100.7", "2001:db8::7"]
    families = {
        service["metadata"]["ownerReferences"][0]["name"]: service["spec"]["ipFamilies"]
        for service in public.services()
    }
    assert families == {"web-1": ["IPv4"], "web-2": ["IPv6"]}
    assert "no cidr" in public.yoshi.refused("vm", "attach", "web-3", "--public-network", "elastic")
    assert "not free" in public.yoshi.refused("vm", "attach", "web-3", "--public-ip", "198.51.100.7")
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    said = public.yoshi.refused("vm", "attach", "web-3", "--public-network", "elastic", "--ip", "203.0.113.4")
    assert "belongs to network" in said
    public.yoshi.done("vm", "attach", "web-3", "--public-ip", "203.0.113.4")
    assert list(public.records("pub")) == ["203.0.113.4"]
    check(public.cluster, public.namespace, settled=True)
    public.yoshi.done("network", "delete", "elastic", "pub", "--force", "--yes")
    assert (public.configuration(), public.peers(), public.services()) == (None, [], [])


def test_eight_processes_on_two_networks_without_a_cidr_assign_an_address_once(public: PublicScene) -> None:
    networks = ("one", "two")
    for name in networks:
        public.yoshi.done("network", "create", name, "--plugin", "public", *BGP)
    vms = [f"web-{number}" for number in range(8)]
    public.vms(*vms)
    runs = public.yoshi.together(
        *(
            ["vm", "attach", name, "--public-network", networks[place % 2], "--public-ip", "198.51.100.7"]
            for place, name in enumerate(vms)
        )
    )
    assert [ran.code for ran in runs].count(0) <= 1, "\n".join(map(str, runs))
    assert all("belongs to network" in ran.err or "not free" in ran.err for ran in runs if ran.code), "\n".join(
        map(str, runs)
    )
    check(public.cluster, public.namespace)
    public.yoshi.run("ips", "gc", "--grace", "0s", "--yes")
    check(public.cluster, public.namespace, settled=True)


def metallb(public_scene: PublicScene) -> dict[str, Json]:
    """ "kind/name" -> spec, of everything of MetalLB's in its namespace."""
    kinds = "ipaddresspools,l2advertisements,bgpadvertisements,bgppeers.metallb.io"
    items = get(public_scene.cluster, kinds, namespace="metallb-system")["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": item["spec"] for item in items}


def outside_of(public_scene: PublicScene, network: str) -> list[Json]:
    """What chooses the pools of addresses outside a network's CIDR."""
    uid = get(public_scene.cluster, "networkwizard", network, namespace=public_scene.namespace)["metadata"]["uid"]
    labels = {"plumber.k8s.pf9.io/networkUID": uid, "plumber.k8s.pf9.io/outsideCIDR": "true"}
    return [{"matchLabels": labels}]


def test_network_without_bgp_is_announced_by_metallb_l2(public: PublicScene) -> None:
    args = (
        "--plugin", "public", "--cidr", "203.0.113.0/28",
        "--announce-interface", "eth1", "--node-selector", "edge=yes",
    )  # fmt: skip
    public.yoshi.done("network", "create", "lan", *args)
    name = f"{public.namespace}.lan"
    assert metallb(public) == {
        f"IPAddressPool/{name}": {"addresses": ["203.0.113.0/28"], "autoAssign": False, "avoidBuggyIPs": False},
        f"L2Advertisement/{name}": {
            "ipAddressPools": [name],
            "ipAddressPoolSelectors": outside_of(public, "lan"),
            "interfaces": ["eth1"],
            "nodeSelectors": [{"matchLabels": {"edge": "yes"}}],
        },
    }
    public.vms("web")
    public.yoshi.done("vm", "attach", "web", "--public-network", "lan")
    [service] = public.services()
    assert service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] == "203.0.113.1"
    assert "loadBalancerClass" not in service["spec"]
    assert public.configuration() is None
    public.yoshi.done("network", "delete", "lan", "--force", "--yes")
    assert (metallb(public), public.services()) == ({}, [])


def test_metallb_bgp_peers_are_created_for_the_given_routers(public: PublicScene) -> None:
    peers = ("--peer", "10.240.0.5,multihop", "--peer", "2001:db8::5,password-secret=router")
    asns = ("--my-asn", "4200000001", "--remote-asn", "4200000002", "--announce", "metallb-bgp")
    public.yoshi.done("network", "create", "six", "--plugin", "public", "--cidr", "2001:db8:1::/64", *peers, *asns)
    name = f"{public.namespace}.six"
    found = metallb(public)
    v6 = "yoshi-2001-0db8-0000-0000-0000-0000-0000-0005"
    assert found[f"BGPAdvertisement/{name}"] == {
        "ipAddressPools": [name],
        "ipAddressPoolSelectors": outside_of(public, "six"),
        "peers": ["yoshi-10.240.0.5", v6],
        "aggregationLength": 32,
        "aggregationLengthV6": 128,
    }
    common = {"myASN": 4200000001, "peerASN": 4200000002}
    for key, wanted in (
        ("yoshi-10.240.0.5", {**common, "peerAddress": "10.240.0.5", "ebgpMultiHop": True}),
        (v6, {**common, "peerAddress": "2001:db8::5", "passwordSecret": {"name": "router"}}),
    ):
        spec = found[f"BGPPeer/{key}"]
        assert {field: spec.get(field) for field in wanted} == wanted
    public.vms("web")
    public.yoshi.done("vm", "attach", "web", "--public-network", "six", "--ip", "2001:db8:1::5")
    assert public.services()[0]["spec"]["ipFamilies"] == ["IPv6"]
    public.yoshi.done("network", "delete", "six", "--force", "--yes")
    assert metallb(public) == {}


def test_foreign_metallb_pools_are_reused_if_equal_and_never_overlapped(public: PublicScene) -> None:
    def pool(name: str, **spec: Any) -> Json:
        metadata = {"name": name, "namespace": "metallb-system"}
        return {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata, "spec": spec}

    make(public.cluster, pool("theirs", addresses=["203.0.113.8-203.0.113.20"]))
    for extra in ((), BGP):
        said = public.yoshi.refused("network", "create", "a", "--plugin", "public", "--cidr", "203.0.113.0/28", *extra)
        assert "ipaddresspool/theirs" in said
    make(public.cluster, pool("same", addresses=["198.51.100.0-198.51.100.15"], autoAssign=False))
    public.yoshi.done("network", "create", "b", "--plugin", "public", "--cidr", "198.51.100.0/28")
    assert metallb(public)[f"L2Advertisement/{public.namespace}.b"]["ipAddressPools"] == ["same"]
    public.yoshi.done("network", "delete", "b")
    assert set(metallb(public)) == {"IPAddressPool/theirs", "IPAddressPool/same"}


def test_network_without_a_cidr_has_a_metallb_pool_for_each_address(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "elastic", "--plugin", "public")
    public.vms("web-1", "web-2")
    for number in (1, 2):
        public.yoshi.done("vm", "attach", f"web-{number}", "--public-ip", f"198.51.100.{number}")
    pools = [spec["addresses"] for key, spec in metallb(public).items() if key.startswith("IPAddressPool/")]
    assert sorted(pools) == [["198.51.100.1/32"], ["198.51.100.2/32"]]
    uid = get(public.cluster, "networkwizard", "elastic", namespace=public.namespace)["metadata"]["uid"]
    selector = metallb(public)[f"L2Advertisement/{public.namespace}.elastic"]["ipAddressPoolSelectors"]
    assert selector == [{"matchLabels": {"plumber.k8s.pf9.io/networkUID": uid}}]
    check(public.cluster, public.namespace, settled=True)
    public.yoshi.done("vm", "detach", "web-1", "--public-network", "elastic")
    pools = [spec["addresses"] for key, spec in metallb(public).items() if key.startswith("IPAddressPool/")]
    assert pools == [["198.51.100.2/32"]]
    public.yoshi.done("network", "delete", "elastic", "--force", "--yes")
    assert metallb(public) == {}


def test_overlaps_with_networks_and_calico_pools_are_refused(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "blue", "--plugin", "calico", "--cidr", "10.77.0.0/24")
    said = public.yoshi.refused("network", "create", "pub", "--plugin", "public", "--cidr", "10.77.0.0/28", *BGP)
    assert "overlaps" in said
    public.yoshi.done("network", "delete", "blue")


def test_plugin_public_must_be_given_explicitly(public: PublicScene) -> None:
    said = public.yoshi.refused("network", "create", "pub", "--cidr", "203.0.113.0/28", *BGP, code=2)
    assert "--type public" in said


# -- permissions, unknown fields, both at once -----------------------------------------------------------------------


def test_attach_assigns_a_private_and_a_public_address_by_one_command(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "blue", "--plugin", "calico", "--cidr", "10.78.0.0/24")
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    unknown = {"updateVolumesStrategy": "Migration"}
    make(public.cluster, vm(public.namespace, "web", annotations={"mine": "stays"}, **unknown))
    out = public.yoshi.done("vm", "attach", "web", "--network", "blue", "--public-network", "pub", "--ip", "10.78.0.9")
    assert "attached to blue: 10.78.0.9" in out
    assert "attached to pub: 203.0.113.1" in out
    told = public.vm("web")
    assert told["spec"]["updateVolumesStrategy"] == "Migration"
    assert told["metadata"]["annotations"]["mine"] == "stays"
    rows = public.yoshi.done("ips", "list", "-o", "wide")
    assert "203.0.113.1" in rows
    assert "calico-bgp" in rows
    public.yoshi.done("vm", "detach", "web", "--network", "blue", "--public-network", "pub")
    assert public.vm("web")["metadata"]["annotations"] == {"mine": "stays"}
    public.yoshi.done("network", "delete", "blue", "pub")


def test_attach_without_all_permissions_leaves_nothing_behind(public: PublicScene) -> None:
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public.vms("web")
    where = ("-n", public.namespace)
    public.cluster.kubectl(*where, "create", "rolebinding", "tenant", "--clusterrole=yoshi-user", "--user=tenant")
    public.cluster.kubectl(
        "create", "clusterrolebinding", f"{public.namespace}-looks", "--clusterrole=yoshi-admin", "--user=nobody-else"
    )
    wait_for_role(public.cluster, "tenant", public.namespace)
    said = public.yoshi.run("--as", "tenant", "vm", "attach", "web", "--public-network", "pub")
    public.cluster.kubectl("delete", "clusterrolebinding", f"{public.namespace}-looks")
    assert said.code == 1
    assert "bgpconfigurations" in said.err
    assert (public.services(), public.records("pub"), public.listed()) == ([], {}, [])
    assert not public.vm("web")["metadata"].get("annotations")


@pytest.mark.parametrize(
    ("extra", "cidr"), [(BGP, "203.0.113.0/29"), ((), "203.0.112.0/22")], ids=["calico-bgp", "metallb-l2"]
)
def test_address_outside_the_cidr_is_assigned_if_requested(
    public: PublicScene, extra: tuple[str, ...], cidr: str
) -> None:
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", cidr, *extra)
    public.vms("web-1", "web-2", "web-3")
    assert "1.2.3.4" in public.yoshi.done("vm", "attach", "web-1", "--public-ip", "1.2.3.4")
    public.yoshi.done("vm", "attach", "web-2", "--public-ip", "1.2.3.5", "--public-network", "pub")
    public.yoshi.done("vm", "attach", "web-3", "--public-network", "pub")
    public.yoshi.done("ips", "reserve", "pub", "1.2.3.6")
    assert {*public.records("pub")} >= {"1.2.3.4", "1.2.3.5", "1.2.3.6"}
    if extra:
        assert {"1.2.3.4/32", "1.2.3.5/32"} < {*public.listed()}
    else:
        pools = [spec["addresses"] for key, spec in metallb(public).items() if key.startswith("IPAddressPool/")]
        assert sorted(pools) == [["1.2.3.4/32"], ["1.2.3.5/32"], [cidr]]
    free = 5 if cidr.endswith("/29") else 1021
    assert public.yoshi.done("network", "list").split()[-4:-2] == ["4", str(free)]
    assert "web-1" in public.yoshi.done("ips", "show", "1.2.3.4")
    assert "1.2.3.7 is in no network" in public.yoshi.refused("ips", "show", "1.2.3.7")
    assert "web-1 holds it" in public.yoshi.refused("vm", "attach", "web-3", "--public-ip", "1.2.3.4", "--replace")
    check(public.cluster, public.namespace)
    public.yoshi.done("vm", "detach", "web-1", "web-3", "--public-network", "pub")
    public.yoshi.done("ips", "move", "1.2.3.5", "--to", "web-1")
    assert public.records("pub")["1.2.3.5"]["name"] == "web-1"
    public.yoshi.done("vm", "detach", "web-1", "--public-network", "pub")
    public.yoshi.done("ips", "release", "pub", "1.2.3.6")
    assert public.records("pub") == {}
    assert public.listed() == []
    check(public.cluster, public.namespace, settled=True)
    public.yoshi.done("network", "delete", "pub")
    assert metallb(public) == {}


def test_ambiguous_public_networks_are_named(public: PublicScene) -> None:
    for name, cidr in (("one", "203.0.113.0/29"), ("two", "203.0.113.8/29")):
        public.yoshi.done("network", "create", name, "--plugin", "public", "--cidr", cidr, *BGP)
    public.vms("web-1", "web-2")
    several = f"{public.namespace}/one, {public.namespace}/two"
    assert several in public.yoshi.refused("vm", "attach", "web-1", "--public-ip", "1.2.3.4")
    public.yoshi.done("vm", "attach", "web-1", "--public-ip", "1.2.3.4", "--public-network", "two")
    of_two = f"1.2.3.4 belongs to network {public.namespace}/two"
    assert of_two in public.yoshi.refused("vm", "attach", "web-2", "--public-ip", "1.2.3.4", "--public-network", "one")
    said = public.yoshi.refused("vm", "attach", "web-2", "--public-ip", "203.0.113.9", "--public-network", "one")
    assert f"203.0.113.9 belongs to network {public.namespace}/two" in said
    said = public.yoshi.refused("network", "create", "three", "--plugin", "public", "--cidr", "1.2.3.0/24", *BGP)
    assert f"1.2.3.0/24 overlaps network {public.namespace}/two, which has 1.2.3.4" in said
    asking = vm_with("web-3", README_PUBLIC_IP.replace("1.2.3.4", "1.2.3.5"))
    public.cluster.kubectl("-n", public.namespace, "apply", "-f", "-", input=asking)
    said = public.yoshi.run("sync").err
    assert f"networks {several} all contain 1.2.3.5" in said
