"""Every command as the least of yoshi-viewer, yoshi-user and yoshi-admin that can run it, and as the most that cannot,
each bound in one namespace and cluster-wide.

What is permitted works; an error names the missing permission, in five lines at most. What cannot be read is reported
in one line and shown as Unknown, never as an error and never as absent.
"""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.testing import Cluster
from tests.cluster.calico_ipam import Calico
from tests.cluster.checker import check
from tests.cluster.harness import (
    ForkServer,
    Yoshi,
    delete,
    delete_all,
    ensure,
    find,
    get,
    make,
    make_vms,
    patch,
    wait_for_role,
)
from tests.cluster.public_scene import METALLB
from tests.cluster.watching import watching
from tests.waiting import wait_for

LEVELS = ("viewer", "user", "admin", "nobody")
PLACES = ("here", "everywhere")
BLUE, BIG, NEW, PUB = "10.120.0", "10.121.0.0/16", "10.122.0.0/24", "10.123.0"
LOSE_RECORDS = "(network blue is restored without its status)"
DELETE_BLOCKS = "(the empty address blocks are deleted)"
HANDLES = "ipamhandles.crd.projectcalico.org"

_names = itertools.count()


@dataclass
class Scene:
    """A namespace with networks blue and big, and an account for each role and place.

    Attributes:
        root: the administrator.
        accounts: (level, place) -> the program as run by that account.
        other: a namespace that only those see who are bound everywhere.
        csv: a file that gives db an address of blue.
    """

    cluster: Cluster
    root: Yoshi
    other: str
    csv: Path
    accounts: dict[tuple[str, str], Yoshi] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.root.namespace


