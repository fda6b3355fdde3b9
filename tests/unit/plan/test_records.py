"""Patches of allocations on an API server: no address has two owners, no allocation is lost (I1)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kubectl_yoshi.engine.apply import send_change
from kubectl_yoshi.kube.errors import ApiError, ConflictError, NotFoundError, PatchTestFailedError
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation, Allocations, build_block, shard_of
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot, Unreadable
from kubectl_yoshi.plan.block_maintenance import delete_empty_block, fix_counters
from kubectl_yoshi.plan.network_lookup import list_networks, list_requested_networks, load_network, network_query
from kubectl_yoshi.plan.records import (
    blocks_query,
    find_stale_blocks,
    load_allocations,
    load_shards,
    remove_records,
    shard_query,
    write_records,
)
from tests.unit.plan.fake_api import FakeApi

pytestmark = pytest.mark.I1

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def wizard(cidr: str = "10.133.0.0/24", name: str = "blue", **more: Any) -> Json:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "NetworkWizard",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"plugin": "calico", "cidr": cidr},
        **more,
    }


@pytest.fixture
def api() -> FakeApi:
    return FakeApi([NETWORKWIZARD, ADDRESSBLOCK])


def made(api: FakeApi, obj: Json) -> Network:
    return parse_network(api.put(NETWORKWIZARD, obj))


def opened(api: FakeApi, network: Network, *addresses: str) -> Allocations:
    """The allocations as it is now, as far as these addresses' blocks go."""
    network = parse_network(api.get(network.ref))
    shards = {shard_of(network, number(address)) for address in addresses}
    results = {shard_query(shard): tuple(filter(None, [api.look(shard.ref)])) for shard in shards}
    return load_shards(network, shards, Snapshot(results=results))


def number(text: str) -> int:
    return int(parse_address(text))


def record(name: str) -> Allocation:
    return Allocation(VIRTUALMACHINE, "prod", name, f"uid-{name}")


def carry_out(plan: Plan, api: FakeApi) -> list[Json | None]:
    return [send_change(change, api, dry_run=False, waiters={}) for change in plan]  # type: ignore[arg-type]


def stored(api: FakeApi) -> dict[str, str]:
    """Address -> holder's name, over all objects; fails where two hold one address."""
    found: dict[str, str] = {}
    for obj in [*api.every(NETWORKWIZARD), *api.every(ADDRESSBLOCK)]:
        for address, value in (obj.get("status", {}).get("allocations") or {}).items():
            holder = value["name"] if isinstance(value, dict) else value
            assert found.setdefault(address, holder) == holder
    return found


SIZES = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])


@SIZES
def test_allocations_are_written_and_removed(api: FakeApi, cidr: str) -> None:
    net = made(api, wizard(cidr))
    records = {number("10.133.0.10"): record("a"), number("10.133.0.11"): record("b")}
    carry_out(write_records(opened(api, net, "10.133.0.10"), records), api)
    assert stored(api) == {"10.133.0.10": "a", "10.133.0.11": "b"}
    now = opened(api, net, "10.133.0.10")
    carry_out(remove_records(now, {number("10.133.0.10"): now.records()[number("10.133.0.10")]}), api)
    assert stored(api) == {"10.133.0.11": "b"}


def test_many_addresses_are_written_by_one_patch_per_block(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    addresses = [f"10.133.{third}.{last}" for third in (4, 9) for last in range(1, 50)]
    ledger = opened(api, net, *addresses)
    plan = write_records(ledger, {number(address): record(address) for address in addresses})
    verbs = [[change.verb for change in stage] for stage in plan.stages]
    assert verbs == [[Verb.CREATE] * 2, [Verb.PATCH] * 2, [Verb.PATCH]]
    carry_out(plan, api)
    assert len(stored(api)) == 98
    assert [block["metadata"]["name"] for block in api.every(ADDRESSBLOCK)] == ["blue.10.133.4.0", "blue.10.133.9.0"]
    assert all(change.subresource == "status" for change in plan.stages[1])


def test_patch_has_an_owner_if_all_its_addresses_are_of_one_vm(api: FakeApi) -> None:
    net = made(api, wizard())
    ledger = opened(api, net, "10.133.0.1")
    one, two = number("10.133.0.1"), number("10.133.0.2")
    records = {one: record("a"), two: record("b")}
    owners = {change.owner for change in write_records(ledger, records, {one: "prod/a", two: "prod/b"})}
    assert owners == {""}
    owners = {change.owner for change in write_records(ledger, {one: record("a")}, {one: "prod/a"})}
    assert owners == {"prod/a"}


@SIZES
def test_writers_of_different_addresses_do_not_conflict(api: FakeApi, cidr: str) -> None:
    net = made(api, wizard(cidr))
    carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("first")}), api)
    plans = [
        write_records(opened(api, net, "10.133.0.1"), {number(f"10.133.0.{last}"): record(f"vm-{last}")})
        for last in range(2, 20)
    ]
    for plan in plans:
        carry_out(plan, api)
    assert len(stored(api)) == 19


