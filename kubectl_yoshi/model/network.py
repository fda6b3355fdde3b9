"""A network: a NetworkWizard's spec as a value that is right by construction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kubectl_yoshi import __version__
from kubectl_yoshi.model.addresses import (
    Address,
    Cidr,
    Intervals,
    address_of,
    parse_address,
    parse_cidr,
    parse_span,
    span_of,
    usable_hosts,
)
from kubectl_yoshi.model.durations import parse_duration
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.history import RETENTION_SECONDS
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, annotations_of, dig, name_of, namespace_of, uid_of

GROUP = "plumber.k8s.pf9.io"
NETWORKWIZARD = Resource(GROUP, "v1", "networkwizards", "NetworkWizard")
ADDRESSBLOCK = Resource(GROUP, "v1", "addressblocks", "AddressBlock")

MAX_ASN = 4294967295  # RFC 6793
REQUIRES_ANNOTATION = f"{GROUP}/requires"
"""Annotation: the earliest version of this program that understands what is recorded of a network."""
STATUS_SEARCH_FROM = ("status", "searchFrom")
STATUS_CONTENDED = ("status", "contendedAt")
DEFAULT_MY_ASN = 64512  # the original's constants, which its code never used
DEFAULT_REMOTE_ASN = 64514
HOST_ROUTE_PLUGIN = "public"
"""The plugin that announces each address by itself (/32, /128), so that it need not be in the network's CIDR."""


@dataclass(frozen=True)
class Peer:
    """A router to speak BGP with.

    Attributes:
        address: its IP address.
        reachable_by: the gateway through which it is reached, if not directly.
        multihop: it is more than one hop away (eBGP).
        password_secret: name of the Secret that holds the session's password; "" for none.
    """

    address: Address
    reachable_by: Address | None = None
    multihop: bool = False
    password_secret: str = ""


@dataclass(frozen=True)
class Bgp:
    """spec.bgpConfig: both ASNs are 1..4294967295."""

    my_asn: int
    remote_asn: int
    peers: tuple[Peer, ...]


