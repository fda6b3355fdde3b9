"""Public networks and addresses on a real API server: created objects, preserved foreign ones, and nothing left.

The API server has the custom resources of Calico and MetalLB, but not their programs: whether an address is announced,
tests/e2e/test_public.py shows.

| announced by | what is made | beside objects of others |
|---|---|---|
| calico-bgp, in both API groups | peers, asNumber, list entries, Services | three entries in each list, an ASN, peers |
| metallb-l2, metallb-bgp | pool, advertisement, peers, Services | pools, peers |
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.errors import LabError
from lab.testing import Cluster
from tests.cluster.harness import get, make
from tests.cluster.legacy_fixtures import README_PUBLIC
from tests.cluster.public_scene import BGP, PublicScene, version
from tests.waiting import wait_for

pytestmark = [pytest.mark.I6, pytest.mark.I8]

Json = dict[str, Any]

FOREIGN = ["198.18.1.0/32", "198.18.0.0/30", "198.18.2.7/32"]
LISTS = ("serviceLoadBalancerIPs", "serviceExternalIPs", "serviceClusterIPs")


def test_foreign_bgp_entries_keep_their_order_and_own_entries_are_removed(public_scene: PublicScene) -> None:
    spec = {"asNumber": 64514, "nodeToNodeMeshEnabled": True, **{f: [{"cidr": c} for c in FOREIGN] for f in LISTS}}
    before = public_scene.calico("BGPConfiguration", "default", spec)
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public_scene.vms("web-1", "web-2", "web-3")
    public_scene.yoshi.done("vm", "attach", "web-1", "web-2", "web-3", "--public-network", "pub")
    ours = [f"203.0.113.{n}/32" for n in (1, 2, 3)]
    assert public_scene.listed()[:3] == FOREIGN
    assert sorted(public_scene.listed()[3:]) == ours
    assert [public_scene.listed(name) for name in LISTS[1:]] == [FOREIGN, FOREIGN]

    public_scene.yoshi.done("vm", "detach", "web-2", "--public-network", "pub")
    assert public_scene.listed()[:3] == FOREIGN
    assert sorted(public_scene.listed()[3:]) == [ours[0], ours[2]]
    public_scene.yoshi.done("vm", "detach", "web-1", "web-3", "--network", "pub")
    public_scene.yoshi.done("network", "delete", "pub")

    after = public_scene.configuration()
    assert after is not None
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("annotations")
    assert public_scene.peers() == []
    assert public_scene.services() == []


def test_network_create_creates_exactly_these_objects(public_scene: PublicScene) -> None:
    peers = ("--peer", "10.240.0.5,reachableBy=10.240.0.1", "--peer", "2001:db8::5,passwordSecret=router")
    asns = ("--my-asn", "64514", "--remote-asn", "64512")
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *peers, *asns)
    assert {peer["metadata"]["name"]: peer["spec"] for peer in public_scene.peers()} == {
        "yoshi-10.240.0.5": {"peerIP": "10.240.0.5", "asNumber": 64512, "reachableBy": "10.240.0.1"},
        "yoshi-2001-0db8-0000-0000-0000-0000-0000-0005": {
            "peerIP": "2001:db8::5",
            "asNumber": 64512,
            "password": {"secretKeyRef": {"name": "router", "key": "password"}},
        },
    }
    public_scene.vms("web")
    out = public_scene.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--port", "22/tcp,5000-5001/udp")
    assert out == "virtualmachine.kubevirt.io/web attached to pub: 203.0.113.1\n"
    configuration = public_scene.configuration()
    assert configuration is not None
    assert configuration["spec"]["asNumber"] == 64514
    assert configuration["spec"]["serviceLoadBalancerIPs"] == [{"cidr": "203.0.113.1/32"}]
    [service] = public_scene.services()
    uid = public_scene.vm("web")["metadata"]["uid"]
    [owner] = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("VirtualMachine", "web", uid)
    told = service["spec"]
    wanted = {
        "type": "LoadBalancer",
        "loadBalancerClass": "plumber.k8s.pf9.io/yoshi",
        "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": False,
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "selector": {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "web"},
    }
    assert {key: told[key] for key in wanted} == wanted
    assert [(p["port"], p["protocol"]) for p in told["ports"]] == [(22, "TCP"), (5000, "UDP"), (5001, "UDP")]
    assert not any("nodePort" in port for port in told["ports"])
    assert [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]] == ["203.0.113.1"]
    assert public_scene.vm("web")["metadata"]["annotations"] == {
        "plumber.k8s.pf9.io/publicNetwork": "pub",
        "plumber.k8s.pf9.io/publicIP": "203.0.113.1",
        "plumber.k8s.pf9.io/publicPorts": "22/tcp,5000-5001/udp",
    }
    versions = [service["metadata"]["resourceVersion"], configuration["metadata"]["resourceVersion"]]
    again = public_scene.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    assert again.endswith("203.0.113.1 (unchanged)\n")
    assert [
        public_scene.services()[0]["metadata"]["resourceVersion"],
        version(public_scene.configuration()),
    ] == versions
    public_scene.yoshi.done("network", "delete", "pub", "--force", "--yes")
    assert (public_scene.configuration(), public_scene.peers(), public_scene.services()) == (None, [], [])
    assert not public_scene.vm("web")["metadata"].get("annotations")


def test_conflicting_asn_is_refused_with_both_numbers_and_nothing_is_created(public_scene: PublicScene) -> None:
    before = public_scene.calico("BGPConfiguration", "default", {"asNumber": 64999})
    said = public_scene.yoshi.refused(
        "network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP
    )
    assert "64999" in said
    assert "64514" in said
    assert public_scene.configuration() == before
    assert public_scene.peers() == []
    assert get(public_scene.cluster, "networkwizards", namespace=public_scene.namespace)["items"] == []


def test_asn_is_set_if_absent_and_removed_with_the_last_network(public_scene: PublicScene) -> None:
    before = public_scene.calico("BGPConfiguration", "default", {"nodeToNodeMeshEnabled": True})
    for name, cidr in (("one", "203.0.113.0/28"), ("two", "203.0.113.16/28")):
        public_scene.yoshi.done("network", "create", name, "--plugin", "public", "--cidr", cidr, *BGP)
    assert len(public_scene.peers()) == 1  # they share the router
    public_scene.yoshi.done("network", "delete", "one")
    configuration = public_scene.configuration()
    assert configuration is not None
    assert configuration["spec"]["asNumber"] == 64514
    assert len(public_scene.peers()) == 1
    public_scene.yoshi.done("network", "delete", "two")
    after = public_scene.configuration()
    assert after is not None
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("annotations")
    assert public_scene.peers() == []


def test_asn_above_the_calico_limit_is_refused_with_the_limit(public_scene: PublicScene) -> None:
    said = public_scene.yoshi.refused(
        "network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28",
        "--peer", "10.240.0.5", "--my-asn", "4200000001", "--remote-asn", "64512",
    )  # fmt: skip
    assert "2147483647" in said
    assert "4200000001" in said


def test_foreign_peer_with_the_same_settings_is_reused_and_kept(public_scene: PublicScene) -> None:
    theirs = public_scene.calico("BGPPeer", "rack-1", {"peerIP": "10.240.0.5", "asNumber": 64512})
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    assert public_scene.peers() == [theirs]
    public_scene.yoshi.done("network", "delete", "pub")
    assert public_scene.peers() == [theirs]


def test_foreign_peer_with_other_settings_is_a_conflict(public_scene: PublicScene) -> None:
    theirs = public_scene.calico("BGPPeer", "rack-1", {"peerIP": "10.240.0.5:179", "asNumber": 65000})
    said = public_scene.yoshi.refused(
        "network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP
    )
    assert "bgppeer/rack-1" in said
    assert "65000" in said
    assert public_scene.peers() == [theirs]


def test_legacy_readme_network_is_accepted_unchanged(public_scene: PublicScene) -> None:
    public_scene.yoshi.done("network", "create", "-f", "-", input=README_PUBLIC)
    assert [peer["spec"]["peerIP"] for peer in public_scene.peers()] == ["10.240.0.4", "10.240.0.5"]
    public_scene.vms("web")
    assert "207.97.241.193" in public_scene.yoshi.done("vm", "attach", "web", "--public-network", "publicnetwork")


def test_foreign_entry_covering_the_cidr_is_reported(public_scene: PublicScene) -> None:
    spec = {"asNumber": 64514, "serviceLoadBalancerIPs": [{"cidr": "203.0.113.0/24"}]}
    public_scene.calico("BGPConfiguration", "default", spec)
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public_scene.vms("web")
    ran = public_scene.yoshi.run("vm", "attach", "web", "--public-network", "pub")
    assert ran.code == 0
    assert "every node announces 203.0.113.0/24" in ran.err
    assert "serviceLoadBalancerAggregation: Disabled" in ran.err
    assert public_scene.listed() == ["203.0.113.0/24", "203.0.113.1/32"]


def test_existing_bgp_entry_is_not_removed(public_scene: PublicScene) -> None:
    public_scene.calico("BGPConfiguration", "default", {"serviceLoadBalancerIPs": [{"cidr": "203.0.113.1/32"}]})
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public_scene.vms("web")
    public_scene.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    assert public_scene.listed() == ["203.0.113.1/32"]
    public_scene.yoshi.done("network", "delete", "pub", "--force", "--yes")
    assert public_scene.listed() == ["203.0.113.1/32"]


def test_external_ips_can_be_used_instead_of_load_balancer_ips(public_scene: PublicScene) -> None:
    args = ("--plugin", "public", "--cidr", "203.0.113.0/28", "--via", "external-ips")
    public_scene.yoshi.done("network", "create", "pub", *args, *BGP)
    public_scene.vms("web")
    public_scene.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    [service] = public_scene.services()
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["externalIPs"] == ["203.0.113.1"]
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert (public_scene.listed("serviceExternalIPs"), public_scene.listed()) == (["203.0.113.1/32"], [])
    public_scene.yoshi.done("vm", "detach", "web", "--public-network", "pub")
    assert (public_scene.listed("serviceExternalIPs"), public_scene.services()) == ([], [])


def no_external_ips(namespace: str) -> list[Json]:
    """What of a cluster forbids externalIPs in a namespace, as many do since CVE-2020-8554."""
    name, group = f"no-external-ips-{namespace}", "admissionregistration.k8s.io"
    services = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["services"]}
    rule = {"expression": "!has(object.spec.externalIPs)", "message": "externalIPs are not allowed in this cluster"}
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    policy = {"matchConstraints": {"resourceRules": [services]}, "validations": [rule]}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": there}
    kinds = {"ValidatingAdmissionPolicy": policy, "ValidatingAdmissionPolicyBinding": binding}
    return [
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, spec in kinds.items()
    ]


def is_taken(cluster: Cluster, obj: Json) -> bool:
    """Whether the API server would create an object."""
    try:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(obj))
    except LabError:
        return False
    return True


def test_external_ips_forbidden_by_the_cluster_are_refused_and_leave_nothing(public_scene: PublicScene) -> None:
    policy = no_external_ips(public_scene.namespace)
    make(public_scene.cluster, *policy)
    try:
        probe: Json = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "probe", "namespace": public_scene.namespace},
        }
        probe["spec"] = {"ports": [{"port": 80}], "externalIPs": ["198.18.1.1"]}
        wait_for(lambda: not is_taken(public_scene.cluster, probe), "the policy is kept to")
        args = ("--plugin", "public", "--cidr", "203.0.113.0/28", "--via", "external-ips")
        public_scene.yoshi.done("network", "create", "pub", *args, *BGP)
        public_scene.vms("web")
        before = public_scene.vm("web")["spec"]
        said = public_scene.yoshi.refused("vm", "attach", "web", "--public-network", "pub")
        assert "externalIPs are not allowed in this cluster" in said
        assert "create the network without --via external-ips" in said
        assert (public_scene.records("pub"), public_scene.services(), public_scene.listed("serviceExternalIPs")) == (
            {},
            [],
            [],
        )
        assert public_scene.vm("web")["spec"] == before
        assert not public_scene.vm("web")["metadata"].get("annotations")
    finally:
        names = [f"{obj['kind'].lower()}/{obj['metadata']['name']}" for obj in policy]
        public_scene.cluster.kubectl("delete", *names)


def test_deleted_vm_leaves_nothing_after_gc(public_scene: PublicScene) -> None:
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public_scene.vms("web-1", "web-2")
    public_scene.yoshi.done("vm", "attach", "web-1", "web-2", "--public-network", "pub")
    public_scene.cluster.kubectl("-n", public_scene.namespace, "delete", "vm", "web-1")
    public_scene.cluster.kubectl(
        "-n", public_scene.namespace, "wait", "--for=delete", "--timeout=60s", "services",
        "-l", "plumber.k8s.pf9.io/networkUID", "--field-selector", f"metadata.name={service_of(public_scene, 'web-1')}",
    )  # fmt: skip
    public_scene.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert [record["name"] for record in public_scene.records("pub").values()] == ["web-2"]
    assert public_scene.listed() == [f"{next(iter(public_scene.records('pub')))}/32"]


def test_gc_deletes_a_service_created_after_its_allocation_was_released(public: PublicScene) -> None:
    """A run that was slow or killed may make it so late; gc sees that no record speaks for it."""
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public.vms("web-1", "web-2")
    public.yoshi.done("vm", "attach", "web-1", "web-2", "--public-network", "pub")
    late = next(s for s in public.services() if s["metadata"]["ownerReferences"][0]["name"] == "web-1")
    public.yoshi.done("vm", "detach", "web-1", "--public-network", "pub")
    for key in ("uid", "resourceVersion", "creationTimestamp"):
        del late["metadata"][key]
    del late["status"]
    make(public.cluster, late)
    assert late["metadata"]["name"] in public.yoshi.done("ips", "check", code=1)
    public.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert [s["metadata"]["ownerReferences"][0]["name"] for s in public.services()] == ["web-2"]
    assert [record["name"] for record in public.records("pub").values()] == ["web-2"]
    assert public.listed() == [f"{next(iter(public.records('pub')))}/32"]


def service_of(public_scene: PublicScene, name: str) -> str:
    """The name of a VM's Service, or of none once it is gone."""
    for service in public_scene.services():
        if any(owner["name"] == name for owner in service["metadata"].get("ownerReferences", [])):
            return str(service["metadata"]["name"])
    return "gone"


def test_network_deleted_with_kubectl_leaves_nothing_after_gc(public_scene: PublicScene) -> None:
    public_scene.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    public_scene.vms("web")
    public_scene.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    public_scene.cluster.kubectl("-n", public_scene.namespace, "delete", "networkwizard", "pub")
    public_scene.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert (public_scene.configuration(), public_scene.peers(), public_scene.services()) == (None, [], [])
