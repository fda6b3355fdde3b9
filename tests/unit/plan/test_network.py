"""Creating and deleting networks on a small cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.ownership import NETWORK_ANNOTATION, NETWORK_UID_ANNOTATION
from kubectl_yoshi.kube.errors import ApiError
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, REQUIRES_ANNOTATION, parse_network
from kubectl_yoshi.model.objects import NODE, Json, ObjectRef, Resource, dig
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import POD, VM, VMI
from kubectl_yoshi.plan.network.planner import default_plugin
from kubectl_yoshi.plan.network.status import READY
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import BACKENDS, SERVICECIDR, FakeCluster, refusal, wizard
from tests.unit.plan.test_layer2 import spec_of

BLUE = NETWORKWIZARD.ref("blue", "prod")
POOL = RAW.pool.ref("prod.blue")


@pytest.fixture
def empty() -> FakeCluster:
    """A cluster without networks."""
    return FakeCluster()


def status(cluster: FakeCluster, name: str = "blue") -> Json:
    found: Json = cluster.api.get(NETWORKWIZARD.ref(name, "prod"))["status"]
    return found


def ready(cluster: FakeCluster, name: str = "blue") -> Json:
    (condition,) = [one for one in status(cluster, name)["conditions"] if one["type"] == READY]
    return condition  # type: ignore[no-any-return]


def pool(name: str, cidr: str, **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"cidr": cidr, **spec}}


def before(cluster: FakeCluster, verb: str, kind: str, happens: Callable[[], Any]) -> None:
    """Lets something happen right before the first request of that verb on that kind."""

    def look(asked: str, ref: ObjectRef) -> None:
        if asked == verb and ref.resource.kind == kind and look in cluster.api.before:
            cluster.api.before.remove(look)
            happens()

    cluster.api.before.append(look)


def after(cluster: FakeCluster, verb: str, kind: str, happens: Callable[[], Any]) -> None:
    """Lets something happen right before the first request that comes after one of that verb on that kind."""
    before(cluster, verb, kind, lambda: cluster.api.before.append(later))

    def later(_asked: str, ref: ObjectRef) -> None:
        if cluster.api.look(BLUE) is not None and later in cluster.api.before:
            cluster.api.before.remove(later)
            happens()


# -- making ---------------------------------------------------------------------------------------------------------


def test_network_create_creates_pool_and_status(empty: FakeCluster) -> None:
    done = empty.make_network("blue", "10.133.0.0/24")
    assert not done.errors
    made = empty.api.get(POOL)
    assert made["spec"]["cidr"] == "10.133.0.0/24"
    assert made["metadata"]["annotations"] == {
        NETWORK_ANNOTATION: "prod/blue",
        NETWORK_UID_ANNOTATION: empty.api.get(BLUE)["metadata"]["uid"],
    }
    assert (status(empty)["created"], status(empty)["reason"]) == (True, "")
    assert [status(empty)[counter] for counter in ("size", "used", "free", "usePercent")] == [254, 0, 254, 0]
    assert (ready(empty)["status"], ready(empty)["reason"], ready(empty)["message"]) == ("True", "Made", "")
    assert status(empty)["observedGeneration"] == 1


def test_network_create_is_idempotent(empty: FakeCluster) -> None:
    empty.make_network("blue", "10.133.0.0/24")
    empty.api.writes.clear()
    assert not empty.make_network("blue", "10.133.0.0/24").has_changed()
    assert not empty.sync_network().has_changed()
    assert empty.api.writes == []


def test_host_bits_of_the_cidr_are_dropped_with_a_note(empty: FakeCluster) -> None:
    done = empty.make_network("blue", "10.133.0.7/24")
    assert any("10.133.0.7/24 has host bits; the network is 10.133.0.0/24" in note for note in done.notes)
    assert empty.api.get(POOL)["spec"]["cidr"] == "10.133.0.0/24"
    assert not empty.make_network("blue", "10.133.0.0/24").has_changed()


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"cidr": "10.134.0.0/24"}, "cidr"),
        ({"range_start": "10.133.0.9"}, "range_start"),
        ({"calico": {"blockSize": 28}}, "calico.blockSize"),
    ],
)
def test_existing_network_with_another_spec_is_refused(cluster: FakeCluster, spec: dict[str, Any], key: str) -> None:
    with pytest.raises(PreconditionFailed, match=f"network prod/blue exists already, with another {key}: "):
        cluster.make_network("blue", **{"cidr": "10.133.0.0/24", **spec})
    assert not cluster.sync_network().has_changed()


def test_sync_of_a_missing_network_is_refused(empty: FakeCluster) -> None:
    with pytest.raises(PreconditionFailed, match='network "blue" not found'):
        empty.sync_network()


@pytest.mark.parametrize("dry_run", ["client", "server"])
def test_dry_run_shows_network_and_pool_and_creates_neither(empty: FakeCluster, dry_run: str) -> None:
    from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network

    request = NetworkRequest("prod", "blue", wizard("blue", "10.133.0.0/24"))
    done = empty.run(plan_network, request, dry_run=dry_run)
    assert [change.ref for change in done.plan] == [BLUE, POOL]
    assert empty.api.writes == []


# -- what stands in the way -----------------------------------------------------------------------------------------


IN_THE_WAY: list[tuple[str, Resource, Json, str]] = [
    ("a network", NETWORKWIZARD, wizard("red", "10.133.128.0/17", "dev"), r"network dev/red \(10.133.128.0/17\)"),
    ("a pool", RAW.pool, pool("default-ipv4", "10.128.0.0/9"), r"ippool/default-ipv4 \(10.128.0.0/9\)"),
    (
        "a ServiceCIDR",
        SERVICECIDR,
        {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["fd00::/108", "10.133.9.0/24"]}},
        r"servicecidr/kubernetes \(10.133.9.0/24\)",
    ),
    (
        "a node's pod CIDR",
        NODE,
        {"metadata": {"name": "node1"}, "spec": {"podCIDR": "10.133.7.0/24"}},
        r"the pod CIDR of node/node1 \(10.133.7.0/24\)",
    ),
    (
        "a node's second pod CIDR",
        NODE,
        {"metadata": {"name": "node1"}, "spec": {"podCIDR": "fd00::/64", "podCIDRs": ["fd00::/64", "10.133.7.0/24"]}},
        r"the pod CIDR of node/node1 \(10.133.7.0/24\)",
    ),
    (
        "a node's address",
        NODE,
        {
            "metadata": {"name": "node1"},
            "status": {
                "addresses": [{"type": "Hostname", "address": "node1"}, {"type": "InternalIP", "address": "10.133.0.5"}]
            },
        },
        r"the address of node/node1 \(10.133.0.5/32\)",
    ),
]


@pytest.mark.parametrize(("what", "resource", "obj", "named"), IN_THE_WAY, ids=[row[0] for row in IN_THE_WAY])
def test_overlap_is_named_and_nothing_is_created(
    empty: FakeCluster, what: str, resource: Resource, obj: Json, named: str
) -> None:
    empty.api.put(resource, obj)
    with pytest.raises(
        PreconditionFailed, match=f"network prod/blue cannot be created: 10.133.0.0/16 overlaps {named}"
    ):
        empty.make_network("blue", "10.133.0.0/16")
    assert empty.api.writes == []


def test_disjoint_networks_are_no_conflict(empty: FakeCluster) -> None:
    for _, resource, obj, _ in IN_THE_WAY:
        empty.api.put(resource, obj)
    assert not empty.make_network("blue", "172.16.0.0/16").errors


@pytest.mark.parametrize(
    "cidr", ["127.0.0.0/16", "169.254.7.0/24", "224.1.0.0/16", "fe80::/64", "ff05::/64", "0.1.0.0/16"]
)
def test_special_purpose_cidrs_are_refused(empty: FakeCluster, cidr: str) -> None:
    with pytest.raises(PreconditionFailed, match="overlaps"):
        empty.make_network("blue", cidr)
    assert empty.api.writes == []


def test_foreign_pool_of_the_same_name_is_a_conflict(empty: FakeCluster) -> None:
    empty.api.put(RAW.pool, pool("prod.blue", "10.133.0.0/24"))
    with pytest.raises(PreconditionFailed, match=r"ippool/prod\.blue exists and was not created for this network"):
        empty.make_network("blue", "10.133.0.0/24")
    assert empty.api.writes == []


def test_recreated_network_takes_over_its_earlier_pool(cluster: FakeCluster) -> None:
    """As a restore leaves it: the network has another uid, and VMs run with addresses of the pool."""
    cluster.running(pin="10.133.0.10")
    before = cluster.api.get(RAW.pool.ref("prod.blue"))
    cluster.api.drop(BLUE)
    done = cluster.make_network("blue", "10.133.0.0/24")
    assert not done.errors
    after = cluster.api.get(RAW.pool.ref("prod.blue"))
    assert after["metadata"]["annotations"]["plumber.k8s.pf9.io/networkUID"] == cluster.api.get(BLUE)["metadata"]["uid"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]


def test_earlier_pool_with_another_cidr_is_a_conflict(cluster: FakeCluster) -> None:
    cluster.api.drop(BLUE)
    with pytest.raises(PreconditionFailed, match=r"ippool/prod\.blue exists and was not created for this network"):
        cluster.make_network("blue", "10.134.0.0/24")


def test_legacy_pool_is_used(empty: FakeCluster) -> None:
    empty.api.put(RAW.pool, pool("blue", "10.133.0.0/24", assignmentMode="Automatic"))
    done = empty.make_network("blue", "10.133.0.0/24")
    assert not done.errors
    assert empty.api.look(POOL) is None
    assert any("ippool/blue of Platform9 yoshi is used unchanged" in note for note in done.notes)
    assert ready(empty)["status"] == "True"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"cidr": "10.133.0.0/24", "calico": {"blockSize": 23}}, "block size of 23"),
        ({"cidr": "10.133.0.0/24", "calico": {"blockSize": 33}}, "block size of 33"),
        ({"cidr": "10.133.0.0/24", "calico": {"blockSize": "wide"}}, "block size of wide"),
        ({"cidr": "10.133.0.0/24", "calico": {"encapsulation": "GRE"}}, '"GRE" is unknown'),
        ({"cidr": "fd00::/64", "calico": {"encapsulation": "IPIP"}}, "IPIP does not support IPv6"),
        ({"cidr": "10.133.0.0/24", "calico": {"liveMigration": True, "natOutgoing": True}}, "live migration"),
        ({"cidr": "10.133.0.0/24", "calico": {"liveMigration": True, "encapsulation": "VXLAN"}}, "live migration"),
        ({"cidr": "10.133.0.0"}, "cidr"),
        ({"cidr": ""}, "needs a cidr"),
    ],
)
def test_settings_unsupported_by_calico_are_usage_errors(empty: FakeCluster, spec: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        empty.make_network("blue", **spec)
    assert empty.api.writes == []


def test_missing_calico_apis_are_named(empty: FakeCluster) -> None:
    empty.api.served = served([NETWORKWIZARD, ADDRESSBLOCK, NODE])
    with pytest.raises(PreconditionFailed, match=r"looked for Calico's IPPools") as refused:
        empty.make_network("blue", "10.133.0.0/24")
    assert "Install" in refused.value.hint
    with pytest.raises(PreconditionFailed, match=r"looked for calico: Calico's IPPools"):
        default_plugin(BACKENDS, Snapshot(empty.api.served))


def test_installed_plugin_is_the_default(empty: FakeCluster) -> None:
    assert default_plugin(BACKENDS, Snapshot(empty.api.served)) == "calico"


# -- two at the same time -------------------------------------------------------------------------------------------

UIDS = {"younger uid": "uid-{:05}".format, "older uid": lambda number: f"uid-{99999 - number}"}


def works(cluster: FakeCluster) -> list[str]:
    """The networks that say that they are ready; each has its pool, and every pool has its network."""
    networks = cluster.api.every(NETWORKWIZARD)
    pools = {dig(one, "metadata", "annotations", NETWORK_UID_ANNOTATION): one for one in cluster.api.every(RAW.pool)}
    assert set(pools) == {one["metadata"]["uid"] for one in networks}
    return [one["metadata"]["name"] for one in networks if dig(one, "status", "created")]


@pytest.mark.parametrize("uid", UIDS.values(), ids=UIDS)
@pytest.mark.parametrize("moment", [("create", "IPPool"), ("patch", "NetworkWizard")], ids=["pool", "status"])
def test_overlapping_networks_created_at_the_same_moment_leave_at_most_one(
    empty: FakeCluster, uid: Callable[[int], str], moment: tuple[str, str]
) -> None:
    empty.api.uid = uid
    outcomes: list[Any] = []

    def other() -> None:
        try:
            outcomes.append(empty.make_network("red", "10.133.0.0/25").errors)
        except PreconditionFailed as refused:
            outcomes.append({"prod/red": refused})

    before(empty, *moment, other)
    try:
        outcomes.append(empty.make_network("blue", "10.133.0.0/24").errors)
    except PreconditionFailed as refused:
        outcomes.append({"prod/blue": refused})
    made = works(empty)
    assert len(made) == 1
    refused = {owner for outcome in outcomes for owner in outcome}
    assert {f"prod/{name}" for name in made} | refused == {"prod/red", "prod/blue"}


@pytest.mark.parametrize("seed", range(12))
def test_overlapping_networks_created_concurrently_leave_no_two(empty: FakeCluster, seed: int) -> None:
    cidrs = {"red": "10.133.0.0/25", "blue": "10.133.0.0/24", "green": "10.133.0.0/16"}
    makers = [lambda mine, name=name, cidr=cidr: mine.make_network(name, cidr) for name, cidr in cidrs.items()]
    outcomes = dict(zip(cidrs, empty.run_concurrently(*makers, seed=seed), strict=True))
    made = works(empty)
    assert len(made) <= 1
    refused = {name for name, outcome in outcomes.items() if isinstance(outcome, PreconditionFailed) or outcome.errors}
    assert {*made} | refused == {*cidrs}
    assert not {*made} & refused


def test_younger_of_two_overlapping_networks_is_rolled_back(empty: FakeCluster) -> None:
    """The other one was there first, though this run had not seen it yet."""
    red = wizard("red", "10.133.0.0/25")
    red["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    before(empty, "create", "NetworkWizard", lambda: empty.api.put(NETWORKWIZARD, red))
    with pytest.raises(PreconditionFailed, match="overlaps network prod/red"):
        empty.make_network("blue", "10.133.0.0/24")
    assert empty.api.look(BLUE) is None
    assert empty.api.every(RAW.pool) == []


def test_older_of_two_overlapping_networks_is_created(empty: FakeCluster) -> None:
    red = wizard("red", "10.133.0.0/25")
    red["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
    before(empty, "create", "IPPool", lambda: empty.api.put(NETWORKWIZARD, red))
    assert not empty.make_network("blue", "10.133.0.0/24").errors
    assert status(empty)["created"]


def test_pool_created_concurrently_is_not_changed(empty: FakeCluster) -> None:
    before(empty, "create", "IPPool", lambda: empty.api.put(RAW.pool, pool("prod.blue", "10.133.0.0/24")))
    with pytest.raises(PreconditionFailed, match="was not created for this network"):
        empty.make_network("blue", "10.133.0.0/24")
    assert empty.api.look(BLUE) is None
    assert empty.api.get(POOL)["spec"] == {"cidr": "10.133.0.0/24"}


# -- when something fails -------------------------------------------------------------------------------------------


def test_network_is_rolled_back_if_its_pool_is_forbidden(empty: FakeCluster) -> None:
    empty.api.refuse("create", RAW.pool)
    refused = refusal(empty.make_network("blue", "10.133.0.0/24"), "prod/blue")
    assert isinstance(refused, ApiError)
    assert "may not create ippools" in refused.message
    assert empty.api.look(BLUE) is None


def test_network_and_pool_are_rolled_back_if_the_status_is_forbidden(empty: FakeCluster) -> None:
    empty.api.refuse("patch", NETWORKWIZARD)
    assert "may not patch" in refusal(empty.make_network("blue", "10.133.0.0/24"), "prod/blue").message
    assert empty.api.look(BLUE) is None
    assert empty.api.look(POOL) is None


def test_unknown_field_is_refused_before_any_write(empty: FakeCluster) -> None:
    empty.api.unknown_fields = ("gatway",)
    done = empty.make_network("blue", "10.133.0.0/24", gatway="10.133.0.1")
    said = str(refusal(done, "prod/blue"))
    assert 'unknown field "spec.gatway"' in said
    assert "kubectl explain networkwizards.spec" in said
    assert empty.api.writes == []


def test_network_stored_with_another_spec_is_rolled_back(empty: FakeCluster) -> None:
    def other_range() -> None:
        empty.api.change(BLUE, lambda obj: obj["spec"].update(gateway="10.133.0.9"))

    after(empty, "create", "NetworkWizard", other_range)
    with pytest.raises(
        PreconditionFailed, match=r"not stored as requested: gateway is 10.133.0.9 instead of 10.133.0.1"
    ):
        empty.make_network("blue", "10.133.0.0/24", gateway="10.133.0.1")
    assert (empty.networks(), empty.api.every(RAW.pool)) == ([], [])


def test_network_stored_with_an_invalid_spec_is_rolled_back(empty: FakeCluster) -> None:
    def nonsense() -> None:
        empty.api.change(BLUE, lambda obj: obj["spec"].update(exclude=["nonsense"]))

    after(empty, "create", "NetworkWizard", nonsense)
    with pytest.raises(PreconditionFailed, match=r"not stored as requested: .*nonsense"):
        empty.make_network("blue", "10.133.0.0/24")
    assert (empty.networks(), empty.api.every(RAW.pool)) == ([], [])


def test_network_with_a_forbidden_pool_is_kept_once_it_has_allocations(empty: FakeCluster) -> None:
    empty.vm("old", pin="10.133.0.9")  # so that the network is open before its pool is made
    empty.vm("new")

    def meanwhile() -> None:
        empty.attach("new")
        empty.api.refuse("create", RAW.pool)

    before(empty, "create", "IPPool", meanwhile)
    done = empty.make_network("blue", "10.133.0.0/24")
    assert "may not create ippools" in refusal(done, "prod/blue").message
    assert "network prod/blue is kept, although it is not ready: prod/new has 10.133.0.1 now" in done.notes
    assert empty.holders() == {"10.133.0.9": "prod/old", "10.133.0.1": "prod/new"}
    assert (status(empty)["created"], "may not create ippools" in status(empty)["reason"]) == (False, True)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_rollback_of_a_network_never_removes_an_allocation(empty: FakeCluster, cidr: str, late: bool) -> None:
    """It was made, and open, when an older one was seen that overlaps it."""
    red = {**wizard("red", "10.133.0.0/25"), "status": {"created": True}}
    red["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    empty.vm()
    mine = empty.second_client(1)

    def look(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", NETWORKWIZARD) and dig(empty.api.look(BLUE), "status", "created"):
            mine.api.before.remove(look)
            empty.api.put(NETWORKWIZARD, red)
            if late:
                before(mine, "delete", "NetworkWizard", attach)
            else:
                attach()

    def attach() -> None:
        outcomes.append(empty.attach().errors)

    outcomes: list[Any] = []
    mine.api.before.append(look)
    try:
        refused = refusal(mine.make_network("blue", cidr), "prod/blue")
    except PreconditionFailed as error:
        refused = error
    assert "overlaps network prod/red" in refused.message
    assert len(outcomes) == 1
    assert bool(empty.pin()) == ("blue" in empty.networks()) == (not outcomes[0])
    if empty.pin():
        assert empty.holders() == {empty.pin(): "prod/web-1"}
        assert (status(empty)["created"], "deleting" in status(empty)) == (False, False)


@pytest.mark.parametrize("verb", ["get", "list"])
@pytest.mark.parametrize("resource", [ADDRESSBLOCK, VM, VMI, POD, RAW.block, RAW.handle, RAW.config, RAW.information])
def test_network_create_terminates_with_any_unreadable_kind(empty: FakeCluster, resource: Resource, verb: str) -> None:
    empty.vm(pin="10.133.0.9")
    empty.api.refuse(verb, resource)
    try:
        made = not empty.make_network("blue", "10.133.0.0/16").errors
    except PreconditionFailed:
        made = False
    assert made == ("blue" in empty.networks())
    assert empty.api.tried["create", NETWORKWIZARD.plural] <= 1


def test_forbidden_rollback_is_not_retried_forever(empty: FakeCluster) -> None:
    empty.api.refuse("create", RAW.pool)
    empty.api.refuse("delete", NETWORKWIZARD)
    done = empty.make_network("blue", "10.133.0.0/24")
    assert done.errors
    assert empty.api.tried[("delete", "networkwizards")] < 50


def test_failing_network_created_with_kubectl_has_the_reason_in_its_status(
    empty: FakeCluster,
) -> None:
    empty.api.put(NETWORKWIZARD, wizard("blue", "10.133.0.0/24"))
    empty.api.put(RAW.pool, pool("other", "10.133.0.0/16"))
    assert "overlaps ippool/other" in refusal(empty.sync_network(), "prod/blue").message
    assert status(empty)["created"] is False
    assert "overlaps ippool/other" in status(empty)["reason"]
    assert (ready(empty)["status"], ready(empty)["reason"]) == ("False", "NotReady")
    assert "overlaps ippool/other" in ready(empty)["message"]


def test_status_reason_is_removed_with_its_cause(empty: FakeCluster) -> None:
    empty.api.put(NETWORKWIZARD, wizard("blue", "10.133.0.0/24"))
    empty.api.put(RAW.pool, pool("other", "10.133.0.0/16"))
    empty.sync_network()
    empty.api.drop(RAW.pool.ref("other"))
    assert not empty.sync_network().errors
    assert (status(empty)["created"], status(empty)["reason"]) == (True, "")
    assert (ready(empty)["status"], ready(empty)["message"]) == ("True", "")


def test_forbidden_pool_is_the_status_reason(empty: FakeCluster) -> None:
    empty.api.put(NETWORKWIZARD, wizard("blue", "10.133.0.0/24"))
    empty.api.refuse("create", RAW.pool)
    assert "may not create ippools" in refusal(empty.sync_network(), "prod/blue").message
    assert "may not create ippools" in status(empty)["reason"]
    assert ready(empty)["status"] == "False"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"), "is being deleted"),
        (
            lambda obj: obj.update(
                status={"conditions": [{"type": "Allocatable", "status": "False", "message": "CIDR overlaps"}]}
            ),
            "is not allocatable: CIDR overlaps",
        ),
    ],
)
def test_unhealthy_pool_is_the_status_reason(cluster: FakeCluster, change: Callable[[Json], None], reason: str) -> None:
    cluster.api.change(POOL, change)
    cluster.sync_network()
    assert reason in status(cluster)["reason"]
    assert ready(cluster)["status"] == "False"


def test_changed_or_deleted_pool_is_repaired(cluster: FakeCluster) -> None:
    wanted = cluster.api.get(POOL)["spec"]
    cluster.api.change(POOL, lambda obj: obj["spec"].update(natOutgoing=False, disabled=True, theirs=1))
    assert cluster.sync_network().has_changed()
    assert cluster.api.get(POOL)["spec"] == {**wanted, "theirs": 1}
    cluster.api.drop(POOL)
    cluster.sync_network()
    assert cluster.api.get(POOL)["spec"] == wanted
    assert ready(cluster)["status"] == "True"


def test_last_transition_time_is_kept_while_the_condition_is_unchanged(cluster: FakeCluster) -> None:
    cluster.api.change(POOL, lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    cluster.sync_network()

    def longer_ago(obj: Json) -> None:
        (condition,) = obj["status"]["conditions"]
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z"
        obj["spec"]["theirs"] = 1

    cluster.api.change(BLUE, longer_ago)
    cluster.sync_network()
    assert ready(cluster)["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert ready(cluster)["observedGeneration"] == status(cluster)["observedGeneration"] == 2


def test_foreign_conditions_and_allocations_are_preserved(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    other = {"type": "Theirs", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "t"}
    cluster.api.change(BLUE, lambda obj: obj["status"].update(conditions=[other], theirs=1))
    cluster.sync_network()
    assert other in status(cluster)["conditions"]
    assert ready(cluster)["status"] == "True"
    assert status(cluster)["theirs"] == 1
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_invalid_spec_is_the_status_reason(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(range_start="10.134.0.1"))
    assert isinstance(refusal(cluster.sync_network(), "prod/blue"), UsageError)
    assert "range_start 10.134.0.1 is outside" in status(cluster)["reason"]
    assert ready(cluster)["status"] == "False"


# -- taking away ----------------------------------------------------------------------------------------------------


def test_network_delete_disables_and_deletes_the_pool_first(cluster: FakeCluster) -> None:
    cluster.api.writes.clear()
    assert not cluster.delete_network().errors
    assert cluster.api.every(NETWORKWIZARD) == cluster.api.every(RAW.pool) == []
    writes = [write for write in cluster.api.writes if not write.endswith("status")]
    assert writes == ["patch ippool/prod.blue", "delete ippool/prod.blue", "delete networkwizard/blue"]


def test_network_delete_of_a_missing_network_is_refused(cluster: FakeCluster) -> None:
    cluster.delete_network()
    with pytest.raises(PreconditionFailed, match='network "blue" not found'):
        cluster.delete_network()


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_network_in_use_is_not_deleted_and_its_allocations_are_listed(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.reserve("10.133.0.10", note="printer")
    with pytest.raises(PreconditionFailed, match="network prod/blue is in use") as refused:
        cluster.delete_network()
    assert "10.133.0.9 prod/web-1, 10.133.0.10 reserved (printer)" in refused.value.message
    assert "--force" in refused.value.hint
    assert cluster.api.look(BLUE)
    assert not cluster.api.get(POOL)["spec"]["disabled"]
    assert ready(cluster)["status"] == "True"


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_forced_deletion_detaches_vms_and_removes_reservations_first(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    for name in ("web-1", "dev/web-2"):
        namespace, _, bare = name.rpartition("/")
        cluster.vm(bare, namespace or "prod")
    cluster.attach("web-1", "dev/web-2")
    cluster.reserve("10.133.0.77")
    assert not cluster.delete_network(force=True).errors
    assert cluster.pin("web-1") == cluster.pin("web-2", "dev") == ""
    for resource in (NETWORKWIZARD, ADDRESSBLOCK, RAW.pool):
        assert cluster.api.every(resource) == []


def test_forced_deletion_keeps_the_network_while_a_vm_runs_with_an_address(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    with pytest.raises(PreconditionFailed, match=r"cannot be deleted yet: 10\.133\.0\.7 stays recorded") as refused:
        cluster.delete_network(force=True)
    assert "--restart" in refused.value.hint
    assert cluster.api.look(BLUE)
    assert cluster.api.look(POOL)
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    assert ready(cluster)["status"] == "True"
    assert "deleting" not in status(cluster)


def test_forced_deletion_with_restart_restarts_vms_without_the_address(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    assert not cluster.delete_network(force=True, restart=True).errors
    cluster.time_passes()
    assert cluster.api.every(NETWORKWIZARD) == cluster.api.every(RAW.pool) == []
    assert cluster.runs_with() not in ("", "10.133.0.7")


def test_pool_with_addresses_in_ipam_is_never_disabled_or_deleted(cluster: FakeCluster) -> None:
    cluster.hold_by_pod("10.133.0.9")
    cluster.api.writes.clear()
    with pytest.raises(PreconditionFailed, match=r"Calico still holds 1 addresses of ippool/prod.blue"):
        cluster.delete_network(force=True)
    assert [write for write in cluster.api.writes if "ippool" in write] == []
    assert cluster.api.look(BLUE)


def test_pool_with_unreadable_blocks_is_kept(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", RAW.block)
    cluster.api.writes.clear()
    with pytest.raises(PreconditionFailed, match=r"cannot check whether ippool/.* is in use"):
        cluster.delete_network()
    assert [write for write in cluster.api.writes if "ippool" in write] == []


def test_network_is_kept_if_deleting_its_pool_is_forbidden(cluster: FakeCluster) -> None:
    cluster.api.refuse("delete", RAW.pool)
    done = cluster.delete_network()
    assert "may not delete ippools" in refusal(done, "prod/blue").message
    assert cluster.api.look(BLUE)
    assert cluster.api.tried[("delete", "ippools")] < 50


def test_foreign_pool_is_kept_by_network_delete(empty: FakeCluster) -> None:
    empty.api.put(RAW.pool, pool("blue", "10.133.0.0/24"))
    empty.make_network("blue", "10.133.0.0/24")
    done = empty.delete_network()
    assert not done.errors
    assert [one["metadata"]["name"] for one in empty.api.every(RAW.pool)] == ["blue"]
    assert any("ippool/blue is kept" in note for note in done.notes)


def test_network_with_an_invalid_spec_can_be_deleted(cluster: FakeCluster) -> None:
    cluster.api.put(NETWORKWIZARD, wizard("broken", "nonsense"))
    assert not cluster.delete_network("broken").errors
    assert cluster.api.look(NETWORKWIZARD.ref("broken", "prod")) is None


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_network_in_use_with_an_invalid_spec_is_not_deleted(empty: FakeCluster, cidr: str) -> None:
    empty.network(cidr=cidr)
    empty.vm()
    empty.attach(ip="10.133.0.9")
    empty.api.change(BLUE, lambda obj: obj["spec"].update(exclude=["10.200.0.0/24"]))
    with pytest.raises(PreconditionFailed, match=r"network prod/blue is in use: 10\.133\.0\.9 prod/web-1"):
        empty.delete_network()
    with pytest.raises(UsageError, match="exclude") as mistake:
        empty.delete_network(force=True)
    assert "kubectl edit networkwizard blue" in mistake.value.hint
    assert empty.holders() == {"10.133.0.9": "prod/web-1"}
    assert empty.pin() == "10.133.0.9"


def test_network_with_unreadable_allocations_is_not_deleted(empty: FakeCluster) -> None:
    empty.network(cidr="10.133.0.0/16")
    empty.vm()
    empty.attach()
    empty.api.refuse("list", ADDRESSBLOCK)
    with pytest.raises(
        PreconditionFailed, match="the allocations of network prod/blue cannot be read: may not list addressblocks"
    ):
        empty.delete_network()
    assert empty.networks() == ["blue"]


@pytest.mark.parametrize(("cidr", "left"), [("10.133.0.0/24", []), ("10.133.0.0/16", ["blue"])])
def test_network_repeatedly_reset_by_others_is_deleted_only_if_small(
    empty: FakeCluster, cidr: str, left: list[str]
) -> None:
    empty.network(cidr=cidr)

    def bring_up(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) == ("get", BLUE) and "deleting" in status(empty):
            empty.api.change(BLUE, lambda obj: obj["status"].pop("deleting"))

    mine = empty.second_client(1)
    mine.api.before.append(bring_up)
    try:
        assert not mine.delete_network().errors
    except PreconditionFailed as refused:
        assert "another client removes the deletion mark as often as it is set" in refused.message
    assert empty.networks() == left
    assert [dig(one, "spec", "disabled") for one in empty.api.every(RAW.pool)] == [False for _ in left]


def test_network_of_a_newer_version_with_an_unreadable_spec_is_not_deleted(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(exclude=["everything"]))
    cluster.api.change(BLUE, lambda obj: obj["metadata"].update(annotations={REQUIRES_ANNOTATION: "99.0.0"}))
    with pytest.raises(PreconditionFailed, match=r"requires kubectl yoshi 99\.0\.0 or later"):
        cluster.delete_network()
    assert cluster.networks() == ["blue"]


def test_vm_attached_during_network_deletion_has_both_network_and_address_or_neither(cluster: FakeCluster) -> None:
    cluster.vm()
    outcomes: list[Any] = []

    def meanwhile() -> None:
        outcomes.append(cluster.attach().errors)

    before(cluster, "patch", "IPPool", meanwhile)
    try:
        cluster.delete_network()
    except PreconditionFailed as refused:
        outcomes.append(refused)
    if cluster.api.look(BLUE):
        assert cluster.holders() == {cluster.pin(): "prod/web-1"}
    else:
        assert cluster.pin() == ""
    cluster.check()


def test_network_changed_during_its_deletion_is_checked_again(cluster: FakeCluster) -> None:
    cluster.vm()

    def meanwhile() -> None:
        cluster.reserve("10.133.0.9")

    before(cluster, "patch", "NetworkWizard", meanwhile)
    with pytest.raises(PreconditionFailed, match=r"is in use: 10\.133\.0\.9 reserved"):
        cluster.delete_network()
    assert cluster.holders() == {"10.133.0.9": "reserved"}
    assert ready(cluster)["status"] == "True"


class Countdown:
    """Does something before the n-th request."""

    def __init__(self, left: int, happens: Callable[[], object]) -> None:
        self.left = left
        self._happens = happens

    def __call__(self, verb: str, ref: ObjectRef) -> None:
        self.left -= 1
        if not self.left:
            with contextlib.suppress(PreconditionFailed):
                self._happens()


@pytest.mark.parametrize("later_is_older", [False, True], ids=["the later one is the younger", "or seems the older"])
def test_overlapping_networks_created_at_any_interleaving_leave_at_most_one(later_is_older: bool) -> None:
    """Whatever their uids say of two that were made in one second, and wherever in the making of the one the other is
    made from its beginning to its end. On bridges of their own there is nothing but the networks to be in the way."""
    apart = 0
    for when in range(1, 60):
        cluster = FakeCluster()
        if later_is_older:
            cluster.api.uid = lambda number: f"uid-{10_000 - number}"
        rival = cluster.second_client(1)
        late = partial(cluster.make_network, "late", "10.133.0.0/25", **spec_of(bridge="br-l", nic="eth2"))
        requests = Countdown(when, late)
        rival.api.before = [requests]
        with contextlib.suppress(PreconditionFailed):
            rival.make_network("blue", "10.133.0.0/24", **spec_of(bridge="br-b", nic="eth1"))
        made = [network for network in map(parse_network, cluster.api.every(NETWORKWIZARD)) if network.is_created]
        assert len(made) <= 1, f"both are made when the second one comes before request {when}"
        apart += requests.left <= 0
    assert apart > 10
