"""Parse and validate the spec of a NetworkWizard into an immutable `Network`."""

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
    Span,
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
from kubectl_yoshi.model.objects import (
    Json,
    NamespacedName,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    name_of,
    namespace_of,
    uid_of,
)

GROUP = "plumber.k8s.pf9.io"
NETWORKWIZARD = Resource(GROUP, "v1", "networkwizards", "NetworkWizard")
ADDRESSBLOCK = Resource(GROUP, "v1", "addressblocks", "AddressBlock")

PART_OF_LABEL = ("app.kubernetes.io/part-of", "kubectl-yoshi")
"""The label of all objects that `install` creates."""
VERSION_ANNOTATION = f"{GROUP}/version"
"""Annotation: the version of this program that installed the object."""

MAX_ASN = 4294967295  # RFC 6793
VERSION_ANNOTATION = f"{GROUP}/version"
"""Annotation: the version of this program that installed the object."""
REQUIRES_ANNOTATION = f"{GROUP}/requires"
"""Annotation: the earliest version of this program that understands the allocations recorded for the network."""
STATUS_SEARCH_FROM = ("status", "searchFrom")
STATUS_CONTENDED = ("status", "contendedAt")
STATUS_RESERVED_FOR_VMS = ("status", "reservedForVMs")
DEFAULT_MY_ASN = 64512  # both defaults are constants of Platform9 yoshi, whose code never used them
DEFAULT_REMOTE_ASN = 64514
HOST_ROUTE_PLUGIN = "public"
"""The plugin that announces single addresses (/32, /128), so that an address may lie outside the network's CIDR."""


@dataclass(frozen=True)
class Peer:
    """A router that the cluster opens a BGP session with.

    Attributes:
        address: IP address of the router.
        reachable_by: the gateway that leads to it; None if it is directly connected.
        multihop: whether it is more than one hop away (eBGP multihop).
        password_secret: name of the Secret with the session's password; "" for none.
    """

    address: Address
    reachable_by: Address | None = None
    multihop: bool = False
    password_secret: str = ""


@dataclass(frozen=True)
class Bgp:
    """The BGP configuration (spec.bgpConfig); both ASNs are in the range 1..4294967295 (RFC 6793)."""

    my_asn: int
    remote_asn: int
    peers: tuple[Peer, ...]