@dataclass(frozen=True)
class Network:
    """One network, one address family.

    Attributes:
        namespace, name, uid: of the NetworkWizard; uid is "" while it is not made yet.
        plugin: "calico", "public" or "ovs".
        cidr: without host bits; None for a public network that only has explicit addresses.
        host_bits: the CIDR was written with host bits, which were dropped.
        usable: every address that may be handed out: hosts of the CIDR inside the range, without excluded ones and
            the gateway (invariant I4).
        gateway: spec.gateway.
        bgp: spec.bgpConfig.
        options: the spec's section for its plugin (spec.calico, spec.public, spec.ovs), as written.
        cool_down: for how many seconds an address that was given back is not handed out to others.
        max_per_namespace: how many addresses the VMs of one namespace may hold; None for as many as there are.
        raw: the object as read.
    """

    namespace: str
    name: str
    uid: str
    plugin: str
    cidr: Cidr | None
    host_bits: bool
    usable: Intervals
    gateway: Address | None
    bgp: Bgp | None
    options: Mapping[str, Any]
    cool_down: float
    max_per_namespace: int | None
    raw: Json = field(compare=False, repr=False)

    @property
    def ref(self) -> ObjectRef:
        """The NetworkWizard."""
        return NETWORKWIZARD.ref(self.name, self.namespace)

    @property
    def full_name(self) -> str:
        """ "namespace/name", as --network takes it."""
        return f"{self.namespace}/{self.name}"

    @property
    def deleting_since(self) -> str:
        """When its deletion was begun (RFC 3339): from then on no address of it is given out; "" where it was not."""
        return str(dig(self.raw, "status", "deleting", default=""))

    @property
    def is_deleting(self) -> bool:
        """Whether it is being deleted, by this program or by kubectl."""
        return bool(self.deleting_since or dig(self.raw, "metadata", "deletionTimestamp"))

    @property
    def is_created(self) -> bool:
        """Whether its back-end's objects were made, and nothing has been found in their way since."""
        return bool(dig(self.raw, "status", "created"))

    @property
    def is_edited(self) -> bool:
        """Whether its spec was changed since the object was made, so that something may be there by what it said."""
        return int(dig(self.raw, "metadata", "generation", default=1)) > 1

    @property
    def is_initialized(self) -> bool:
        """Whether its ledger says who has its addresses: not while it was not made yet, nor when its status was lost.

        The original wrote no map of allocations for a network without any.
        """
        return dig(self.raw, "status", "allocations") is not None or self.is_created

    @property
    def search_from(self) -> int:
        """The address from which on a free one is looked for in a large network; 0 for the lowest.

        Only a hint, which may be out of date: what is below may be free again, and what is above may be held.
        """
        try:
            address = parse_address(str(dig(self.raw, *STATUS_SEARCH_FROM, default="")))
        except UsageError:
            return 0
        return int(address) if address in self else 0

    @property
    def contended_at(self) -> str:
        """When two writers of a large network last wanted one address (RFC 3339); "" where they never did. A hint."""
        return str(dig(self.raw, *STATUS_CONTENDED, default=""))

    @property
    def requires(self) -> str:
        """The version that what is recorded here requires, where that is a later one than this; else ""."""
        version = annotations_of(self.raw).get(REQUIRES_ANNOTATION, "")
        return version if is_newer(version) else ""

    def relative_name(self, namespace: str) -> str:
        """The shortest name that means this network in a namespace."""
        return self.name if namespace == self.namespace else self.full_name

    @property
    def version(self) -> int:
        """4 or 6: the family of the CIDR. 4 where there is none, though such a network may hold addresses of both."""
        if self.cidr is not None:
            return self.cidr.version
        return 4

    @property
    def accepts_outside_cidr(self) -> bool:
        """Whether it holds addresses outside its CIDR too, or has none: those that somebody asks for by name."""
        return self.cidr is None or self.plugin == HOST_ROUTE_PLUGIN

    def can_hold(self, address: Address) -> bool:
        """Whether it may hold an address: one of its CIDR, or of the same family where it takes those outside."""
        if self.cidr is None:
            return True
        return address in self or (self.accepts_outside_cidr and address.version == self.version)

    @cached_property
    def cidr_addresses(self) -> Intervals:
        """Every address of the CIDR, usable or not."""
        return Intervals.from_spans([span_of(self.cidr)]) if self.cidr else Intervals()

    def __contains__(self, address: Address) -> bool:
        return self.cidr is not None and address.version == self.cidr.version and address in self.cidr

    def address(self, number: int) -> Address:
        """The address object of an integer of this network (one without a CIDR may hold both families)."""
        return address_of(number, self.version if self.cidr is not None else 4 if number < 1 << 32 else 6)

    def unusable_reason(self, address: Address) -> str:
        """Why an address is never handed out here; "" if it may be, if only to who asks for it by name."""
        if self.cidr is None:
            return ""
        if address not in self:
            return "" if self.can_hold(address) else f"it is outside {self.cidr}"
        number = int(address)
        if number in self.usable:
            return ""
        if number not in usable_hosts(self.cidr):
            return "it is the network or broadcast address"
        if self.gateway is not None and number == int(self.gateway):
            return "it is the gateway"
        first, last = dig(self.raw, "spec", "range_start"), dig(self.raw, "spec", "range_end")
        if (first and number < int(parse_address(first))) or (last and number > int(parse_address(last))):
            return f"it is outside the range {first or 'start'}-{last or 'end'}"
        return "it is excluded"


