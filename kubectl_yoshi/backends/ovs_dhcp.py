"""The DHCP server of a layer 2 network: a DHCPServer, and the ConfigMap of its name with dnsmasq's configuration.

luigi's DHCP controller puts the ConfigMap on the server's disk, and dnsmasq there reads every file of it
(`--conf-dir`). The controller writes the ConfigMap anew whenever its `data` is not what the controller itself makes of
the DHCPServer, and looks at `data` only. So `data` is exactly that, and what is ours is in `binaryData`: one file with
options and further ranges, and one for each address that is held, so that no two attachments touch the same.

dnsmasq gives an address of a dhcp-host line to nobody else (https://thekelleys.org.uk/dnsmasq/docs/dnsmasq-man.html):
what strangers get is what the ranges say without those.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from kubectl_yoshi.backends.marks import marks_of
from kubectl_yoshi.backends.ovs_objects import (
    creation,
    deletion,
    in_the_way,
    is_own,
    is_owned_by,
    mending,
    own_again,
    own_object,
    own_read,
)
from kubectl_yoshi.backends.ovs_spec import CONFIGMAP, DHCPSERVER, Dhcp, Layer2
from kubectl_yoshi.model.addresses import Intervals, Span, address_of, parse_address
from kubectl_yoshi.model.backend import How, LetGo, Obstacle, Recorded, Use
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.ledger import NETWORK, Record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, ObjectRef, dig, name_of, namespace_of, uid_of
from kubectl_yoshi.model.vm import VM, VMI

OPTIONS = "yoshi-options.conf"
"""The file with what machines are told, and further ranges."""
SERVER_INTERFACE = "eth1"
"""The server's interface on the network, as luigi's controller names it; eth0 is on the pod network."""

ROUTER, DNS_SERVERS, MTU = 3, 6, 26
"""DHCP options (RFC 2132)."""


def missing(layer: Layer2, served: Served) -> str:
    """What the cluster lacks to serve addresses, and what still works; "" where it lacks nothing."""
    if layer.dhcp is None or DHCPSERVER in served:
        return ""
    return (
        f"luigi's DHCP controller (no {DHCPSERVER.full_name} is served): --no-dhcp (spec.ovs.dhcp.enabled: false) does "
        "without it"
    )


def obstacles(network: Network, layer: Layer2, facts: Facts) -> list[Obstacle]:
    """Objects of the names that are needed which somebody else has made."""
    if layer.dhcp is None:
        return []
    found = in_the_way(DHCPSERVER, network, facts)
    return found if _server_made_it(network, facts) else found + in_the_way(CONFIGMAP, network, facts)


def build(network: Network, layer: Layer2, records: Mapping[int, Record], facts: Facts) -> Plan:
    """Makes or mends the ConfigMap, then the DHCPServer; takes both away where there is to be none.

    Raises:
        Refused: no address is left for strangers.
    """
    if DHCPSERVER not in facts.served:
        return Plan()
    if layer.dhcp is None:
        return demolish(network, facts)
    own = [number for number, record in records.items() if record.kind == NETWORK]
    if not own:
        return Plan()
    runs = ranges(network, layer.dhcp, own[0])
    config = own_object(CONFIGMAP, network, facts)
    server = own_object(DHCPSERVER, network, facts)
    data = {"dnsmasq.conf": generated(network, layer, runs[0])}
    ours = {OPTIONS: options_file(network, layer, runs[1:])}
    ours |= {key_of(network, number): host_line(network, number, record) for number, record in records.items()}
    files = {key: encoded(text) for key, text in ours.items() if text}
    spec = server_spec(network, layer, own[0], runs[0])
    if config is None:
        first = [creation(CONFIGMAP, network, {"data": data, "binaryData": files})]
    else:
        first = mending(CONFIGMAP, config, _config_fields(network, data, files) | own_again(config, network))
    if server is None:
        second = [creation(DHCPSERVER, network, {"spec": spec})]
    else:
        fields: dict[tuple[str, ...], object] = {("spec", key): spec.get(key) for key in ("networks", "nodeSelector")}
        second = mending(DHCPSERVER, server, fields | own_again(server, network))
    return Plan(tuple(tuple(stage) for stage in (first, second) if stage))


def demolish(network: Network, facts: Facts) -> Plan:
    """Takes the server away, then its configuration, if they are the network's."""
    if DHCPSERVER not in facts.served:
        return Plan()
    server = own_object(DHCPSERVER, network, facts)
    config = own_object(CONFIGMAP, network, facts)
    stages = []
    if server is not None and is_own(server, network):
        stages.append((deletion(DHCPSERVER, server),))
    if config is not None and (is_own(config, network) or _server_made_it(network, facts)):
        stages.append((deletion(CONFIGMAP, config),))
    return Plan(tuple(stages))


