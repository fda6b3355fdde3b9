"""Networks of every kind with allocations of two tenants, and the users that the admission policies distinguish.

The networks are in a namespace of their own. A user of them may patch their status and create AddressBlocks, as
yoshi-user may, but VirtualMachines only in the user's own namespaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from lab.api import Api, ApiError
from lab.testing import Cluster
from tests.cluster.harness import JSON_PATCH, Json, delete, make, wizard
from tests.waiting import wait_for

GROUP = "plumber.k8s.pf9.io"
SINCE = "2026-01-02T03:04:05.000000Z"
UNTIL = "2026-02-03T04:05:06Z"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


@dataclass
class PolicyScene:
    """The scene.

    Attributes:
        cluster: with the policies.
        net: the namespace of the networks.
        a, b, c: the namespaces of tenants.
        users: name -> a client whose requests are this user's.
        block: the AddressBlock of network big, 10.71.4.0 to 10.71.4.255.
        empty_block: another one, without allocations; old_block one with history only.
    """

    cluster: Cluster
    net: str
    a: str
    b: str
    c: str
    users: dict[str, Api] = field(default_factory=dict)
    block: str = "big.10.71.4.0"
    empty_block: str = "big.10.71.5.0"
    old_block: str = "big.10.71.6.0"
    uids: dict[str, str] = field(default_factory=dict)

    def vm(self, owner: str, **fields: str) -> Json:
        """Return the allocation of a VM, "a/web"."""
        namespace, _, name = owner.partition("/")
        where = {"a": self.a, "b": self.b, "c": self.c, "net": self.net}[namespace]
        record = {"kind": "VirtualMachine", "namespace": where, "name": name, "uid": f"uid-{namespace}-{name}"}
        return {**record, "since": SINCE, **fields}

    def reservation(self, reserved_for: str = "") -> Json:
        """Return a reservation for nobody in particular, or for "vm/a/web" or "namespace/a"."""
        record = {"kind": "Reservation", "namespace": self.net, "since": SINCE}
        return {**record, "for": self.named(reserved_for)} if reserved_for else record

    def named(self, text: str) -> str:
        """Return "vm/a/web", "namespace/a" or "a/web" with the name of the namespace instead of its letter."""
        names = {"a": self.a, "b": self.b, "c": self.c, "net": self.net}
        return "/".join(names.get(part, part) for part in text.split("/"))

    def path(self, target: str) -> str:
        """Return the path of "networkwizards/blue/status" or "addressblocks/…"."""
        return f"/apis/{GROUP}/v1/namespaces/{self.net}/{target}"

    def send(self, who: str, method: str, target: str, body: Any = None, dry_run: bool = True) -> tuple[int, str]:
        """Send a request, by default as a dry run; return the HTTP status (200 for any success) and the message."""
        path = self.path(target) + ("?dryRun=All" if dry_run and method != "DELETE" else "")
        try:
            if method == "PATCH":
                self.users[who].patch(path, body, JSON_PATCH)
            elif method == "POST":
                self.users[who].post(path, body)
            elif method == "PUT":
                self.users[who].put(path, body)
            else:
                self.users[who].delete(path, {"dryRun": ["All"]} if dry_run else None)
        except ApiError as error:
            return error.status, str(error)
        return 200, ""

    def block_object(self, name: str, first: str, **metadata: Any) -> Json:
        """Return an AddressBlock of network big as the program creates it."""
        owner = {"apiVersion": f"{GROUP}/v1", "kind": "NetworkWizard", "name": "big", "uid": self.uids["big"]}
        return {
            "apiVersion": f"{GROUP}/v1",
            "kind": "AddressBlock",
            "metadata": {"name": name, "labels": {f"{GROUP}/network": "big"}, "ownerReferences": [owner], **metadata},
            "spec": {"network": "big", "networkUID": self.uids["big"], "first": first},
        }


NETWORKS: dict[str, Json] = {
    "blue": {
        "plugin": "calico", "cidr": "10.70.0.0/24", "gateway": "10.70.0.1", "range_start": "10.70.0.10",
        "range_end": "10.70.0.200", "exclude": ["10.70.0.100", "10.70.0.110-10.70.0.120", "10.70.0.128/30"],
    },
    "quota": {"plugin": "calico", "cidr": "10.72.0.0/24", "maxAddressesPerNamespace": 2},
    "big": {"plugin": "calico", "cidr": "10.71.0.0/16", "range_start": "10.71.4.10", "gateway": "10.71.4.20",
            "exclude": ["10.71.4.100-10.71.4.110", "10.71.4.128/28", "10.71.7.0-10.71.8.255"]},
    "pub": {"plugin": "public", "cidr": "203.0.113.0/28"},
    "loose": {"plugin": "public", "maxAddressesPerNamespace": 3},
    "layer2": {"plugin": "ovs", "cidr": "10.73.0.0/24", "ovs": {"bridge": "br-x", "hostConfig": False}},
    "six": {"plugin": "calico", "cidr": "fd00:70::/120", "range_start": "fd00:70::10",
            "exclude": ["fd00:70::a0-fd00:70::af"]},
    "wide": {"plugin": "calico", "cidr": "fd00:71::/64"},
    "new": {"plugin": "calico", "cidr": "10.74.0.0/24"},
    "full": {"plugin": "calico", "cidr": "10.75.0.0/24", "maxAddressesPerNamespace": 250},
    "excluding": {"plugin": "calico", "cidr": "10.76.0.0/24",
                  "exclude": [f"10.76.0.{n}-10.76.0.{n + 1}" for n in range(0, 80, 2)]},
    "open": {"plugin": "public"},
}  # fmt: skip
"""Of every kind; "new" is not initialized."""

STATUS_RULES = [
    {"apiGroups": [GROUP], "resources": ["networkwizards", "addressblocks"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [GROUP], "resources": ["networkwizards/status", "addressblocks/status"], "verbs": ["patch"]},
    {"apiGroups": [GROUP], "resources": ["addressblocks"], "verbs": ["create", "delete"]},
]
"""What a tenant needs in the namespace of a network: a part of yoshi-user."""
ALL_STATUS_RULES = [
    {"apiGroups": [GROUP], "resources": ["networkwizards/status", "addressblocks/status"], "verbs": ["*"]},
    {"apiGroups": [GROUP], "resources": ["addressblocks"], "verbs": ["*"]},
]
"""More than a tenant needs; of networks themselves nothing."""


@contextmanager
def open_policy_scene(cluster: Cluster) -> Iterator[PolicyScene]:
    """Open the scene; the policies are installed."""
    with ExitStack() as stack:
        namespaces = [stack.enter_context(cluster.namespace()) for _ in range(4)]
        scene = PolicyScene(cluster, *namespaces)
        make_users(scene)
        stack.callback(delete, cluster, "clusterrolebindings", f"{scene.net}-everywhere")
        make_networks(scene)
        wait_for_denials(scene)
        yield scene


def make_users(scene: PolicyScene) -> None:
    """Create the roles and bindings of the users.

    alice has VMs in a, bob in b, both in a and b, three in a, b and c. mallory has VMs in b and all verbs for statuses
    and blocks. everywhere is bound to yoshi-user everywhere, boss to yoshi-admin where the networks are.
    """
    rules = {"status": STATUS_RULES, "all-status": ALL_STATUS_RULES}
    for name, rule in rules.items():
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rule}
        make(scene.cluster, {**role, "metadata": {"name": name, "namespace": scene.net}})
    vms = {"alice": "a", "bob": "b", "both": "ab", "three": "abc", "mallory": "b"}
    for user, letters in vms.items():
        bind(scene, user, "Role", "all-status" if user == "mallory" else "status", scene.net)
        for letter in letters:
            bind(scene, user, "ClusterRole", "yoshi-user", scene.named(letter))
    bind(scene, "boss", "ClusterRole", "yoshi-admin", scene.net)
    bind(scene, "everywhere", "ClusterRole", "yoshi-user")
    for user in (*vms, "boss", "everywhere"):
        scene.users[user] = scene.cluster.api.impersonate(f"{scene.net}-{user}")
    scene.users["root"] = scene.cluster.api


def bind(scene: PolicyScene, user: str, kind: str, role: str, namespace: str = "") -> None:
    """Bind a role to a user in a namespace; "" for everywhere."""
    metadata = {"name": f"{user}-{role}", "namespace": namespace} if namespace else {"name": f"{scene.net}-{user}"}
    make(
        scene.cluster,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{scene.net}-{user}"}],
        },
    )


def make_networks(scene: PolicyScene) -> None:
    """Create the networks and blocks with their allocations."""
    for name, spec in NETWORKS.items():
        [made] = make(scene.cluster, wizard(scene.net, name, **spec))
        scene.uids[name] = made["metadata"]["uid"]
    allocations = {
        "10.70.0.10": scene.vm("a/web", mac="02:00:00:00:00:0a"),
        "10.70.0.11": scene.vm("b/web", mac="02:00:00:00:00:0b"),
        "10.70.0.12": scene.reservation(),
        "10.70.0.13": scene.reservation("vm/a/new"),
        "10.70.0.14": scene.reservation("namespace/b"),
        "10.70.0.15": {"kind": "Network", "namespace": scene.net, "name": "blue"},
        "10.70.0.16": "old",
        "10.70.0.17": scene.vm("a/taker", **{"for": scene.named("vm/b/loser")}),
        "10.70.0.18": {"kind": "Future", "namespace": scene.a, "name": "x"},
        "10.70.0.250": scene.vm("a/outside"),
    }
    history = {"10.70.0.11": [past(scene.vm("a/web"))], "10.70.0.90": [past(scene.vm("b/web"))]}
    set_status(scene, "networkwizards/blue", {"allocations": allocations, "history": history, "created": True})
    held = {"10.72.0.10": scene.vm("a/one"), "10.72.0.11": scene.reservation("namespace/a")}
    set_status(scene, "networkwizards/quota", {"allocations": held, "history": {}, "created": True})
    set_status(scene, "networkwizards/big", {
        "allocations": {}, "created": True, "reservedForVMs": {"10.71.4.31": scene.named("a/new")},
    })  # fmt: skip
    for name in ("pub", "loose", "layer2", "six", "wide", "excluding", "open"):
        set_status(scene, f"networkwizards/{name}", {"allocations": {}, "history": {}, "created": True})
    for name in (scene.block, scene.empty_block, scene.old_block, "big.10.71.2.0", "big.10.71.7.0", "big.10.71.255.0"):
        make_block(scene, name)
    held = {"10.71.4.30": scene.vm("a/web"), "10.71.4.31": scene.reservation("vm/a/new")}
    held |= {"10.71.4.32": scene.vm("b/web")}
    set_status(scene, f"addressblocks/{scene.block}", {"allocations": held, "history": {}})
    set_status(scene, f"addressblocks/{scene.empty_block}", {"allocations": {}})
    set_status(scene, f"addressblocks/{scene.old_block}", {"history": {"10.71.6.9": [past(scene.vm("b/web"))]}})


def make_block(scene: PolicyScene, name: str) -> None:
    """Create an AddressBlock of network big."""
    scene.cluster.api.post(scene.path("addressblocks"), scene.block_object(name, name.removeprefix("big.")))


def set_status(scene: PolicyScene, target: str, status: Json) -> None:
    """Set a status as the administrator."""
    body = [{"op": "add", "path": "/status", "value": status}]
    scene.cluster.api.patch(scene.path(f"{target}/status"), body, JSON_PATCH)


def past(record: Json, until: str = UNTIL) -> Json:
    """Return the entry of the history for an allocation that ends."""
    kept = {key: record[key] for key in ("namespace", "name", "uid") if key in record}
    kind = {} if record["kind"] == "VirtualMachine" else {"kind": record["kind"]}
    return {**kind, **kept, "until": until}


def wait_for_denials(scene: PolicyScene) -> None:
    """Wait until the API server knows the roles of the scene's users."""
    wait_for(
        lambda: (
            scene.send("everywhere", "PATCH", "networkwizards/blue/status", [])[0] == 200
            and all(scene.send(user, "PATCH", "networkwizards/blue/status", [])[0] == 200 for user in scene.users)
        ),
        "the API server knows the roles",
    )