def parse_network(obj: Json) -> Network:
    """A NetworkWizard object as a Network.

    Raises:
        UsageError: the spec says something that cannot be; the message names the network and the field.
    """
    name = name_of(obj)
    try:
        spec = _object(obj, "spec")
        plugin = str(spec.get("plugin") or "")
        cidr, host_bits = parse_cidr(str(spec["cidr"]), "cidr") if spec.get("cidr") else (None, False)
        gateway = _address_in(spec, "gateway")
        return Network(
            namespace=namespace_of(obj),
            name=name,
            uid=uid_of(obj),
            plugin=plugin,
            cidr=cidr,
            host_bits=host_bits,
            usable=_usable(cidr, gateway, spec),
            gateway=gateway,
            bgp=parse_bgp(_object(spec, "bgpConfig")) if spec.get("bgpConfig") else None,
            options=_object(spec, plugin),
            cool_down=parse_cool_down(spec.get("coolDown")),
            max_per_namespace=_quota(spec.get("maxAddressesPerNamespace")),
            raw=obj,
        )
    except UsageError as error:
        fix_hint = f" Correct it with: kubectl edit networkwizard {name} -n {namespace_of(obj)}" if uid_of(obj) else ""
        raise UsageError(f'network "{name}": {error.message}', error.hint + fix_hint) from None


def parse_minimal_network(obj: Json) -> Network:
    """What of a NetworkWizard can be told whatever else its spec says: its name, plugin and CIDR, by which its records
    are found.
    """
    spec = {key: dig(obj, "spec", key) for key in ("plugin", "cidr")}
    try:
        return replace(parse_network({**obj, "spec": spec}), raw=obj)
    except UsageError:
        return replace(parse_network({**obj, "spec": {"plugin": spec["plugin"]}}), raw=obj)


def _object(obj: Json, key: str) -> Json:
    """A field that holds an object, {} where it is missing. A file may hold anything: no API server has checked it."""
    value = obj.get(key) or {}
    if not isinstance(value, dict):
        raise UsageError(f"{key} is not an object", "Write its fields under it, one a line.")
    return value


def _address_in(spec: Json, key: str) -> Address | None:
    return parse_address(str(spec[key]), key) if spec.get(key) else None


def parse_cool_down(value: Any, field_name: str = "coolDown") -> float:
    """Return the seconds of a duration such as "10m" or "1h30m"; 0 where there is none.

    Raises:
        UsageError: it is no duration as the CRD has it, or longer than histories are kept.
    """
    if value is None:
        return 0.0
    if not isinstance(value, str) or not re.fullmatch(r"([0-9]+[hms])+", value):
        raise UsageError(f'{field_name} "{value}" is no duration', "Write it as 10m or 1h30m.")
    seconds = parse_duration(value)
    if seconds > RETENTION_SECONDS:
        raise UsageError(f'{field_name} "{value}" is longer than 30 days', "Write 720h or less.")
    return seconds