def problem(network: Network, layer: Layer2, facts: Facts) -> str:
    """Why no addresses are served; "" where they are, or need not be."""
    if layer.dhcp is None:
        return ""
    for resource in (DHCPSERVER, CONFIGMAP):
        if own_object(resource, network, facts) is None:
            return f"{resource.ref(network.name, network.namespace)} is missing"
    return ""


def describe(network: Network, layer: Layer2, facts: Facts) -> list[tuple[str, str]]:
    """The server, and what it hands out."""
    if layer.dhcp is None or DHCPSERVER not in facts.served:
        return [("DHCP", "none")] if layer.dhcp is None else []
    server = own_object(DHCPSERVER, network, facts)
    address = dig(
        server, "spec", "networks", 0, "interfaceIp", default=f"({facts.absence(own_read(DHCPSERVER, network))})"
    )
    rows = [("DHCP", f"{address.partition('/')[0]}, leases of {layer.dhcp.lease}")]
    return [*rows, ("DNS", ", ".join(map(str, layer.dns)))] if layer.dns else rows


def server_reads(network: Network, facts: Facts) -> tuple[Read, ...]:
    """What to read to know the address of the network's DHCP server."""
    return (own_read(DHCPSERVER, network),) if DHCPSERVER in facts.served else ()


def server_use(network: Network, facts: Facts) -> list[Use]:
    """The address that the network's DHCP server has, whatever the ledger says: the network's own."""
    found = facts.ask(*server_reads(network, facts))
    server = found[0] if found else None
    try:
        address = parse_address(str(dig(server, "spec", "networks", 0, "interfaceIp", default="")).partition("/")[0])
    except UsageMistake:
        return []
    if server is None or address not in network:
        return []
    ref = DHCPSERVER.ref(network.name, network.namespace)
    return [Use(int(address), How.HELD, ref, network.namespace, network.name, network.uid)]


# -- addresses -------------------------------------------------------------------------------------------------------