@SIZES
def test_second_writer_of_an_address_is_refused(api: FakeApi, cidr: str) -> None:
    net = made(api, wizard(cidr))
    carry_out(write_records(opened(api, net, "10.133.0.9"), {number("10.133.0.9"): record("first")}), api)
    one, other = (
        write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record(name)}) for name in ("a", "b")
    )
    carry_out(one, api)
    with pytest.raises(PatchTestFailedError):
        carry_out(other, api)
    assert stored(api) == {"10.133.0.1": "a", "10.133.0.9": "first"}


@SIZES
def test_patch_with_one_taken_address_writes_none(api: FakeApi, cidr: str) -> None:
    net = made(api, wizard(cidr))
    carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("a")}), api)
    stale = opened(api, net, "10.133.0.1")
    carry_out(write_records(stale, {number("10.133.0.2"): record("b")}), api)
    with pytest.raises(PatchTestFailedError):
        carry_out(write_records(stale, {number(f"10.133.0.{last}"): record("c") for last in (2, 3)}), api)
    assert stored(api) == {"10.133.0.1": "a", "10.133.0.2": "b"}


@SIZES
def test_replaced_allocation_is_not_removed(api: FakeApi, cidr: str) -> None:
    net = made(api, wizard(cidr))
    here = number("10.133.0.1")
    carry_out(write_records(opened(api, net, "10.133.0.1"), {here: record("a")}), api)
    stale = opened(api, net, "10.133.0.1")
    carry_out(remove_records(stale, {here: stale.records()[here]}), api)
    carry_out(write_records(opened(api, net, "10.133.0.1"), {here: record("b")}), api)
    with pytest.raises(PatchTestFailedError):
        carry_out(remove_records(stale, {here: stale.records()[here]}), api)
    assert stored(api) == {"10.133.0.1": "b"}


def test_network_recreated_concurrently_takes_no_allocation_of_the_old_one(api: FakeApi) -> None:
    net = made(api, wizard())
    plan = write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("a")})
    api.drop(net.ref)
    made(api, wizard())
    with pytest.raises(PatchTestFailedError):
        carry_out(plan, api)


def test_block_of_an_earlier_network_takes_no_allocation_of_this_one(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    shard = shard_of(net, number("10.133.4.1"))
    plan = write_records(Allocations(net, {shard: None}), {number("10.133.4.1"): record("a")})
    left = build_block(net, shard)
    left["metadata"]["ownerReferences"] = []
    left["spec"]["networkUID"] = "uid-of-the-earlier-one"
    api.put(ADDRESSBLOCK, left)
    with pytest.raises(PatchTestFailedError):
        carry_out(plan, api)
    with pytest.raises(PreconditionFailed, match="belongs to a deleted network"):
        opened(api, net, "10.133.4.1")


def test_legacy_allocation_is_converted_in_place(api: FakeApi) -> None:
    net = made(api, wizard(status={"allocations": {"10.133.0.1": "web-1", "10.133.0.2": "web-2"}}))
    carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("web-1")}), api)
    allocations = api.get(net.ref)["status"]["allocations"]
    assert allocations["10.133.0.1"] == {
        "kind": VIRTUALMACHINE,
        "namespace": "prod",
        "name": "web-1",
        "uid": "uid-web-1",
    }
    assert allocations["10.133.0.2"] == "web-2"


def test_address_in_another_notation_is_removed(api: FakeApi) -> None:
    net = made(api, wizard("fd00::/120", status={"allocations": {"FD00:0::0A": "web-1"}}))
    ledger = opened(api, net, "fd00::a")
    carry_out(remove_records(ledger, ledger.records()), api)
    assert stored(api) == {}