@dataclass(frozen=True)
class Network:
    """A network of one address family; a network without a CIDR may hold addresses of both.

    Attributes:
        namespace, name, uid: of the NetworkWizard; uid is "" if the object does not exist yet.
        plugin: "calico", "public" or "ovs".
        cidr: the network without host bits; None for a public network that has explicit addresses only.
        host_bits: whether the CIDR was written with host bits, which are dropped.
        usable: every address that may be allocated: the hosts of the CIDR inside the range, without the excluded
            addresses and the gateway (invariant I4).
        gateway: spec.gateway.
        bgp: spec.bgpConfig.
        options: the spec's section for its plugin (spec.calico, spec.public, spec.ovs), as written.
        cool_down: seconds after its release during which an address is not allocated to another VM; 0 or more.
        max_per_namespace: maximum number of addresses that the VMs of one namespace may hold; None for no limit.
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
        """Return the reference of the NetworkWizard."""
        return NETWORKWIZARD.ref(self.name, self.namespace)

    @property
    def full_name(self) -> str:
        """Return "namespace/name", the form that --network takes."""
        return f"{self.namespace}/{self.name}"

    @property
    def deleting_since(self) -> str:
        """Return when the deletion began (RFC 3339); "" if it did not.

        No address of the network is allocated from then on.
        """
        return str(dig(self.raw, "status", "deleting", default=""))

    @property
    def is_deleting(self) -> bool:
        """Return whether the network is being deleted, by this program or by kubectl."""
        return bool(self.deleting_since or dig(self.raw, "metadata", "deletionTimestamp"))

    @property
    def is_created(self) -> bool:
        """Return whether the objects of its backend were created and no conflict has been found since."""
        return bool(dig(self.raw, "status", "created"))

    @property
    def is_edited(self) -> bool:
        """Return whether the spec was changed after the object was created.

        Objects that follow an earlier spec may then exist.
        """
        return int(dig(self.raw, "metadata", "generation", default=1)) > 1

    @property
    def is_initialized(self) -> bool:
        """Return whether the recorded allocations are complete.

        They are not before the network is created, nor after its status was lost. A missing map alone does not prove
        either: Platform9 yoshi wrote no map for a network without allocations.
        """
        return dig(self.raw, "status", "allocations") is not None or self.is_created

    @property
    def search_from(self) -> int:
        """Return the address at which the search for a free address begins in a large network; 0 for the lowest.

        This is a hint and may be outdated: lower addresses may be free again, and higher ones may be allocated.
        """
        try:
            address = parse_address(str(dig(self.raw, *STATUS_SEARCH_FROM, default="")))
        except UsageError:
            return 0
        return int(address) if address in self else 0

    @cached_property
    def reserved_for_vms(self) -> Mapping[int, NamespacedName]:
        """Return address -> namespace and name of the VM for which a large network may have reserved it.

        This is a hint: the reservation itself is in the address's block, and may have been released.
        """
        found: dict[int, NamespacedName] = {}
        for text, vm in (dig(self.raw, *STATUS_RESERVED_FOR_VMS) or {}).items():
            namespace, _, name = str(vm).partition("/")
            try:
                found[int(parse_address(text))] = (namespace, name)
            except UsageError:
                continue
        return found

    @property
    def contended_at(self) -> str:
        """Return when two writers last competed for one address of a large network (RFC 3339); "" if never.

        This is a hint.
        """
        return str(dig(self.raw, *STATUS_CONTENDED, default=""))

    @property
    def requires(self) -> str:
        """Return the version that the recorded allocations require if it is later than this one, else ""."""
        version = annotations_of(self.raw).get(REQUIRES_ANNOTATION, "")
        return version if is_newer(version) else ""

    def relative_name(self, namespace: str) -> str:
        """Return the shortest name that identifies this network in a namespace."""
        return self.name if namespace == self.namespace else self.full_name

    @property
    def version(self) -> int:
        """Return the IP version of the CIDR, 4 or 6.

        It is 4 for a network without a CIDR, although that may hold addresses of both families.
        """
        if self.cidr is not None:
            return self.cidr.version
        return 4

    @property
    def accepts_outside_cidr(self) -> bool:
        """Return whether the network may hold addresses outside its CIDR, or has no CIDR.

        Such an address is allocated only if it is requested explicitly.
        """
        return self.cidr is None or self.plugin == HOST_ROUTE_PLUGIN

    def can_hold(self, address: Address) -> bool:
        """Return whether the network may hold an address.

        The address must be in the CIDR, or of the same family if the network accepts addresses outside its CIDR.
        """
        if self.cidr is None:
            return True
        return address in self or (self.accepts_outside_cidr and address.version == self.version)

    @cached_property
    def cidr_addresses(self) -> Intervals:
        """Return every address of the CIDR, usable or not."""
        return Intervals.from_spans([span_of(self.cidr)]) if self.cidr else Intervals()

    @property
    def range_span(self) -> Span:
        """Return the first and last address of the range, which is the CIDR unless the spec limits it.

        Raises:
            ValueError: the network has no CIDR.
        """
        if self.cidr is None:
            raise ValueError(f"{self.full_name} has no CIDR")
        first, last = span_of(self.cidr)
        start, end = dig(self.raw, "spec", "range_start"), dig(self.raw, "spec", "range_end")
        return int(parse_address(start)) if start else first, int(parse_address(end)) if end else last

    def __contains__(self, address: Address) -> bool:
        return self.cidr is not None and address.version == self.cidr.version and address in self.cidr

    def address(self, number: int) -> Address:
        """Convert an integer to an address of this network (one without a CIDR may hold both families)."""
        return address_of(number, self.version if self.cidr is not None else 4 if number < 1 << 32 else 6)

    def unusable_reason(self, address: Address) -> str:
        """Return why an address is never allocated here.

        Returns:
            "" if it may be allocated, even if only on explicit request.
        """
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
        start, end = dig(self.raw, "spec", "range_start"), dig(self.raw, "spec", "range_end")
        first, last = self.range_span
        if not first <= number <= last:
            return f"it is outside the range {start or 'start'}-{end or 'end'}"
        return "it is excluded"


def get_readiness(obj: Json) -> str:
    """Return the status of a NetworkWizard's condition Ready, "True", "False" or "Unknown".

    Platform9 yoshi writes the field `created` instead.
    """
    for condition in dig(obj, "status", "conditions", default=[]):
        if condition.get("type") == "Ready":
            return str(condition.get("status"))
    created = dig(obj, "status", "created")
    return "Unknown" if created is None else str(bool(created))


def parse_network(obj: Json) -> Network:
    """Parse a NetworkWizard object.

    Raises:
        UsageError: a field of the spec is invalid; the message names the network and the field.
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
    """Parse the name, plugin and CIDR of a NetworkWizard, whatever the rest of its spec contains.

    These fields suffice to find the network's allocations.
    """
    spec = {key: dig(obj, "spec", key) for key in ("plugin", "cidr")}
    try:
        return replace(parse_network({**obj, "spec": spec}), raw=obj)
    except UsageError:
        return replace(parse_network({**obj, "spec": {"plugin": spec["plugin"]}}), raw=obj)