def provide(network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
    """Keeps addresses for their holders. The patches of one plan go as one: each writes its own file only.

    Raises:
        Refused: there is no configuration, or it may not be read.
    """
    read = own_read(CONFIGMAP, network)
    config = own_object(CONFIGMAP, network, facts)
    ref = CONFIGMAP.ref(network.name, network.namespace)
    if why := facts.why_unknown(read):
        raise Refused(f"the DHCP server's {ref} cannot be read: {why}", "Ask an administrator for this right.")
    if config is None:
        raise Refused(
            f"the DHCP server's {ref} is missing", f"Make it with `kubectl yoshi sync -n {network.namespace}`."
        )
    changes = []
    for number, record in records.items():
        key, line = key_of(network, number), encoded(host_line(network, number, record))
        if dig(config, "binaryData", key) == line:
            continue
        says = f"keep {network.address(number)} for {record.holder} in {ref}"
        changes.append(_shared(config, key, line, says, record.subject))
    return Plan().beside(Plan((tuple(changes),))) if changes else Plan()


def retract(network: Network, numbers: Iterable[int], facts: Facts, subject: str = "") -> LetGo:
    """How addresses are kept for nobody any more; `subject` is whom the changes are for."""
    read = own_read(CONFIGMAP, network)
    config = own_object(CONFIGMAP, network, facts)
    if why := facts.why_unknown(read):
        return LetGo(obstacle=f"whether the DHCP server keeps it is unknown: {why}")
    changes = []
    for number in numbers:
        key = key_of(network, number)
        kept = dig(config, "binaryData", key)
        if kept is not None:
            assert config is not None
            says = f"no longer keep {network.address(number)} for {subject or _client(kept)} in {_ref(config)}"
            changes.append(_shared(config, key, None, says, subject))
    return LetGo(Plan().beside(Plan((tuple(changes),)))) if changes else LetGo()


def kept_for_others(network: Network, records: Mapping[int, Record], facts: Facts) -> set[int]:
    """Those of these addresses whose files bear the time of another record."""
    config = own_object(CONFIGMAP, network, facts)
    found = set()
    for number, record in records.items():
        file = _text(dig(config, "binaryData", key_of(network, number), default=""))
        since = re.match(r"# (\S+)$", file, re.MULTILINE)
        if since is not None and since[1] != record.since:
            found.add(number)
    return found


def concerns(network: Network, number: int, facts: Facts) -> tuple[str, ...]:
    """That a server which runs does not know of the address yet: its disk is made of the ConfigMap when it starts."""
    config = own_object(CONFIGMAP, network, facts)
    if dig(config, "binaryData", key_of(network, number)) is not None:
        return ()
    server = Read(VM, network.namespace, f"{network.name}-0")  # of the VirtualMachinePool that luigi's controller makes
    instance = Read(VMI, network.namespace, server.name)
    if not facts.ask(server, instance) or not facts.ask(instance):
        return ()
    restart = f"virtctl restart {server.name} -n {network.namespace}"
    return (f"the DHCP server of network {network.full_name} learns of its addresses when it starts: {restart}",)


def strays(network: Network, recorded: Recorded, facts: Facts) -> Plan:
    """Takes away files that keep addresses for which there is no record."""
    config = own_object(CONFIGMAP, network, facts)
    kept = [number for key in dig(config, "binaryData", default={}) if (number := _number_of(network, key)) is not None]
    if not kept:
        return Plan()
    records = recorded()
    return retract(network, [number for number in kept if number not in records], facts).plan


def _number_of(network: Network, key: str) -> int | None:
    try:
        address = parse_address(key.removesuffix(".conf"))
    except UsageMistake:
        return None
    return int(address) if address in network else None


def _ref(config: Json) -> ObjectRef:
    return CONFIGMAP.ref(name_of(config), namespace_of(config))


def _client(file: str) -> str:
    """Whom an address's file keeps it for, as far as the file tells: "02:aa:bb:cc:dd:ee", "a reservation"."""
    said = re.search(r"^dhcp-host=([^,\s]+)", _text(file), re.MULTILINE)
    if said is None:
        return "somebody unknown"
    return "a reservation" if said[1].startswith("id:reserved-") else said[1]


def _text(file: str) -> str:
    """A file's text; "" where it is none."""
    try:
        return b64decode(file).decode()
    except ValueError:
        return ""


def _shared(config: Json, key: str, value: str | None, says: str, subject: str) -> Change:
    """Writes one file (None: removes it), so that patches of several hands can be joined."""
    patch = PatchBuilder.of_uid(uid_of(config))
    patch.set_keys(config, ("binaryData",), {key: value})
    return Change(Verb.PATCH, _ref(config), says, patch.ops, before=config, subject=subject, shared=True)


# -- what the files say ----------------------------------------------------------------------------------------------


def for_strangers(network: Network, dhcp: Dhcp, own: int) -> Intervals:
    """The addresses of the ranges: those that the network hands out, inside the DHCP range, without the server's own.

    Addresses that are held are taken out by their dhcp-host lines.
    """
    found = network.usable - Intervals.of_numbers([own])
    if dhcp.first is not None and dhcp.last is not None:
        found &= Intervals.of([(int(dhcp.first), int(dhcp.last))])
    return found


def ranges(network: Network, dhcp: Dhcp, own: int) -> list[Span]:
    """The runs of addresses that strangers may get: the largest first, which is the DHCPServer's, the rest in order.

    Raises:
        Refused: there is none.
    """
    spans = for_strangers(network, dhcp, own).spans
    if not spans:
        raise Refused(
            f"network {network.full_name} has no address left that DHCP may hand out",
            "Widen its range or its DHCP range, or do without a DHCP server (--no-dhcp).",
        )
    largest = max(spans, key=lambda span: span[1] - span[0])
    return [largest, *(span for span in spans if span != largest)]


def server_spec(network: Network, layer: Layer2, own: int, span: Span) -> Json:
    """The DHCPServer's spec, with None for what must not be there; its address bears the prefix length, which the
    server's network configuration needs."""
    assert network.cidr is not None
    assert layer.dhcp is not None
    first, last = (str(address_of(end, 4)) for end in span)
    cidr: Json = {"range": str(network.cidr), "range_start": first, "range_end": last}
    cidr["gateway"] = str(network.gateway) if network.gateway is not None else None
    served: Json = {
        "networkName": network.name,
        "interfaceIp": f"{network.address(own)}/{network.cidr.prefixlen}",
        "leaseDuration": layer.dhcp.lease,
        "cidr": cidr,
        "vlanId": str(layer.vlan) if layer.vlan else None,
    }
    return {"networks": [served], **({"nodeSelector": dict(layer.nodes)} if layer.nodes else {})}


def generated(network: Network, layer: Layer2, span: Span) -> str:
    """The file that luigi's controller makes of the DHCPServer, to the byte (its genConfigMap).

    With a VLAN its line for the router has "set:" where dnsmasq wants "tag:", so that it tells nobody; the options'
    file says it again.
    """
    tag = f"set:{layer.vlan}," if layer.vlan else ""
    router = f"dhcp-option={tag}{ROUTER},{network.gateway}\n" if network.gateway is not None else ""
    return f"port=0\n{range_line(network, layer, span)}{router}interface={SERVER_INTERFACE}\n"


def range_line(network: Network, layer: Layer2, span: Span) -> str:
    """A run of addresses as dnsmasq reads it."""
    assert isinstance(network.cidr, IPv4Network)
    assert layer.dhcp is not None
    tag = f"set:{layer.vlan}," if layer.vlan else ""
    first, last = (address_of(end, 4) for end in span)
    return f"dhcp-range={tag}{first},{last},{network.cidr.netmask},{layer.dhcp.lease}\n"


def options_file(network: Network, layer: Layer2, further: list[Span]) -> str:
    """What machines are told, and the further ranges.

    A network without a gateway names no router, or dnsmasq would name itself.
    """
    assert layer.dhcp is not None
    router = f",{network.gateway}" if network.gateway is not None else ""
    text = f"dhcp-option={ROUTER}{router}\n"
    if layer.dns:
        text += f"dhcp-option={DNS_SERVERS},{','.join(map(str, layer.dns))}\n"
    if layer.mtu:
        text += f"dhcp-option={MTU},{layer.mtu}\n"
    return text + "".join(range_line(network, layer, span) for span in further)


def key_of(network: Network, number: int) -> str:
    """The name of the file that keeps an address for who holds it."""
    return f"{network.address(number)}.conf"


def host_line(network: Network, number: int, record: Record) -> str:
    """The file's content: the address for its holder's MAC, or, of a reservation, for an id that nobody has.

    The record's time is in it, so that whoever takes a file away (testing what is in it) never takes that of a record
    which was renewed meanwhile.
    """
    if record.kind == NETWORK:
        return ""  # dnsmasq never gives away its own
    address = network.address(number)
    since = f"# {record.since}\n" if record.since else ""
    return f"{since}dhcp-host={record.mac or f'id:reserved-{address}'},{address}\n"


def encoded(text: str) -> str:
    """A file as binaryData has it."""
    return b64encode(text.encode()).decode()


def _config_fields(
    network: Network, data: Mapping[str, str], files: Mapping[str, str]
) -> dict[tuple[str, ...], object]:
    fields: dict[tuple[str, ...], object] = {("data", key): text for key, text in data.items()}
    fields |= {("binaryData", key): text for key, text in files.items()}
    return fields | {(*ANNOTATIONS, key): text for key, text in marks_of(network).items()}


def _server_made_it(network: Network, facts: Facts) -> bool:
    """Whether luigi's controller has made the ConfigMap, or made it anew, for the network's own DHCPServer."""
    config = own_object(CONFIGMAP, network, facts)
    server = own_object(DHCPSERVER, network, facts)
    return config is not None and server is not None and is_own(server, network) and is_owned_by(config, server)