def test_counters_are_written_with_the_allocations(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/29"))
    records = {number(f"10.133.0.{last}"): record(f"vm-{last}") for last in (1, 2, 3)}
    carry_out(write_records(opened(api, net, "10.133.0.1"), records), api)
    status = api.get(net.ref)["status"]
    assert (status["used"], status["free"]) == (3, 3)
    ledger = opened(api, net, "10.133.0.1")
    carry_out(remove_records(ledger, {number("10.133.0.2"): ledger.records()[number("10.133.0.2")]}), api)
    status = api.get(net.ref)["status"]
    assert (status["used"], status["free"]) == (2, 4)


def test_last_writer_updates_the_counters(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/29"))
    carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("a")}), api)
    stale = [opened(api, net, "10.133.0.1") for _ in range(2)]
    carry_out(write_records(stale[0], {number("10.133.0.2"): record("b")}), api)
    (answer,) = carry_out(write_records(stale[1], {number("10.133.0.3"): record("c")}), api)
    assert answer is not None
    assert answer["status"]["used"] == 2
    change = fix_counters(answer)
    assert change is not None
    send_change(change, api, dry_run=False, waiters={})  # type: ignore[arg-type]
    status = api.get(net.ref)["status"]
    assert (status["used"], status["free"]) == (3, 3)
    assert fix_counters(api.get(net.ref)) is None
    with pytest.raises(PatchTestFailedError):
        send_change(change, api, dry_run=False, waiters={})  # type: ignore[arg-type]


def test_missing_counters_are_not_fixed() -> None:
    assert fix_counters(wizard(status={"allocations": {"10.133.0.1": "web-1"}})) is None


def test_empty_block_is_deleted_unless_written_concurrently(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("a")}), api)
    ledger = opened(api, net, "10.133.0.1")
    assert delete_empty_block(api.every(ADDRESSBLOCK)[0], NOW) is None
    (answer,) = carry_out(remove_records(ledger, ledger.records()), api)
    assert answer is not None
    close = delete_empty_block(answer, NOW)
    assert close is not None
    carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.2"): record("b")}), api)
    with pytest.raises(ConflictError):
        send_change(close, api, dry_run=False, waiters={})  # type: ignore[arg-type]
    assert stored(api) == {"10.133.0.2": "b"}


def test_empty_network_is_not_deleted_as_a_block() -> None:
    assert delete_empty_block(wizard(status={"allocations": {}}), NOW) is None


