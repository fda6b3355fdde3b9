"""BGPPeers, of Calico and of MetalLB: one for each router, shared by the networks that announce to it.

One that is there already, whoever made it, serves a network if it says what the network wants. If it says anything
else, it is made to say so where this program made it and no other network wants it as it is; otherwise it is left as it
is, and the network is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from kubectl_yoshi.backends.marks import first_marks, is_made_here, join, leave, needed_by, needing, set_marks
from kubectl_yoshi.model.addresses import Address, word_of
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, PatchBuilder, Verb
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.matching import Fields, differing, matches
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, Peer, parse_network
from kubectl_yoshi.model.objects import (
    Json,
    ObjectRef,
    Resource,
    dig,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)


def peer_name(peer: Peer) -> str:
    """ "yoshi-10.240.0.5", "yoshi-2001-0db8-…-0005": a valid name for both families."""
    return f"yoshi-{word_of(peer.address)}"


@dataclass(frozen=True)
class Peers:
    """The BGPPeers of one speaker.

    Attributes:
        speaker: who speaks BGP, for people.
        resource: its BGPPeers.
        namespace: where they are; None for those of the whole cluster.
        spec: a new one's spec.
        router: which router one is to; None where it does not say so.
        compared: the fields of its spec that must be as the network wants them.
        fields: what is known of them.
    """

    speaker: str
    resource: Resource
    namespace: str | None
    spec: Callable[[Network, Peer], Json]
    router: Callable[[Json], Address | None]
    compared: tuple[str, ...]
    fields: Fields

    def find_peer(self, network: Network, peer: Peer, facts: Facts) -> tuple[Json | None, Obstacle | None]:
        """The one that serves for a router, or will once `build` has changed it, and what stands in the way (None where
        nothing does)."""
        read = Read(self.resource, self.namespace)
        found = facts.ask(read)
        if why := facts.why_unknown(read):
            return None, Obstacle(
                f"whether {self.speaker} speaks to {peer.address} already cannot be told: {why}", unseen=True
            )
        mendable = in_the_way = None
        for obj in found:
            if self.router(obj) != peer.address:
                if name_of(obj) == peer_name(peer):
                    in_the_way = Obstacle(f"bgppeer/{name_of(obj)} exists and is another router's")
                continue
            stale = self._stale(obj, network, peer)
            if not stale:
                return obj, None
            ours = is_made_here(obj)
            others = self._others_that_want_it(obj, network, peer, facts) if ours else []
            if ours and not others:
                mendable = obj
                continue
            name, key = name_of(obj), stale[0]
            there = self._shown(key, dig(obj, "spec", key))
            mine = self._shown(key, self.spec(network, peer).get(key))
            in_the_way = Obstacle(
                f"bgppeer/{name} speaks to {peer.address} with {key} {there}, as network {others[0]} wants it, "
                f"and this network wants {mine}"
                if others
                else f"bgppeer/{name} speaks to {peer.address} with {key} {there}, and this network wants {mine}"
            )
        return (None, in_the_way) if in_the_way else (mendable, None)

    def build(self, network: Network, facts: Facts) -> tuple[tuple[Change, ...], tuple[str, ...]]:
        """What makes them for a network, and the names of all that serve it."""
        changes: list[Change] = []
        names: list[str] = []
        for peer in _peers_of(network):
            obj, _ = self.find_peer(network, peer, facts)
            name = name_of(obj) if obj else peer_name(peer)
            names.append(name)
            ref = self.resource.ref(name, self.namespace)
            if obj is not None:
                change = self._mended(ref, obj, network, peer) or join(ref, obj, network)
                changes += [change] if change else []
                continue
            where = {"namespace": self.namespace} if self.namespace else {}
            body = {
                "apiVersion": self.resource.api_version,
                "kind": self.resource.kind,
                "metadata": {"name": name, **where, "annotations": first_marks(network)},
                "spec": self.spec(network, peer),
            }
            changes.append(Change(Verb.CREATE, ref, f"have {self.speaker} speak BGP with {peer.address}", body=body))
        return tuple(changes), tuple(names)

    def left_by(self, network: Network, facts: Facts) -> tuple[Change, ...]:
        """What takes back those that a network needed before somebody changed its peers."""
        if not network.is_edited:
            return ()
        wanted = {peer.address for peer in _peers_of(network)}
        former = [obj for obj in facts.ask(Read(self.resource, self.namespace)) if self.router(obj) not in wanted]
        left = [leave(self.resource.ref(name_of(obj), self.namespace), obj, {network.uid}) for obj in former]
        return tuple(change for change in left if change is not None)

    def obstacles(self, network: Network, facts: Facts) -> Iterator[Obstacle]:
        """One for each of the network's routers for which something stands in the way."""
        found = (self.find_peer(network, peer, facts)[1] for peer in _peers_of(network))
        return (in_the_way for in_the_way in found if in_the_way is not None)

    def missing(self, network: Network, facts: Facts) -> str:
        """The name of one that the network lacks; "" where it has all."""
        lacked = [peer_name(peer) for peer in _peers_of(network) if self.find_peer(network, peer, facts)[0] is None]
        return lacked[0] if lacked else ""

    def describe(self, network: Network, facts: Facts) -> Iterator[tuple[str, str]]:
        """A row for each of the network's routers."""
        for peer in _peers_of(network):
            obj, in_the_way = self.find_peer(network, peer, facts)
            unread = facts.why_unknown(Read(self.resource, self.namespace)) and "may not be read"
            why = unread or (in_the_way.says if in_the_way else "missing")
            asn = network.bgp.remote_asn if network.bgp else ""
            later = ", to be changed by `kubectl yoshi sync`" if obj and self._stale(obj, network, peer) else ""
            yield "Peer", f"{peer.address} (AS {asn}): " + (f"bgppeer/{name_of(obj)}{later}" if obj else why)

    def _differing(self, spec: Json, wanted: Json) -> list[str]:
        return differing({key: wanted.get(key) for key in self.compared}, spec, self.fields)

    def _stale(self, obj: Json, network: Network, peer: Peer) -> list[str]:
        """The fields in which an object is not as a network wants it."""
        return self._differing(dig(obj, "spec", default={}), self.spec(network, peer))

    def _others_that_want_it(self, obj: Json, network: Network, peer: Peer, facts: Facts) -> list[str]:
        """The other networks ("prod/far") that need an object of this program's as it is: not those that are gone, have
        that router no more, or want what this one wants."""
        names = {name for name in needing(obj).values() if name != network.full_name}
        everywhere = Read(NETWORKWIZARD)
        others = facts.ask(everywhere) if names else ()
        if names and facts.why_unknown(everywhere):
            return sorted(names)
        return sorted(
            name
            for other in others
            if (name := f"{namespace_of(other)}/{name_of(other)}") in names and self._disagrees(other, network, peer)
        )

    def _disagrees(self, other: Json, network: Network, peer: Peer) -> bool:
        """Whether another network wants a router's peering not as this one does, or that cannot be told yet."""
        try:
            parsed = parse_network(other)
        except UsageMistake:
            return True
        wanted = self.spec(network, peer)
        theirs = [self.spec(parsed, one) for one in _peers_of(parsed) if one.address == peer.address]
        return any(self._differing(spec, wanted) for spec in theirs)

    def _mended(self, ref: ObjectRef, obj: Json, network: Network, peer: Peer) -> Change | None:
        """Makes what `find_peer` has found say what a network wants; None where it does."""
        stale = self._stale(obj, network, peer)
        if not stale:
            return None
        wanted = self.spec(network, peer)
        patch = PatchBuilder.of_uid(uid_of(obj))
        patch.test(("metadata", "resourceVersion"), resource_version_of(obj))  # or another network may need it by now
        for key in stale:
            if key in wanted:
                patch.set_in(obj, ("spec", key), wanted[key])
            else:
                patch.unset_in(obj, ("spec", key))
        set_marks(patch, obj, needed_by(network))
        says = f"have {self.speaker} speak BGP with {peer.address} with another {', '.join(stale)}"
        return Change(Verb.PATCH, ref, says, patch.ops, before=obj)

    def _shown(self, key: str, value: object) -> str:
        return "none" if matches(None, value, self.fields, key) else str(value)


def leave_peers(resource: Resource, gone: Collection[str], facts: Facts) -> tuple[Change, ...]:
    """Takes away the BGPPeers that only these networks (by uid) needed."""
    left = [
        leave(resource.ref(name_of(obj), namespace_of(obj) or None), obj, gone) for obj in facts.ask(Read(resource))
    ]
    return tuple(change for change in left if change is not None)


def _peers_of(network: Network) -> tuple[Peer, ...]:
    return tuple(network.bgp.peers) if network.bgp else ()