def _object(obj: Json, key: str) -> Json:
    """Return a field that holds an object; {} if it is missing.

    A manifest may contain any type here, since no API server has validated it.
    """
    value = obj.get(key) or {}
    if not isinstance(value, dict):
        raise UsageError(f"{key} is not an object", "Write its fields under it, one a line.")
    return value


def _address_in(spec: Json, key: str) -> Address | None:
    return parse_address(str(spec[key]), key) if spec.get(key) else None


def parse_cool_down(value: Any, field_name: str = "coolDown") -> float:
    """Return the seconds of a duration such as "10m" or "1h30m"; 0 for None.

    Raises:
        UsageError: the CRD does not accept the duration, or it is longer than the history is kept (30 days).
    """
    if value is None:
        return 0.0
    if not isinstance(value, str) or not re.fullmatch(r"([0-9]+[hms])+", value):
        raise UsageError(f'{field_name} "{value}" is not a duration', "Write it as 10m or 1h30m.")
    seconds = parse_duration(value)
    if seconds > RETENTION_SECONDS:
        raise UsageError(f'{field_name} "{value}" is longer than 30 days', "Write 720h or less.")
    return seconds


def _quota(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(
            f'maxAddressesPerNamespace "{value}" is not a number of addresses',
            "Give a number from 1 on, or leave it out.",
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
        raise UsageError(f"no address of {cidr} is left to assign", "Widen the range, or exclude fewer addresses.")
    return usable


def parse_asn(value: Any, field_name: str) -> int:
    """Parse an autonomous system number, 1..4294967295 (RFC 6793), given as a number or a string.

    Raises:
        UsageError: it is not an ASN.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= MAX_ASN:
        raise UsageError(f'{field_name} "{value}" is not an ASN', f"Give a number from 1 to {MAX_ASN}.")
    return int(text)


def parse_bgp(config: Json) -> Bgp:
    """Parse spec.bgpConfig; peers are a list of objects, or a text such as "10.240.0.5, 10.240.0.4" (as in the README).

    Raises:
        UsageError: a peer is not an address, or an ASN is invalid.
    """
    peers_as_written = config.get("peers") or []
    if isinstance(peers_as_written, str):
        peers_as_written = [{"peerIP": part} for part in peers_as_written.split(",") if part.strip()]
    if not isinstance(peers_as_written, list):
        raise UsageError("bgpConfig.peers is neither a list nor a string", "Write it as 10.240.0.5, 10.240.0.4.")
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
    """Return the namespace and name of a network written as "name" or "namespace/name".

    Args:
        text: the name as the user typed it.
        namespace: the namespace of a name without one.

    Raises:
        UsageError: the text has neither form.
    """
    first, slash, second = text.strip().partition("/")
    where, name = (first, second) if slash else (namespace, first)
    if not where or not name or "/" in name:
        raise UsageError(f'"{text}" is not the name of a network', "Write NAME or NAMESPACE/NAME.")
    return where, name


def has_precedence(one: Network, other: Network) -> bool:
    """Return whether `one` stays when two networks conflict.

    A created network takes precedence over one that is not; otherwise the older one does. Age is compared by creation
    time, then by uid, so that every client reaches the same decision.
    """
    return one.is_created if one.is_created != other.is_created else _creation_key(one) < _creation_key(other)


def _creation_key(network: Network) -> tuple[str, str]:
    return str(dig(network.raw, "metadata", "creationTimestamp", default="9999")), network.uid


def is_newer(version: str) -> bool:
    """Return whether a version such as "0.10.0" is later than this program's; False for ""."""
    return _numbers(version) > _numbers(__version__)


def is_older(version: str) -> bool:
    """Return whether a version such as "0.10.0" is earlier than this program's; True for ""."""
    return _numbers(version) < _numbers(__version__)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version for comparison, so that 0.10.0 is later than 0.9.1; () if there are none."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