class Writers(RuleBasedStateMachine):
    """Several writers with stale reads, whose requests are interleaved in any way."""

    cidr = "10.133.0.0/28"
    addresses = tuple(f"10.133.0.{last}" for last in range(1, 6))
    before: dict[str, str] = {}  # noqa: RUF012
    names = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.api = FakeApi([NETWORKWIZARD, ADDRESSBLOCK])
        status = {"status": {"allocations": self.before}} if self.before else {}
        self.network = made(self.api, wizard(self.cidr, **status))
        self.model = dict(self.before)
        self.views = {name: self._read() for name in self.names}
        self.pending: dict[str, list[tuple[Change, dict[str, str | None]]]] = {name: [] for name in self.names}

    def _read(self) -> Allocations:
        return opened(self.api, self.network, *self.addresses)

    who = st.sampled_from(names)
    where = st.integers(0, len(addresses) - 1)

    @rule(name=who)
    def read(self, name: str) -> None:
        self.views[name] = self._read()

    @rule(name=who, places=st.sets(where, min_size=1, max_size=3))
    def plan_to_take(self, name: str, places: set[int]) -> None:
        """What is free as far as this writer knows, or its own in Platform9 yoshi's form."""
        view = self.views[name]
        wanted = [self.addresses[place] for place in sorted(places)]
        held = {str(view.address(here)): found.as_written for here, found in view.records().items()}
        wanted = [address for address in wanted if held.get(address, name) == name]
        self._plan(name, write_records(view, {number(a): record(name) for a in wanted}), dict.fromkeys(wanted, name))

    @rule(name=who, place=where)
    def plan_to_give_back(self, name: str, place: int) -> None:
        """What is this writer's own as far as it knows."""
        view, address = self.views[name], self.addresses[place]
        mine = view.records().get(number(address))
        if mine is not None and mine.name == name:
            self._plan(name, remove_records(view, {number(address): mine}), {address: None})

    def _plan(self, name: str, plan: Plan, effect: dict[str, str | None]) -> None:
        for change in plan:
            ops = change.body if change.verb is Verb.PATCH else []
            written = {op["path"].rpartition("/")[2] for op in ops if op["op"] != "test"}
            values = [op["value"] for op in ops if op["op"] == "add" and isinstance(op["value"], dict)]
            written |= {key for value in values for key in value.get("allocations", value)}
            self.pending[name].append((change, {a: owner for a, owner in effect.items() if a in written}))

    @precondition(lambda self: any(self.pending.values()))
    @rule(data=st.data())
    def send_one(self, data: st.DataObject) -> None:
        self._send(data.draw(st.sampled_from([name for name, left in self.pending.items() if left])))

    def _send(self, name: str) -> None:
        change, effect = self.pending[name].pop(0)
        try:
            answer = send_change(change, self.api, dry_run=False, waiters={})  # type: ignore[arg-type]
        except (PatchTestFailedError, ConflictError, NotFoundError):
            self.pending[name] = [entry for entry in self.pending[name] if not entry[1]]
            return
        for address, owner in effect.items():
            if owner is not None and not change.summary.startswith("remove"):
                assert self.model.get(address, owner) == owner, "two owners"
                self.model[address] = owner
            elif owner is None:
                assert self.model.pop(address, name) == name, "another one's record is lost"
        if answer is not None and effect:
            tidy = delete_empty_block(answer, NOW) or fix_counters(answer)
            if tidy is not None:
                self.pending[name].append((tidy, {}))

    @invariant()
    def the_ledger_is_what_the_writers_were_told(self) -> None:
        there = stored(self.api)
        # A record in Platform9 yoshi's form is released in two steps, of which the first may be its last.
        left = {a: holder for a, holder in there.items() if a not in self.model and self.before.get(a) == holder}
        assert {a: holder for a, holder in there.items() if a not in left} == self.model

    def teardown(self) -> None:
        while any(self.pending.values()):
            for name in self.names:
                if self.pending[name]:
                    self._send(name)
        self.the_ledger_is_what_the_writers_were_told()
        for obj in [*self.api.every(NETWORKWIZARD), *self.api.every(ADDRESSBLOCK)]:
            if "used" in obj.get("status", {}):
                assert obj["status"]["used"] == len(obj["status"]["allocations"])


class WritersInBlocks(Writers):
    """The same in a network of two blocks, which come and go."""

    cidr = "10.133.0.0/23"
    addresses = ("10.133.0.254", "10.133.0.255", "10.133.1.0", "10.133.1.1", "10.133.1.2")


class WritersAfterTheOriginal(WritersInBlocks):
    """The same where Platform9 yoshi has written records into the network's own status."""

    before = {"10.133.0.255": "a", "10.133.1.0": "a", "10.133.1.1": "b"}  # noqa: RUF012


QUICK = settings(max_examples=80, stateful_step_count=30)
TestWriters, TestWritersInBlocks = Writers.TestCase, WritersInBlocks.TestCase
TestWritersAfterTheOriginal = WritersAfterTheOriginal.TestCase
TestWriters.settings = TestWritersInBlocks.settings = TestWritersAfterTheOriginal.settings = QUICK


# -- opening ------------------------------------------------------------------------------------------------------


def test_missing_network_is_reported_with_a_hint() -> None:
    with pytest.raises(PreconditionFailed, match='network "blue" not found in namespace "prod"') as refused:
        load_network("prod", "blue", Snapshot(results={network_query("prod", "blue"): ()}))
    assert "network list" in refused.value.hint


def test_unreadable_network_is_not_reported_as_missing() -> None:
    snapshot = Snapshot(results={network_query("prod", "blue"): Unreadable("may not get networkwizards")})
    with pytest.raises(PreconditionFailed, match="cannot be read: may not get networkwizards"):
        load_network("prod", "blue", snapshot)