@pytest.fixture(scope="module")
def scene(installed: Cluster, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    ensure(installed, METALLB)
    installed.wait_for_namespace_deletion()  # CLEAN takes away what their networks left, and more must not come
    folder = tmp_path_factory.mktemp("accounts")
    with installed.namespace() as namespace, installed.namespace() as other:
        root = Yoshi(installed.kubeconfig, installed.context, forks, namespace)
        csv = folder / "ports.csv"
        csv.write_text(f"name,address,mac,namespace\ndb,{BLUE}.21,,\n")
        found = Scene(installed, root, other, csv)
        for level in LEVELS[:3]:
            for place in PLACES:
                bind(found, f"{level}-{place}", f"yoshi-{level}", place)
                kubeconfig = kubeconfig_of(found, f"{level}-{place}", folder)
                found.accounts[level, place] = Yoshi(kubeconfig, "it", forks, namespace)
        bind(found, "tenant", "yoshi-user", "here")
        bind(found, "tenant", "yoshi-calico-reader", "everywhere")
        found.accounts["tenant", "here"] = Yoshi(kubeconfig_of(found, "tenant", folder), "it", forks, namespace)
        for account in [*(f"{level}-{place}" for level in LEVELS[:3] for place in PLACES), "tenant"]:
            wait_for_role(installed, f"system:serviceaccount:{namespace}:{account}", namespace)
        root.done("network", "create", "blue", "--cidr", f"{BLUE}.0/24")
        root.done("network", "create", "big", "--cidr", BIG)
        make_vms(installed, namespace, "web", "db")
        root.done("vm", "attach", "web", "--network", "blue", "--ip", f"{BLUE}.10")
        yield found
        for network in ("blue", "big"):
            root.done("network", "delete", network, "--force", "--yes")
        for account in [*(f"{level}-everywhere" for level in LEVELS[:3]), "tenant"]:
            delete(installed, "clusterrolebindings", f"{namespace}-{account}")


def lose_records(scene: Scene) -> None:
    removal = [{"op": "remove", "path": "/status"}]
    patch(scene.cluster, "networkwizards", "blue", removal, namespace=scene.namespace, subresource="status")


def bind(scene: Scene, account: str, role: str, place: str) -> None:
    there = {"name": account, "namespace": scene.namespace}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": there,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", **there}],
    }
    if place != "here":
        binding |= {"kind": "ClusterRoleBinding", "metadata": {"name": f"{scene.namespace}-{account}"}}
    ensure(scene.cluster, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": there})
    make(scene.cluster, binding)


def kubeconfig_of(scene: Scene, account: str, folder: Path) -> Path:
    """A kubeconfig with the account's own token."""
    path = scene.cluster.api.find_resource("serviceaccounts").path(scene.namespace, account, "token")
    token = scene.cluster.api.post(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    config = json.loads(scene.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [{"name": "it", "user": {"token": token["status"]["token"]}}]
    config["contexts"] = [{"name": "it", "context": {"cluster": config["clusters"][0]["name"], "user": "it"}}]
    config["current-context"] = "it"
    file = folder / f"{account}.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(json.dumps(config))
    return file


# -- permissions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A command and the users who can run it.

    Attributes:
        words: the command line; {new} is a name that nobody has used, {csv} a file that gives db an address of blue.
        here: the least role, bound in the namespace, that may.
        everywhere: the same, bound everywhere.
        missing: the permission named by the error; if it differs, by the account ("user everywhere") or by its place
            ("here").
        hint: what it says to do about it, by place; by default, to ask for the missing permission.
        before: what the administrator does before, in {}, or LOSE_RECORDS.
        after: and after.
        code: the exit code where it works, of an account that reads everything.
    """

    words: str
    here: str
    everywhere: str
    missing: str | Mapping[str, str] = ""
    hint: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    code: int = 0

    def refusal(self, level: str, place: str) -> tuple[str, str]:
        """What the message says to an account that may not: the right that is missing, and what to do."""
        account = f"{level} {place}"
        missing = self.missing if isinstance(self.missing, str) else self.missing.get(account) or self.missing[place]
        asking = f"Ask an administrator for permission to {missing.removeprefix('may not ')}"
        return missing, self.hint.get(place, asking)


NO_PUBLIC = ("vm detach web --public-network pub", "vm detach db --public-network pub", "network delete pub")
TO_MAKE = {"here": "Ask an administrator for this permission, or to create the network."}
TO_DELETE = {"here": "Ask an administrator for this permission, or to delete the network."}
TO_SEE = {"here": "Choose a namespace that you can access with -n. Ask an administrator for this permission"}
ADMINISTRATORS = dict.fromkeys(PLACES, "Ask an administrator of the cluster to run this command.")
POOLS = "ippools.crd.projectcalico.org"
CLEAN = ("ips gc -A --yes", "sync -A")  # nothing is left to do for what other tests left
DETACHED = ("vm detach db --network blue", "vm detach db --network big")
ROWS = (
    Row("network list", "viewer", "viewer"),
    Row("network list blue -o yaml", "viewer", "viewer"),
    Row("network list -A", "nobody", "viewer", "may not list networkwizards.plumber.k8s.pf9.io in all namespaces"),
    Row("network describe blue", "viewer", "viewer"),
    Row(
        "network create {new} --cidr " + NEW, "nobody", "admin",
        {"here": f"may not list {POOLS}", "everywhere": "may not create networkwizards"}, TO_MAKE,
        after=("network delete {new}",),
    ),
    Row(
        "network delete {new}", "nobody", "admin",
        {
            "here": f"may not list {POOLS}",
            "viewer everywhere": "may not patch networkwizards/status",
            "user everywhere": "may not delete networkwizards",
        }, TO_DELETE,
        before=("network create {new} --cidr " + NEW,), after=("network delete {new}",),
    ),
    Row(
        "network update blue --max-addresses-per-namespace 200", "nobody", "admin",
        {"here": f"may not list {POOLS}", "everywhere": "may not patch networkwizards"}, TO_MAKE,
        before=("network update blue --max-addresses-per-namespace none",),
        after=("network update blue --max-addresses-per-namespace none",),
    ),
    Row("vm list", "viewer", "viewer"),
    Row("vm list -A", "nobody", "viewer", "may not list virtualmachines.kubevirt.io in all namespaces"),
    Row(
        "vm attach db --network blue", "user", "user", "may not patch networkwizards/status",
        before=DETACHED, after=DETACHED,
    ),
    Row(
        f"vm attach db --network blue --ip {BLUE}.79 --take-reservation", "admin", "admin",
        "may not patch networkwizards.plumber.k8s.pf9.io",
        before=(*DETACHED, f"ips reserve blue {BLUE}.79 --for namespace/elsewhere"),
        after=(*DETACHED, f"ips release blue {BLUE}.79"),
    ),
    Row(
        "vm attach db --network big", "user", "user", "may not create addressblocks",
        before=(*DETACHED, DELETE_BLOCKS), after=DETACHED,
    ),
    Row(
        "vm detach db --network blue", "user", "user", "may not patch virtualmachines",
        before=("vm attach db --network blue",), after=DETACHED,
    ),
    Row("ips list", "viewer", "viewer"),
    Row("ips list --network big --free", "viewer", "viewer"),
    Row("ips list -A", "nobody", "viewer", "may not list networkwizards", TO_SEE),
    Row(f"ips show {BLUE}.10", "viewer", "viewer"),
    Row("ips map blue", "viewer", "viewer"),
    Row(f"ips map {BLUE}.0/24 -A", "nobody", "viewer", "may not list networkwizards", TO_SEE),
    Row(f"policy explain {BLUE}.10", "viewer", "viewer"),
    Row("policy explain vm/web", "viewer", "viewer"),
    Row("ips check", "viewer", "viewer"),
    Row("trace vm/web", "viewer", "viewer", code=1),  # it is stopped
    Row(f"trace {BLUE}.10", "viewer", "viewer", code=1),
    Row("ips check -A", "nobody", "viewer", "may not list networkwizards", TO_SEE),
    Row("doctor", "viewer", "viewer"),
    Row("doctor -A", "nobody", "viewer", "may not list networkwizards", TO_SEE),
    Row("doctor --preflight restart web", "viewer", "viewer"),
    Row(
        f"ips reserve blue {BLUE}.77", "user", "user", "may not patch networkwizards/status",
        after=(f"ips release blue {BLUE}.77",),
    ),
    Row(
        f"ips release blue {BLUE}.78", "user", "user", "may not patch networkwizards/status",
        before=(f"ips reserve blue {BLUE}.78",), after=(f"ips release blue {BLUE}.78",),
    ),
    Row(
        f"ips move {PUB}.5 --to db", "user", "user", "may not patch virtualmachines.kubevirt.io",
        before=(
            f"network create pub --plugin public --cidr {PUB}.0/28",
            f"vm attach web --public-network pub --public-ip {PUB}.5",
        ),
        after=NO_PUBLIC,
    ),
    Row(
        "ips import --filename {csv} --network blue", "user", "user", "may not patch networkwizards/status",
        dict.fromkeys(PLACES, "error: 1 of 1 addresses refused"), before=DETACHED, after=DETACHED,
    ),
    Row(
        "ips rebuild --network blue --yes", "nobody", "user",
        {
            "here": "may not list virtualmachines.kubevirt.io in all namespaces",
            "everywhere": "may not patch networkwizards/status",
        },
        {"here": "Ask an administrator to run this command"},
        before=("vm attach db --network blue", LOSE_RECORDS), after=("ips rebuild --network blue --yes", *DETACHED),
    ),
    Row("ips gc --yes", "viewer", "viewer", before=CLEAN),
    Row(
        "ips gc -A --yes", "nobody", "viewer", "may not list networkwizards",
        {"here": "Choose one namespace with -n instead of -A."}, before=CLEAN,
    ),
    Row("status", "viewer", "viewer"),
    Row("status -A -o json", "viewer", "viewer"),
    Row("report -A -o /dev/null", "viewer", "viewer"),
    Row("sync", "viewer", "viewer", before=CLEAN),
    Row(
        "sync -A", "nobody", "viewer", "may not list networkwizards",
        {"here": "Choose a namespace with -n."}, before=CLEAN,
    ),
    Row("diff vm attach db --network blue", "viewer", "viewer", before=DETACHED, code=1),
    Row(
        "diff network create {new} --cidr " + NEW, "nobody", "viewer", f"may not list {POOLS}", TO_MAKE, code=1,
    ),
    Row(
        "policy status", "nobody", "admin",
        "may not get validatingadmissionpolicies.admissionregistration.k8s.io",
    ),
    Row("policy print", "viewer", "viewer"),
    # the roles, if the CRDs can be read, which `doctor` does
    Row("install", "nobody", "nobody", "may not get c", ADMINISTRATORS),
    Row("uninstall", "nobody", "nobody", "may not get c", ADMINISTRATORS),
)  # fmt: skip


def accounts_for(row: Row, place: str) -> list[str]:
    """The least role that may, the one below it, and those whose refusal says something else.

    That the others may more, or less: test_roles.py.
    """
    least = LEVELS.index(row.here if place == "here" else row.everywhere)
    wanted = {*LEVELS[max(least - 1, 0) : least + 1]}
    if not isinstance(row.missing, str):
        wanted |= {level for level in LEVELS[:least] if f"{level} {place}" in row.missing}
    return [level for level in LEVELS[:3] if level in wanted]


CELLS = [(row, level, place) for row in ROWS for place in PLACES for level in accounts_for(row, place)]


def is_incomplete(row: Row, level: str, place: str) -> bool:
    """Return whether a command cannot check everything: Calico's blocks, or admission policies."""
    if row.words in ("doctor", "doctor -A"):
        return place == "here" or level != "admin"
    return row.words == "ips check" and place == "here"


@pytest.mark.parametrize(
    ("row", "level", "place"), CELLS, ids=[f"{row.words}-{level}-{place}" for row, level, place in CELLS]
)
def test_command_succeeds_with_its_role_or_names_the_missing_permission(
    scene: Scene, row: Row, level: str, place: str
) -> None:
    new = f"new-{next(_names)}"

    def words(line: str) -> list[str]:
        return line.format(new=new, csv=scene.csv).split()

    for line in row.before:
        if line == LOSE_RECORDS:
            lose_records(scene)
        elif line == DELETE_BLOCKS:
            delete_all(scene.cluster, "addressblocks", namespace=scene.namespace)
        else:
            scene.root.run(*words(line))
    account = scene.accounts[level, place]
    least = row.here if place == "here" else row.everywhere
    ran = account.run(*words(row.words))
    try:
        assert len(ran.err.splitlines()) <= 5, str(ran)
        assert "Traceback" not in ran.err, str(ran)
        assert "internal error" not in ran.err, str(ran)
        if LEVELS.index(level) >= LEVELS.index(least):
            assert ran.code == (3 if is_incomplete(row, level, place) else row.code), str(ran)
            assert "error:" not in ran.err, str(ran)
        else:
            assert ran.code == (3 if row.words.startswith(("diff", "ips check", "doctor")) else 1), str(ran)
            assert ran.err.count("error:") == 1, str(ran)
            missing, hint = row.refusal(level, place)
            assert missing in (ran.out if "addresses refused" in hint else ran.err), str(ran)
            assert hint in ran.err, str(ran)
            assert "created" not in ran.out, str(ran)
        if LOSE_RECORDS not in row.before or ran.code == 0:
            check(scene.cluster, scene.namespace)
    finally:
        for line in row.after:
            scene.root.run(*words(line))
    check(scene.cluster, scene.namespace)


# -- what cannot be read ---------------------------------------------------------------------------------------------


def test_attach_without_permission_to_read_ipamhandles_prints_one_note(scene: Scene) -> None:
    ran = scene.accounts["user", "here"].run("vm", "attach", "db", "--network", "blue", "--ip", f"{BLUE}.20")
    assert ran.code == 0, str(ran)
    assert sum(line.startswith("note: not seen: ") for line in ran.err.splitlines()) == 1, str(ran)
    assert f"may not get {HANDLES}" in ran.err
    check(scene.cluster, scene.namespace)
    scene.root.done("vm", "detach", "db", "--network", "blue")


def test_detach_keeps_an_address_whose_ipam_state_cannot_be_read(scene: Scene) -> None:
    tenant = scene.accounts["user", "here"]
    tenant.done("vm", "attach", "db", "--network", "blue", "--ip", f"{BLUE}.20")
    ran = tenant.run("vm", "detach", "db", "--network", "blue")
    assert ran.code == 0, str(ran)
    assert f"{BLUE}.20 stays recorded" in ran.err
    assert f"may not get {HANDLES}" in ran.err
    assert "may not get" in tenant.refused("ips", "release", "blue", f"{BLUE}.20")
    again = tenant.done("vm", "attach", "db", "--network", "blue")
    assert f"{BLUE}.20" in again, "the VM's own address is free to it"
    tenant.done("vm", "detach", "db", "--network", "blue")
    told = scene.root.done("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
    assert f"release {BLUE}.20" in told
    check(scene.cluster, scene.namespace, settled=True)


def test_detach_by_a_tenant_with_ipam_access_releases_the_address(scene: Scene) -> None:
    tenant = scene.accounts["tenant", "here"]
    for command in (("vm", "attach", "db", "--network", "blue"), ("vm", "detach", "db", "--network", "blue")):
        ran = tenant.run(*command)
        assert ran.code == 0, str(ran)
        assert "not seen" not in ran.err, str(ran)
        check(scene.cluster, scene.namespace, settled=True)
    records = get(scene.cluster, "networkwizard", "blue", namespace=scene.namespace)["status"]["allocations"]
    assert set(records) == {f"{BLUE}.10"}


def test_detach_by_a_tenant_leaves_the_ipam_address_to_an_administrator(scene: Scene) -> None:
    tenant, calico = scene.accounts["tenant", "here"], Calico(scene.cluster, scene.namespace)
    missing = "may not update ipamblocks.crd.projectcalico.org"
    tenant.done("vm", "attach", "db", "--network", "blue", "--ip", f"{BLUE}.30")
    handle = calico.hold(f"{BLUE}.30", vm="db")
    try:
        before = versions(scene, handle)
        said = tenant.refused("vm", "attach", "db", "--network", "blue", "--ip", f"{BLUE}.31", "--replace")
        assert missing in said
        assert "administrator" in said
        assert versions(scene, handle) == before
        ran = tenant.run("vm", "detach", "db", "--network", "blue")
        assert ran.code == 0, str(ran)
        assert f"{BLUE}.30 stays recorded" in ran.err
        assert missing in ran.err
        ran = tenant.run("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
        assert ran.code == 0, str(ran)
        assert missing in ran.err
        assert calico.holders() == {f"{BLUE}.30": handle}
        check(scene.cluster, scene.namespace)
        scene.root.done("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
        assert (calico.holders(), calico.handles()) == ({}, set())
        check(scene.cluster, scene.namespace, settled=True)
    finally:
        for name in calico.made:
            delete(scene.cluster, *name.split("/"))


def versions(scene: Scene, handle: str) -> list[str]:
    """The resourceVersions of what an attachment of db writes to."""
    found = [get(scene.cluster, kind, name, namespace=scene.namespace) for kind, name in
             (("networkwizard", "blue"), ("virtualmachine", "db"), (HANDLES, handle))]  # fmt: skip
    return [str(obj["metadata"]["resourceVersion"]) for obj in found]


@pytest.mark.parametrize("level", LEVELS[:3])
def test_unreadable_namespace_is_reported_as_unknown_and_not_as_absent(scene: Scene, level: str) -> None:
    make_vms(scene.cluster, scene.other, f"guest-{level}")
    there = scene.root.within(scene.other)
    network = f"{scene.namespace}/blue"
    there.done("vm", "attach", f"guest-{level}", "--network", network, "--ip", f"{BLUE}.40")
    account = scene.accounts[level, "here"]
    try:
        ran = account.run("ips", "list")
        assert ran.code == 0, str(ran)
        (row,) = [line.split() for line in ran.out.splitlines() if line.startswith(f"{BLUE}.40")]
        assert row[1:4] == ["blue", "Unknown", f"{scene.other}/guest-{level}"], str(ran)
        (note,) = ran.err.splitlines()
        assert f"may not list virtualmachines.kubevirt.io in namespace {scene.other}" in note, str(ran)
        ran = account.run("ips", "check")
        assert ran.code == 3, str(ran)
        assert "may not list virtualmachines.kubevirt.io" in ran.err
        assert "Unknown" in account.done("ips", "show", f"{BLUE}.40")
        ran = account.run("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
        assert ran.code == 0, str(ran)
        assert "nothing to collect" in ran.out
        check(scene.cluster, scene.namespace, scene.other, settled=True)
    finally:
        there.done("vm", "detach", f"guest-{level}", "--network", network)


def test_attach_to_an_unreadable_network_names_the_missing_permission(scene: Scene) -> None:
    account = scene.accounts["user", "here"]
    said = account.refused("vm", "attach", "db", "--network", f"{scene.other}/blue")
    assert f"may not get networkwizards.plumber.k8s.pf9.io in namespace {scene.other}" in said
    said = account.within(scene.other).refused("vm", "list")
    assert f"may not list virtualmachines.kubevirt.io in namespace {scene.other}" in said


# -- what runs in the cluster ----------------------------------------------------------------------------------------


def test_sync_watch_works_with_the_role_yoshi_admin(scene: Scene, tmp_path: Path) -> None:
    account = scene.accounts["admin", "everywhere"]
    annotations = {"plumber.k8s.pf9.io/networkName": "private", "plumber.k8s.pf9.io/publicNetwork": "public"}
    specs = {"private": {"plugin": "calico", "cidr": NEW}, "public": {"plugin": "public", "cidr": f"{PUB}.0/28"}}
    with scene.cluster.namespace() as namespace, watching(account.kubeconfig, tmp_path, "-n", namespace) as watcher:

        def is_held(network: str) -> bool:
            found = get(scene.cluster, "networkwizards", network, namespace=namespace)
            return bool((found.get("status") or {}).get("allocations"))

        for name, spec in specs.items():
            metadata = {"name": name, "namespace": namespace}
            wizard = {
                "apiVersion": "plumber.k8s.pf9.io/v1",
                "kind": "NetworkWizard",
                "metadata": metadata,
                "spec": spec,
            }
            make(scene.cluster, wizard)
        wait_for(lambda: watcher.out.read_text().count("is ready") == 2, "the networks are made")
        make_vms(scene.cluster, namespace, "web", annotations=annotations)
        wait_for(lambda: all(map(is_held, specs)), "the VM has both addresses")
        check(scene.cluster, namespace)
        delete(scene.cluster, "virtualmachines", "web", namespace=namespace)
        delete(scene.cluster, "networkwizards", *specs, namespace=namespace)
        wait_for(lambda: not find(scene.cluster, POOLS, f"{namespace}.private"), "what was made for them is taken away")
        wait_for(lambda: not of_metallb(scene, namespace), "MetalLB's pool, too")
        assert watcher.ended(signal.SIGTERM) == 0
    said = (watcher.err.read_text() + watcher.out.read_text()).splitlines()
    assert [line for line in said if "may not" in line and "validatingadmissionpolicybindings" not in line] == []


def of_metallb(scene: Scene, namespace: str) -> list[str]:
    """MetalLB's pools for networks of a namespace."""
    pools = get(scene.cluster, "ipaddresspools", namespace="metallb-system")["items"]
    return [pool["metadata"]["name"] for pool in pools if pool["metadata"]["name"].startswith(f"{namespace}.")]