def _quota(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(
            f'maxAddressesPerNamespace "{value}" is no number of addresses', "Give a number from 1 on, or leave it out."
        )
    return value


def _usable(cidr: Cidr | None, gateway: Address | None, spec: Json) -> Intervals:
    if cidr is None:
        for key in ("range_start", "range_end", "exclude", "gateway"):
            if spec.get(key):
                raise UsageError(f"{key} needs a cidr", "Give the network a cidr, or leave the field out.")
        return Intervals()
    usable = usable_hosts(cidr)
    first, last = span_of(cidr)
    start, end = _address_in(spec, "range_start"), _address_in(spec, "range_end")
    for what, end_of_range in (("range_start", start), ("range_end", end), ("gateway", gateway)):
        if end_of_range is not None and (end_of_range.version != cidr.version or end_of_range not in cidr):
            raise UsageError(f"{what} {end_of_range} is outside {cidr}", "Choose an address of the network.")
    lowest, highest = int(start) if start else first, int(end) if end else last
    if lowest > highest:
        raise UsageError(f"range_start {start} is above range_end {end}", f"Write the range as {end}-{start}.")
    usable &= Intervals.from_spans([(lowest, highest)])
    excluded_spans = []
    excluded = spec.get("exclude") or []
    if not isinstance(excluded, list):
        raise UsageError("exclude is not a list", "Write it as [10.133.1.0/28, 10.133.2.10-10.133.2.20].")
    for item in excluded:
        span, version = parse_span(str(item), "exclude")
        if version != cidr.version or span[1] < first or span[0] > last:
            raise UsageError(f'exclude "{item}" is outside {cidr}', "Exclude addresses of the network only.")
        excluded_spans.append(span)
    if gateway is not None:
        excluded_spans.append((int(gateway), int(gateway)))
    usable -= Intervals.from_spans(excluded_spans)
    if not usable:
        raise UsageError(f"no address of {cidr} is left to hand out", "Widen the range, or exclude fewer addresses.")
    return usable


def parse_asn(value: Any, field_name: str) -> int:
    """An autonomous system number, 1..4294967295 (RFC 6793); "64512" and 64512 both.

    Raises:
        UsageError: it is none.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= MAX_ASN:
        raise UsageError(f'{field_name} "{value}" is not an ASN', f"Give a number from 1 to {MAX_ASN}.")
    return int(text)


def parse_bgp(config: Json) -> Bgp:
    """spec.bgpConfig; peers as a list of objects or as the README's "10.240.0.5, 10.240.0.4".

    Raises:
        UsageError: a peer is no address, or an ASN is none.
    """
    peers_as_written = config.get("peers") or []
    if isinstance(peers_as_written, str):
        peers_as_written = [{"peerIP": part} for part in peers_as_written.split(",") if part.strip()]
    if not isinstance(peers_as_written, list):
        raise UsageError("bgpConfig.peers is neither a list nor a text", "Write it as 10.240.0.5, 10.240.0.4.")
    peers = []
    for item in peers_as_written:
        peer = {"peerIP": item} if isinstance(item, str) else item
        if not isinstance(peer, dict) or not peer.get("peerIP"):
            raise UsageError("a peer of bgpConfig has no peerIP", "Give each peer its address as peerIP.")
        gateway = peer.get("reachableBy")
        peers.append(
            Peer(
                parse_address(str(peer["peerIP"]), "bgpConfig.peers.peerIP"),
                parse_address(str(gateway), "bgpConfig.peers.reachableBy") if gateway else None,
                bool(peer.get("multihop", False)),
                str(peer.get("passwordSecret") or ""),
            )
        )
    if len({peer.address for peer in peers}) != len(peers):
        raise UsageError("bgpConfig.peers names one peer twice", "Name each peer once.")
    my_asn, remote_asn = config.get("myASN"), config.get("remoteASN")
    return Bgp(
        parse_asn(DEFAULT_MY_ASN if my_asn is None else my_asn, "bgpConfig.myASN"),
        parse_asn(DEFAULT_REMOTE_ASN if remote_asn is None else remote_asn, "bgpConfig.remoteASN"),
        tuple(peers),
    )


def parse_network_name(text: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of a network as users write it: "name" or "namespace/name".

    Raises:
        UsageError: it is neither.
    """
    first, slash, second = text.strip().partition("/")
    where, name = (first, second) if slash else (namespace, first)
    if not where or not name or "/" in name:
        raise UsageError(f'"{text}" is not the name of a network', "Write NAME or NAMESPACE/NAME.")
    return where, name


def has_precedence(one: Network, other: Network) -> bool:
    """Of two networks that cannot both be, whether the one is to stay: it is made and the other is not; or, where that
    does not tell, it is the older one (by its creation time, then by its uid, so that everybody agrees on it)."""
    return one.is_created if one.is_created != other.is_created else _creation_key(one) < _creation_key(other)


def _creation_key(network: Network) -> tuple[str, str]:
    return str(dig(network.raw, "metadata", "creationTimestamp", default="9999")), network.uid


def is_newer(version: str) -> bool:
    """Whether a version, such as "0.10.0", is a later one than this; "" is none."""
    return _numbers(version) > _numbers(__version__)


def _numbers(version: str) -> tuple[int, ...]:
    """A version as it is compared: 0.10.0 is later than 0.9.1; () where there is none."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