def test_unreadable_allocations_are_not_treated_as_empty(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    shard = shard_of(net, number("10.133.4.1"))
    with pytest.raises(MissingQueriesError):
        load_shards(net, [shard], Snapshot())
    with pytest.raises(PreconditionFailed, match="cannot be read: no right"):
        load_shards(net, [shard], Snapshot(results={shard_query(shard): Unreadable("no right")}))


def test_all_allocations_come_only_from_blocks_of_the_network(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    carry_out(write_records(opened(api, net, "10.133.4.1"), {number("10.133.4.1"): record("mine")}), api)
    others = {
        "another network's": {"network": "red", "networkUID": "uid-red"},
        "an earlier one's": {"network": "blue", "networkUID": "uid-earlier"},
    }
    for place, (name, spec) in enumerate(others.items(), 1):
        block = build_block(net, shard_of(net, number(f"10.133.{place}.1")))
        block["spec"] |= spec
        block["status"] = {"allocations": {f"10.133.{place}.1": {"kind": VIRTUALMACHINE, "name": name}}}
        api.put(ADDRESSBLOCK, block)
    snapshot = Snapshot(results={blocks_query("prod"): tuple(api.every(ADDRESSBLOCK))})
    assert [found.name for found in load_allocations(net, snapshot).records().values()] == ["mine"]


@pytest.mark.parametrize(("earlier", "now"), [("fd00:133::/64", "10.133.0.0/16"), ("10.133.0.0/16", "fd00:133::/64")])
def test_blocks_of_an_earlier_network_of_the_other_family_are_ignored(api: FakeApi, earlier: str, now: str) -> None:
    left = made(api, wizard(earlier))
    api.drop(left.ref)
    api.put(ADDRESSBLOCK, build_block(left, shard_of(left, left.usable.nth(0))))
    net = made(api, wizard(now))
    snapshot = Snapshot(results={blocks_query("prod"): tuple(api.every(ADDRESSBLOCK))})
    assert load_allocations(net, snapshot).records() == {}
    assert find_stale_blocks(net, snapshot) == {}


def test_networks_of_the_namespace_are_listed_without_cluster_permission() -> None:
    snapshot = Snapshot(
        results={
            Query(NETWORKWIZARD): Unreadable("may not list networkwizards in all namespaces"),
            Query(NETWORKWIZARD, "prod"): (wizard(), wizard("nonsense", "broken")),
        }
    )
    assert [net.name for net in list_networks("prod", snapshot)] == ["blue"]
    networks, broken = list_requested_networks(None, None, snapshot, fallback_namespace="prod")
    assert [net.name for net in networks] == ["blue"]
    assert len(broken) == 1
    assert 'network "broken"' in broken[0]
    with pytest.raises(PreconditionFailed, match="networks cannot be listed"):
        list_requested_networks(None, None, snapshot)


def test_reservation_summary_has_its_note(api: FakeApi) -> None:
    net = made(api, wizard())
    plan = write_records(
        opened(api, net, "10.133.0.1"), {number("10.133.0.1"): Allocation(RESERVATION, "prod", "", note="printer")}
    )
    assert [change.summary for change in plan] == ["reserve 10.133.0.1 (printer)"]


def test_api_errors_are_raised(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    api.refuse("create", ADDRESSBLOCK)
    with pytest.raises(ApiError, match="may not create addressblocks"):
        carry_out(write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("a")}), api)


def test_changes_refer_to_their_object(api: FakeApi) -> None:
    net = made(api, wizard("10.133.0.0/16"))
    refs: list[ObjectRef] = [
        change.ref for change in write_records(opened(api, net, "10.133.0.1"), {number("10.133.0.1"): record("a")})
    ]
    assert refs == [*[ADDRESSBLOCK.ref("blue.10.133.0.0", "prod")] * 2, NETWORKWIZARD.ref("blue", "prod")]


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_no_allocation_is_written_after_network_deletion_started(api: FakeApi, cidr: str) -> None:
    net = made(api, wizard(cidr))
    status = {"created": True, "allocations": {}}
    api.patch(net.ref, [{"op": "add", "path": "/status", "value": status}], subresource="status")
    net = parse_network(api.get(net.ref))
    ledger = opened(api, net, "10.133.0.10")
    mark = [{"op": "add", "path": "/status/deleting", "value": "2026-01-01T00:00:00Z"}]
    api.patch(net.ref, mark, subresource="status")
    assert parse_network(api.get(net.ref)).is_deleting
    with pytest.raises(PatchTestFailedError):
        carry_out(write_records(ledger, {number("10.133.0.10"): record("a")}), api)
