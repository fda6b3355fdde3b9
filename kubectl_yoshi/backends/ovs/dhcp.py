"""The DHCP server of a Layer 2 network: a DHCPServer, and the ConfigMap of its name with dnsmasq's configuration.

luigi's DHCP controller puts the ConfigMap on the server's disk, and dnsmasq there reads every file of it
(`--conf-dir`). The controller rewrites the ConfigMap whenever its `data` is not what the controller itself makes of the
DHCPServer, and looks at `data` only. So `data` is exactly that, and what this program adds is in `binaryData`: one file
with options and further ranges, and one for each address that is held, so that no two attachments touch the same:

    data:
      dnsmasq.conf          port=0
                            dhcp-range=set:20,10.20.0.111,10.20.0.250,255.255.255.0,10m
                            dhcp-option=set:20,3,10.20.0.1
                            interface=eth1
    binaryData:
      yoshi-options.conf    dhcp-option=3,10.20.0.1              the router; "dhcp-option=3" where there is none
                            dhcp-option=6,10.20.0.1,10.20.0.2    DNS servers
                            dhcp-option=26,1500                  the MTU
                            dhcp-range=set:20,10.20.0.11,10.20.0.99,255.255.255.0,10m
      10.20.0.42.conf       # 2026-01-01T00:00:00Z               the allocation's time
                            dhcp-host=02:aa:bb:cc:dd:ee,10.20.0.42
      10.20.0.43.conf       dhcp-host=id:reserved-10.20.0.43,10.20.0.43

The ranges are what the network assigns (or the DHCP range inside it), without the server's own address; the largest
interval is the DHCPServer's, the rest follow in the second file. With a VLAN the controller's line for the router has
"set:" where dnsmasq wants "tag:", which has no effect, so the second file has the option again. A running server reads
its disk only when it starts.

A patch that removes an address's file tests its content, in which the allocation's time is, so it never removes that of
an allocation which was renewed meanwhile. dnsmasq gives an address of a dhcp-host line to no other client
(https://thekelleys.org.uk/dnsmasq/docs/dnsmasq-man.html): unknown clients get what is left of the ranges. A reservation
is a line for a client id that nobody has. An address that was leased to an unknown client before has an IPAllocation
(always in namespace `default`); it is not chosen while it is leased.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network

from kubectl_yoshi.backends.ensure import ensure_fields, spec_fields
from kubectl_yoshi.backends.ovs.objects import (
    adoption_fields,
    creation,
    deletion,
    find_name_conflicts,
    find_object,
    is_created_for_network,
    is_owned_by,
    object_query,
)
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, LEASE, Dhcp, Layer2
from kubectl_yoshi.backends.ownership import ownership_annotations
from kubectl_yoshi.model.addresses import Intervals, Span, address_of, parse_address
from kubectl_yoshi.model.allocations import NETWORK, Allocation
from kubectl_yoshi.model.backend import AddressUse, AllocationsLoader, HoldRelease, NetworkConflict, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, ObjectRef, dig, name_of, namespace_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import VM, VMI, Vm

OPTIONS_FILE = "yoshi-options.conf"
"""The file with DHCP options and additional ranges."""
SERVER_INTERFACE = "eth1"
"""The server's interface on the network, as luigi's controller names it; eth0 is on the pod network."""

ROUTER, DNS_SERVERS, MTU = 3, 6, 26
"""DHCP option codes (RFC 2132)."""
LEASE_NAMESPACE = "default"
"""The namespace in which luigi's DHCP server creates an IPAllocation per lease; fixed in luigi's source."""
LEASE_LIST_THRESHOLD = 20
"""From this number of addresses on, leases are listed instead of read one by one."""
_SERVER_FIELDS = Fields(whole=frozenset({"nodeSelector"}))


def missing_apis(layer: Layer2, served: ServedApis) -> str:
    """Return which API the DHCP server needs and the cluster lacks, with the alternative; "" for none."""
    if layer.dhcp is None or DHCPSERVER in served:
        return ""
    return (
        f"luigi's DHCP controller (no {DHCPSERVER.full_name} is served): --no-dhcp (spec.ovs.dhcp.enabled: false) does "
        "without it"
    )


def conflicts(network: Network, layer: Layer2, snapshot: Snapshot) -> list[NetworkConflict]:
    """Return the objects not managed by yoshi that have the names of the DHCP server's objects."""
    if layer.dhcp is None:
        return []
    found = find_name_conflicts(DHCPSERVER, network, snapshot)
    return (
        found
        if _is_created_by_controller(network, snapshot)
        else found + find_name_conflicts(CONFIGMAP, network, snapshot)
    )


