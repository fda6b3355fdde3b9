"""Manage the BGPPeers of Calico and MetalLB: one per router, shared by the networks that announce to it.

An existing one is used if it matches what the network requests, even if yoshi did not create it. Otherwise it is
changed if yoshi created it and no other network needs it as it is; else it stays as it is, and the network has a
conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from kubectl_yoshi.backends.ensure import set_fields, spec_fields
from kubectl_yoshi.backends.ownership import (
    add_annotations,
    add_needing_network,
    get_needing_networks,
    is_created_by_yoshi,
    needed_by_annotation,
    remove_needing_networks,
    shared_object_annotations,
)
from kubectl_yoshi.model.addresses import Address, to_name_part
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, differing_fields, matches
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, Peer, parse_network
from kubectl_yoshi.model.objects import (
    Json,
    ObjectRef,
    Resource,
    dig,
    name_of,
    namespace_of,
    new_object,
    resource_version_of,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot


def peer_name(peer: Peer) -> str:
    """Return the name of a peer's object, valid for both families: "yoshi-10.240.0.5", "yoshi-2001-0db8-…-0005"."""
    return f"yoshi-{to_name_part(peer.address)}"


@dataclass(frozen=True)
class BgpPeers:
    """The BGPPeers of one speaker.

    Attributes:
        speaker: the name of the BGP speaker, as printed.
        resource: its BGPPeers.
        namespace: their namespace; None if they are cluster-scoped.
        spec: returns the spec of a new one.
        get_peer_address: returns the router's address from one; None if it has none.
        compared: the fields of the spec that must match the network's request.
        fields: the meaning of these fields.
    """

    speaker: str
    resource: Resource
    namespace: str | None
    spec: Callable[[Network, Peer], Json]
    get_peer_address: Callable[[Json], Address | None]
    compared: tuple[str, ...]
    fields: Fields

    def find_peer(self, network: Network, peer: Peer, snapshot: Snapshot) -> tuple[Json | None, NetworkConflict | None]:
        """Return the BGPPeer for a router and the conflict with it.

        Returns:
            the object that matches, or will match once `ensure` has changed it (None for none), and the conflict (None
            for none).
        """
        query = Query(self.resource, self.namespace)
        found = snapshot.lookup(query)
        if reason := snapshot.unreadable_reason(query):
            return None, NetworkConflict(
                f"cannot check whether {self.speaker} already peers with {peer.address}: {reason}", is_unreadable=True
            )
        fixable = conflict = None
        for obj in found:
            if self.get_peer_address(obj) != peer.address:
                if name_of(obj) == peer_name(peer):
                    conflict = NetworkConflict(f"bgppeer/{name_of(obj)} exists and is for another router")
                continue
            stale = self._stale_fields(obj, network, peer)
            if not stale:
                return obj, None
            is_own = is_created_by_yoshi(obj)
            others = self._other_networks_needing(obj, network, peer, snapshot) if is_own else []
            if is_own and not others:
                fixable = obj
                continue
            name, key = name_of(obj), stale[0]
            current_value = self._format_value(key, dig(obj, "spec", key))
            wanted_value = self._format_value(key, self.spec(network, peer).get(key))
            conflict = NetworkConflict(
                f"bgppeer/{name} peers with {peer.address} with {key} {current_value}, as network {others[0]} "
                f"requires, but this network requires {wanted_value}"
                if others
                else f"bgppeer/{name} peers with {peer.address} with {key} {current_value}, but this network requires "
                f"{wanted_value}"
            )
        return (None, conflict) if conflict else (fixable, None)

    def ensure(self, network: Network, snapshot: Snapshot) -> tuple[tuple[Change, ...], tuple[str, ...]]:
        """Return the changes that create or update a network's BGPPeers, and the names of all that it uses."""
        changes: list[Change] = []
        names: list[str] = []
        for peer in _get_peers(network):
            obj, _ = self.find_peer(network, peer, snapshot)
            name = name_of(obj) if obj else peer_name(peer)
            names.append(name)
            ref = self.resource.ref(name, self.namespace)
            if obj is not None:
                change = self._fix_spec(ref, obj, network, peer) or add_needing_network(ref, obj, network)
                changes += [change] if change else []
                continue
            spec = self.spec(network, peer)
            body = new_object(ref, {"spec": spec}, annotations=shared_object_annotations(network))
            changes.append(Change(Verb.CREATE, ref, f"add the BGP peer {peer.address} to {self.speaker}", body=body))
        return tuple(changes), tuple(names)

    def remove_former(self, network: Network, snapshot: Snapshot) -> tuple[Change, ...]:
        """Return the changes that release the BGPPeers of the network's former spec."""
        if not network.is_edited:
            return ()
        wanted = {peer.address for peer in _get_peers(network)}
        former = [
            obj
            for obj in snapshot.lookup(Query(self.resource, self.namespace))
            if self.get_peer_address(obj) not in wanted
        ]
        removals = [
            remove_needing_networks(self.resource.ref(name_of(obj), self.namespace), obj, {network.uid})
            for obj in former
        ]
        return tuple(change for change in removals if change is not None)

    def conflicts(self, network: Network, snapshot: Snapshot) -> Iterator[NetworkConflict]:
        """Return the conflicts with BGPPeers, one at most for each of the network's routers."""
        found = (self.find_peer(network, peer, snapshot)[1] for peer in _get_peers(network))
        return (conflict for conflict in found if conflict is not None)

    def missing_apis(self, network: Network, snapshot: Snapshot) -> str:
        """Return the name of a BGPPeer that the network lacks; "" if it has all."""
        missing_names = [
            peer_name(peer) for peer in _get_peers(network) if self.find_peer(network, peer, snapshot)[0] is None
        ]
        return missing_names[0] if missing_names else ""

    def describe(self, network: Network, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
        """Yield a row for each of the network's routers."""
        for peer in _get_peers(network):
            obj, conflict = self.find_peer(network, peer, snapshot)
            unreadable = snapshot.unreadable_reason(Query(self.resource, self.namespace)) and "cannot be read"
            reason = unreadable or (conflict.summary if conflict else "missing")
            asn = network.bgp.remote_asn if network.bgp else ""
            suffix = ", to be changed by `kubectl yoshi sync`" if obj and self._stale_fields(obj, network, peer) else ""
            yield "Peer", f"{peer.address} (AS {asn}): " + (f"bgppeer/{name_of(obj)}{suffix}" if obj else reason)

    def _changed_fields(self, spec: Json, wanted: Json) -> list[str]:
        return differing_fields(self._compared_fields(wanted), spec, self.fields)

    def _compared_fields(self, spec: Json) -> Json:
        return {key: spec.get(key) for key in self.compared}

    def _stale_fields(self, obj: Json, network: Network, peer: Peer) -> list[str]:
        """Return the fields in which an object differs from a network's request."""
        return self._changed_fields(dig(obj, "spec", default={}), self.spec(network, peer))

    def _other_networks_needing(self, obj: Json, network: Network, peer: Peer, snapshot: Snapshot) -> list[str]:
        """Return the other networks ("prod/far") that need an object created by yoshi as it is.

        Networks that no longer exist, that no longer have that router, or that have the same request do not count.
        """
        names = {name for name in get_needing_networks(obj).values() if name != network.full_name}
        all_networks = Query(NETWORKWIZARD)
        others = snapshot.lookup(all_networks) if names else ()
        if names and snapshot.unreadable_reason(all_networks):
            return sorted(names)
        return sorted(
            name
            for other in others
            if (name := f"{namespace_of(other)}/{name_of(other)}") in names
            and self._needs_other_spec(other, network, peer)
        )

    def _needs_other_spec(self, other: Json, network: Network, peer: Peer) -> bool:
        """Return whether another network requests a different peering with a router; True if its spec is invalid."""
        try:
            parsed = parse_network(other)
        except UsageError:
            return True
        wanted = self.spec(network, peer)
        other_specs = [
            self.spec(parsed, other_peer) for other_peer in _get_peers(parsed) if other_peer.address == peer.address
        ]
        return any(self._changed_fields(spec, wanted) for spec in other_specs)

    def _fix_spec(self, ref: ObjectRef, obj: Json, network: Network, peer: Peer) -> Change | None:
        """Return the change that makes an object from `find_peer` match a network's request; None if it matches."""
        patch = PatchBuilder.for_uid(uid_of(obj))
        patch.test(("metadata", "resourceVersion"), resource_version_of(obj))  # another network may need it by now
        differing = set_fields(patch, obj, spec_fields(self._compared_fields(self.spec(network, peer))), self.fields)
        if not differing:
            return None
        add_annotations(patch, obj, needed_by_annotation(network))
        summary = f"update the BGP peer {peer.address} of {self.speaker}: {', '.join(path[-1] for path in differing)}"
        return Change(Verb.PATCH, ref, summary, patch.ops, before=obj)

    def _format_value(self, key: str, value: object) -> str:
        return "none" if matches(None, value, self.fields, key) else str(value)


def remove_peers(resource: Resource, deleted_uids: Collection[str], snapshot: Snapshot) -> tuple[Change, ...]:
    """Return the changes that delete the BGPPeers needed by these networks (by uid) only, or release them."""
    removals = [
        remove_needing_networks(resource.ref(name_of(obj), namespace_of(obj) or None), obj, deleted_uids)
        for obj in snapshot.lookup(Query(resource))
    ]
    return tuple(change for change in removals if change is not None)


def _get_peers(network: Network) -> tuple[Peer, ...]:
    return tuple(network.bgp.peers) if network.bgp else ()
