"""`network list` and `vm list`: names that are not there, and networks that may not be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubectl_yoshi.cluster.errors import Forbidden, NotFound
from kubectl_yoshi.commands.listing import list_networks, list_vms
from kubectl_yoshi.commands.network import ListOptions as NetworkListOptions
from kubectl_yoshi.commands.vm import ListOptions as VmListOptions
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef, Resource
from kubectl_yoshi.model.vm import VMI
from kubectl_yoshi.output.asked import Output
from tests.unit.commands.flags import unsaid
from tests.unit.commands.playing import Played, ends
from tests.unit.plan.test_layer2 import spec_of
from tests.unit.plan.world import World


@pytest.fixture
def world() -> World:
    """A cluster with network prod/blue and two VMs on it."""
    world = World()
    world.network("blue")
    for name in ("web-1", "web-2"):
        world.vm(name)
    world.attach("web-1", "web-2")
    return world


def hide(world: World, resource: Resource, namespace: str) -> None:
    """From now on what is of a kind in a namespace may not be read."""

    def refuse(verb: str, ref: ObjectRef) -> None:
        if ref.resource == resource and ref.namespace in (None, namespace):
            raise Forbidden("Forbidden.", missing=f"may not {verb} {resource.full_name}")

    world.api.before.append(refuse)


def listed(run: Any, options: Any, world: World, *names: str, **flags: Any) -> tuple[int, Played]:
    session = Played(world)
    given = {**unsaid(options), "selector": "", "names": names, "output": Output(), "no_headers": True, **flags}
    return ends(lambda: run(session, options(**given))), session


def vms(world: World, *names: str, **flags: Any) -> tuple[int, Played]:
    return listed(list_vms, VmListOptions, world, *names, **flags)


def rows(session: Played) -> list[list[str]]:
    return [line.split() for line in session.told]


def test_of_several_networks_those_are_shown_that_are_there(world: World) -> None:
    code, session = listed(list_networks, NetworkListOptions, world, "nope", "blue", "dev/none")
    assert (code, [row[0] for row in rows(session)]) == (1, ["blue"])
    assert session.said == [
        "error: There is no networkwizard/nope in namespace prod.",
        "error: There is no networkwizard/none in namespace dev.",
    ]


def test_of_several_vms_those_are_shown_that_are_there(world: World) -> None:
    code, session = vms(world, "web-2", "nope")
    assert (code, [row[0] for row in rows(session)]) == (1, ["web-2"])
    assert session.said == ["error: There is no virtualmachine/nope in namespace prod."]


def test_one_that_is_not_there_is_an_error_of_its_own(world: World) -> None:
    with pytest.raises(NotFound):
        vms(world, "nope")


def test_a_vm_on_a_network_that_may_not_be_read_is_shown_as_it_says_itself(world: World) -> None:
    world.network("red", "10.144.0.0/24", namespace="shared")
    world.running("db")
    world.attach("db", network="shared/red", restart=True)
    world.time_passes()
    hide(world, NETWORKWIZARD, "shared")
    code, session = vms(world, "db")
    assert (code, rows(session)) == (0, [["db", "shared/red", "10.144.0.1", "10.144.0.1", "unknown", "<none>"]])
    shown = json.loads("".join(vms(world, "db", output=Output("json"))[1].told))
    assert shown["spec"] == {"vm": "db", "network": "shared/red", "address": "10.144.0.1"}
    assert shown["status"]["state"] == "unknown"
    assert [row[:3] for row in rows(vms(world)[1])] == [
        ["db", "shared/red", "10.144.0.1"],
        ["web-1", "blue", "10.133.0.1"],
        ["web-2", "blue", "10.133.0.2"],
    ]
    assert [row[0] for row in rows(vms(world, network="blue")[1])] == ["web-1", "web-2"]


def test_each_of_several_networks_that_may_not_be_read_has_its_own_address(world: World) -> None:
    world.network("red", "10.144.0.0/24", namespace="shared")
    world.network("lab", "10.20.0.0/24", namespace="shared", **spec_of())
    world.vm("db")
    for network in ("shared/red", "shared/lab"):
        world.attach("db", network=network)
    lab = [address for address, holder in world.holders("lab", "shared").items() if holder == "prod/db"]
    hide(world, NETWORKWIZARD, "shared")
    assert sorted(row[1:3] for row in rows(vms(world, "db")[1])) == [
        ["shared/lab", *lab],
        ["shared/red", "10.144.0.1"],
    ]


def test_what_runs_is_unknown_where_instances_may_not_be_read(world: World) -> None:
    hide(world, VMI, "prod")
    assert {row[3] for row in rows(vms(world)[1])} == {"<unknown>"}


def test_what_runs_is_told_where_the_namespace_has_no_network_of_its_own(world: World) -> None:
    world.network("red", "10.144.0.0/24", namespace="shared")
    world.running("db", namespace="dev")
    world.attach("dev/db", network="shared/red", restart=True)
    world.time_passes()
    session = Played(world, "dev")
    given = {**unsaid(VmListOptions), "selector": "", "output": Output(), "no_headers": True}
    list_vms(session, VmListOptions(**given))
    assert rows(session) == [["db", "shared/red", "10.144.0.1", "10.144.0.1", "bound", "<none>"]]