def ensure(network: Network, layer: Layer2, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
    """Return the changes that create or repair the ConfigMap, then the DHCPServer; without DHCP, delete both.

    Raises:
        PreconditionFailed: no address is left for unknown clients.
    """
    if DHCPSERVER not in snapshot.served:
        return Plan()
    if layer.dhcp is None:
        return teardown(network, snapshot)
    server_numbers = [number for number, record in records.items() if record.kind == NETWORK]
    if not server_numbers:
        return Plan()
    dynamic_spans = dynamic_ranges(network, layer.dhcp, server_numbers[0])
    config = find_object(CONFIGMAP, network, snapshot)
    server = find_object(DHCPSERVER, network, snapshot)
    data = {"dnsmasq.conf": generate_dnsmasq_config(network, layer, dynamic_spans[0])}
    own_files = {OPTIONS_FILE: format_options_file(network, layer, dynamic_spans[1:])}
    own_files |= {
        host_file_name(network, number): format_host_line(network, number, record) for number, record in records.items()
    }
    files = {key: encode_file(text) for key, text in own_files.items() if text}
    spec = server_spec(network, layer, server_numbers[0], dynamic_spans[0])
    if config is None:
        config_changes = [creation(CONFIGMAP, network, {"data": data, "binaryData": files})]
    else:
        config_changes = ensure_fields(
            CONFIGMAP, config, _config_fields(network, data, files) | adoption_fields(config, network)
        )
    if server is None:
        server_changes = [creation(DHCPSERVER, network, {"spec": spec})]
    else:
        fields = spec_fields({key: spec.get(key) for key in ("networks", "nodeSelector")})
        server_changes = ensure_fields(DHCPSERVER, server, fields | adoption_fields(server, network), _SERVER_FIELDS)
    return Plan(tuple(tuple(stage) for stage in (config_changes, server_changes) if stage))


def teardown(network: Network, snapshot: Snapshot) -> Plan:
    """Return the changes that delete the server, then its configuration, if they belong to the network."""
    if DHCPSERVER not in snapshot.served:
        return Plan()
    server = find_object(DHCPSERVER, network, snapshot)
    config = find_object(CONFIGMAP, network, snapshot)
    stages = []
    if server is not None and is_created_for_network(server, network):
        stages.append((deletion(DHCPSERVER, server),))
    if config is not None and (is_created_for_network(config, network) or _is_created_by_controller(network, snapshot)):
        stages.append((deletion(CONFIGMAP, config),))
    return Plan(tuple(stages))


def health(network: Network, layer: Layer2, snapshot: Snapshot) -> str:
    """Return why DHCP does not work; "" if it does, or is disabled."""
    if layer.dhcp is None:
        return ""
    for resource in (DHCPSERVER, CONFIGMAP):
        if find_object(resource, network, snapshot) is None:
            return f"{resource.ref(network.name, network.namespace)} is missing"
    return ""


def pending_rollout(network: Network, layer: Layer2, snapshot: Snapshot) -> str:
    """Return that the server's VM does not run; "" if it does, or if there is no DHCP server."""
    if layer.dhcp is None:
        return ""
    server, instance = server_instance_queries(network)
    is_running = any(dig(vmi, "status", "phase") == "Running" for vmi in snapshot.lookup(instance))
    return "" if is_running else f"{VM.ref(server.name, network.namespace)}, its DHCP server, does not run"


def server_instance_queries(network: Network) -> tuple[Query, Query]:
    """Return the queries for the server's VM, which luigi's VirtualMachinePool creates, and its instance."""
    server = Query(VM, network.namespace, f"{network.name}-0")
    return server, replace(server, resource=VMI)


def describe(network: Network, layer: Layer2, snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return the rows about the server and its leases."""
    if layer.dhcp is None or DHCPSERVER not in snapshot.served:
        return [("DHCP", "none")] if layer.dhcp is None else []
    server = find_object(DHCPSERVER, network, snapshot)
    address = dig(
        server,
        "spec",
        "networks",
        0,
        "interfaceIp",
        default=f"({snapshot.describe_absence(object_query(DHCPSERVER, network))})",
    )
    rows = [("DHCP", f"{address.partition('/')[0]}, leases of {layer.dhcp.lease}")]
    return [*rows, ("DNS", ", ".join(map(str, layer.dns)))] if layer.dns else rows


def server_queries(network: Network, snapshot: Snapshot) -> tuple[Query, ...]:
    """Return the queries for the address of the network's DHCP server."""
    return (object_query(DHCPSERVER, network),) if DHCPSERVER in snapshot.served else ()


def list_server_uses(network: Network, snapshot: Snapshot) -> list[AddressUse]:
    """Return the address in the DHCPServer as a use by the network itself, whatever the recorded allocations are."""
    found = snapshot.lookup(*server_queries(network, snapshot))
    server = found[0] if found else None
    try:
        address = parse_address(str(dig(server, "spec", "networks", 0, "interfaceIp", default="")).partition("/")[0])
    except UsageError:
        return []
    if server is None or address not in network:
        return []
    ref = DHCPSERVER.ref(network.name, network.namespace)
    return [AddressUse(int(address), UsageKind.HELD_BY_BACKEND, ref, network.namespace, network.name, network.uid)]


# -- addresses -------------------------------------------------------------------------------------------------------


def reserve(network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
    """Return the changes that reserve addresses for their holders.

    Each change writes one file only, so that all changes of a plan can be sent as one patch.

    Raises:
        PreconditionFailed: there is no configuration, or it cannot be read.
    """
    query = object_query(CONFIGMAP, network)
    config = find_object(CONFIGMAP, network, snapshot)
    ref = CONFIGMAP.ref(network.name, network.namespace)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(
            f"the DHCP server's {ref} cannot be read: {reason}", "Ask an administrator for this permission."
        )
    if config is None:
        raise PreconditionFailed(
            f"the DHCP server's {ref} is missing", f"Create it with `kubectl yoshi sync -n {network.namespace}`."
        )
    changes = []
    for number, record in records.items():
        key, line = host_file_name(network, number), encode_file(format_host_line(network, number, record))
        if dig(config, "binaryData", key) == line:
            continue
        summary = f"reserve {network.address(number)} for {record.holder} in {ref}"
        changes.append(_file_patch(config, key, line, summary, record.owner))
    return Plan().parallel(Plan((tuple(changes),))) if changes else Plan()


def unreserve(network: Network, records: Mapping[int, Allocation], snapshot: Snapshot, owner: str = "") -> HoldRelease:
    """Return how to remove the reservations of these allocations, except files that belong to other allocations.

    `owner` is the VM that the changes are for; "" for all.
    """
    kept_for_others = _find_kept_for_others(network, records, snapshot)
    return _remove_files(network, [number for number in records if number not in kept_for_others], snapshot, owner)


def _remove_files(network: Network, numbers: Iterable[int], snapshot: Snapshot, owner: str = "") -> HoldRelease:
    query = object_query(CONFIGMAP, network)
    config = find_object(CONFIGMAP, network, snapshot)
    if reason := snapshot.unreadable_reason(query):
        return HoldRelease(blocker=f"cannot check whether the DHCP server keeps it: {reason}")
    changes = []
    for number in numbers:
        key = host_file_name(network, number)
        kept_file = dig(config, "binaryData", key)
        if kept_file is not None:
            assert config is not None
            client = owner or _describe_client(kept_file)
            summary = f"remove the reservation of {network.address(number)} for {client} from {_ref(config)}"
            changes.append(_file_patch(config, key, None, summary, owner))
    return HoldRelease(Plan().parallel(Plan((tuple(changes),)))) if changes else HoldRelease()


def _find_kept_for_others(network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> set[int]:
    """Return those of these addresses whose files contain the time of another allocation."""
    config = find_object(CONFIGMAP, network, snapshot)
    found = set()
    for number, record in records.items():
        file = _decode_file(dig(config, "binaryData", host_file_name(network, number), default=""))
        since = re.match(r"# (\S+)$", file, re.MULTILINE)
        if since is not None and since[1] != record.since:
            found.add(number)
    return found


def warnings(network: Network, number: int, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the note that a running server does not know the address yet; () if it does.

    The server's disk is created from the ConfigMap when the server starts.
    """
    config = find_object(CONFIGMAP, network, snapshot)
    if dig(config, "binaryData", host_file_name(network, number)) is not None:
        return ()
    server, instance = server_instance_queries(network)
    if not snapshot.lookup(server, instance) or not snapshot.lookup(instance):
        return ()
    restart = f"virtctl restart {server.name} -n {network.namespace}"
    return (f"the DHCP server of network {network.full_name} reads its addresses only when it starts: {restart}",)


def orphaned_allocations(network: Network, recorded: AllocationsLoader, snapshot: Snapshot) -> Plan:
    """Return the changes that remove files of addresses without an allocation."""
    config = find_object(CONFIGMAP, network, snapshot)
    kept_numbers = [
        number for key in dig(config, "binaryData", default={}) if (number := _parse_number(network, key)) is not None
    ]
    if not kept_numbers:
        return Plan()
    records = recorded()
    return _remove_files(network, [number for number in kept_numbers if number not in records], snapshot).plan


def _parse_number(network: Network, key: str) -> int | None:
    try:
        address = parse_address(key.removesuffix(".conf"))
    except UsageError:
        return None
    return int(address) if address in network else None


def _ref(config: Json) -> ObjectRef:
    return CONFIGMAP.ref(name_of(config), namespace_of(config))


def _describe_client(file: str) -> str:
    """Return the client in an address's file, as printed: "02:aa:bb:cc:dd:ee", "a reservation"."""
    match = re.search(r"^dhcp-host=([^,\s]+)", _decode_file(file), re.MULTILINE)
    if match is None:
        return "an unknown client"
    return "a reservation" if match[1].startswith("id:reserved-") else match[1]


def _decode_file(file: str) -> str:
    """Return a file's text; "" if it is not valid."""
    try:
        return b64decode(file).decode()
    except ValueError:
        return ""


def _file_patch(config: Json, key: str, value: str | None, summary: str, owner: str) -> Change:
    """Return a patch that writes one file (None: removes it) and can be merged with patches of other files."""
    patch = PatchBuilder.for_uid(uid_of(config))
    patch.set_keys(config, ("binaryData",), {key: value})
    return Change(Verb.PATCH, _ref(config), summary, patch.ops, before=config, owner=owner)


# -- file contents ----------------------------------------------------------------------------------------------------


def dynamic_addresses(network: Network, dhcp: Dhcp, server_number: int) -> Intervals:
    """Return the addresses of the DHCP ranges: the usable addresses in the configured range, without the server's.

    dnsmasq itself excludes held addresses, which have dhcp-host lines.
    """
    found = network.usable - Intervals.from_numbers([server_number])
    if dhcp.first is not None and dhcp.last is not None:
        found &= Intervals.from_spans([(int(dhcp.first), int(dhcp.last))])
    return found


def dynamic_ranges(network: Network, dhcp: Dhcp, server_number: int) -> list[Span]:
    """Return the address ranges for unknown clients: first the largest, then the others in order.

    The DHCPServer contains the first.

    Raises:
        PreconditionFailed: there is none.
    """
    spans = dynamic_addresses(network, dhcp, server_number).spans
    if not spans:
        raise PreconditionFailed(
            f"network {network.full_name} has no address left for DHCP to lease",
            "Widen its range or its DHCP range, or do without a DHCP server (--no-dhcp).",
        )
    largest = max(spans, key=lambda span: span[1] - span[0])
    return [largest, *(span for span in spans if span != largest)]


def server_spec(network: Network, layer: Layer2, server_number: int, span: Span) -> Json:
    """Return the DHCPServer's spec, with None for fields that must be absent.

    The server's address has a prefix length, which the server's network configuration needs.
    """
    assert network.cidr is not None
    assert layer.dhcp is not None
    first, last = (str(address_of(end, 4)) for end in span)
    cidr: Json = {"range": str(network.cidr), "range_start": first, "range_end": last}
    cidr["gateway"] = str(network.gateway) if network.gateway is not None else None
    served: Json = {
        "networkName": network.name,
        "interfaceIp": f"{network.address(server_number)}/{network.cidr.prefixlen}",
        "leaseDuration": layer.dhcp.lease,
        "cidr": cidr,
        "vlanId": str(layer.vlan) if layer.vlan else None,
    }
    return {"networks": [served], **({"nodeSelector": dict(layer.nodes)} if layer.nodes else {})}


def generate_dnsmasq_config(network: Network, layer: Layer2, span: Span) -> str:
    """Return the file that luigi's controller generates from the DHCPServer, byte for byte (its genConfigMap).

    With a VLAN, its line for the router contains "set:" where dnsmasq expects "tag:", so clients do not get the router;
    the options file repeats it.
    """
    tag = f"set:{layer.vlan}," if layer.vlan else ""
    router = f"dhcp-option={tag}{ROUTER},{network.gateway}\n" if network.gateway is not None else ""
    return f"port=0\n{format_range_line(network, layer, span)}{router}interface={SERVER_INTERFACE}\n"


def format_range_line(network: Network, layer: Layer2, span: Span) -> str:
    """Return an address range as a line of dnsmasq's configuration."""
    assert isinstance(network.cidr, IPv4Network)
    assert layer.dhcp is not None
    tag = f"set:{layer.vlan}," if layer.vlan else ""
    first, last = (address_of(end, 4) for end in span)
    return f"dhcp-range={tag}{first},{last},{network.cidr.netmask},{layer.dhcp.lease}\n"


def format_options_file(network: Network, layer: Layer2, further: list[Span]) -> str:
    """Return the file with DHCP options and additional ranges.

    Without a gateway, the router option is empty; otherwise dnsmasq would send its own address.
    """
    assert layer.dhcp is not None
    router = f",{network.gateway}" if network.gateway is not None else ""
    text = f"dhcp-option={ROUTER}{router}\n"
    if layer.dns:
        text += f"dhcp-option={DNS_SERVERS},{','.join(map(str, layer.dns))}\n"
    if layer.mtu:
        text += f"dhcp-option={MTU},{layer.mtu}\n"
    return text + "".join(format_range_line(network, layer, span) for span in further)


def host_file_name(network: Network, number: int) -> str:
    """Return the name of the file that reserves an address for its holder."""
    return f"{network.address(number)}.conf"


def format_host_line(network: Network, number: int, record: Allocation) -> str:
    """Return the content of the file that reserves an address.

    It reserves the address for its holder's MAC; that of a Reservation is reserved for a client id that no client
    uses. It also contains the time of the allocation. A patch that removes a file tests its content, and therefore
    never removes the file of an allocation that was renewed meanwhile.
    """
    if record.kind == NETWORK:
        return ""  # dnsmasq never leases its own address
    address = network.address(number)
    since = f"# {record.since}\n" if record.since else ""
    return f"{since}dhcp-host={record.mac or f'id:reserved-{address}'},{address}\n"


def encode_file(text: str) -> str:
    """Return a file encoded for binaryData."""
    return b64encode(text.encode()).decode()


def _config_fields(
    network: Network, data: Mapping[str, str], files: Mapping[str, str]
) -> dict[tuple[str, ...], object]:
    fields: dict[tuple[str, ...], object] = {("data", key): text for key, text in data.items()}
    fields |= {("binaryData", key): text for key, text in files.items()}
    return fields | {(*ANNOTATIONS, key): text for key, text in ownership_annotations(network).items()}


def _is_created_by_controller(network: Network, snapshot: Snapshot) -> bool:
    """Return whether luigi's controller created or recreated the ConfigMap for the network's own DHCPServer."""
    config = find_object(CONFIGMAP, network, snapshot)
    server = find_object(DHCPSERVER, network, snapshot)
    return (
        config is not None
        and server is not None
        and is_created_for_network(server, network)
        and is_owned_by(config, server)
    )


def lease_queries(network: Network, numbers: Intervals, snapshot: Snapshot) -> tuple[Query, ...]:
    """Return the queries for the leases of these addresses; an IPAllocation is named after its address."""
    if LEASE not in snapshot.served or not numbers:
        return ()
    all_leases = Query(LEASE, LEASE_NAMESPACE)
    if numbers.size > LEASE_LIST_THRESHOLD or all_leases in snapshot.results:
        return (all_leases,)
    return tuple(Query(LEASE, LEASE_NAMESPACE, str(network.address(number))) for number in numbers)


def list_lease_uses(
    network: Network, queries: Iterable[Query], by_mac: Mapping[str, Vm], snapshot: Snapshot
) -> list[AddressUse]:
    """Return the leases of the network's addresses, each as a use by the VM with that MAC address, if any."""
    found = []
    for lease in snapshot.lookup(*queries):
        try:
            address = parse_address(name_of(lease))
        except UsageError:
            continue
        if address not in network:
            continue
        vm = by_mac.get(str(dig(lease, "spec", "macAddr", default="")).lower())
        vm_fields = (vm.namespace, vm.name, vm.uid) if vm else ("", "", "")
        found.append(
            AddressUse(int(address), UsageKind.LEASED, LEASE.ref(name_of(lease), namespace_of(lease)), *vm_fields)
        )
    return found
