"""BGPPeers, of Calico and of MetalLB: one for each router, shared by the networks that announce to it.

One that is there already, whoever made it, serves a network if it says what the network wants; if it says anything
else it is left as it is, and the network is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from kubectl_yoshi.backends.marks import first_marks, join, leave
from kubectl_yoshi.model.addresses import Address, word_of
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, Verb
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network, Peer
from kubectl_yoshi.model.objects import Json, Resource, dig, name_of, namespace_of


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
        plain: the value of such a field, the same for all that mean the same; None for the default.
    """

    speaker: str
    resource: Resource
    namespace: str | None
    spec: Callable[[Network, Peer], Json]
    router: Callable[[Json], Address | None]
    compared: tuple[str, ...]
    plain: Callable[[object], object]

    def find_peer(self, network: Network, peer: Peer, facts: Facts) -> tuple[Json | None, Obstacle | None]:
        """The one that serves for a router, and what stands in the way (None where nothing does)."""
        read = Read(self.resource, self.namespace)
        found = facts.ask(read)
        if why := facts.why_unknown(read):
            return None, Obstacle(
                f"whether {self.speaker} speaks to {peer.address} already cannot be told: {why}", unseen=True
            )
        wanted = self.spec(network, peer)
        in_the_way = None
        for obj in found:
            if self.router(obj) != peer.address:
                if name_of(obj) == peer_name(peer):
                    in_the_way = Obstacle(f"bgppeer/{name_of(obj)} exists and is another router's")
                continue
            spec = dig(obj, "spec", default={})
            differing = [key for key in self.compared if self.plain(spec.get(key)) != self.plain(wanted.get(key))]
            if not differing:
                return obj, None
            key = differing[0]
            in_the_way = Obstacle(
                f"bgppeer/{name_of(obj)} speaks to {peer.address} with {key} {self._shown(spec.get(key))}, "
                f"and this network wants {self._shown(wanted.get(key))}"
            )
        return None, in_the_way

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
                change = join(ref, obj, network)
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
            yield "Peer", f"{peer.address} (AS {asn}): " + (f"bgppeer/{name_of(obj)}" if obj else why)

    def _shown(self, value: object) -> str:
        return "none" if self.plain(value) is None else str(value)


def leave_peers(resource: Resource, gone: Collection[str], facts: Facts) -> tuple[Change, ...]:
    """Takes away the BGPPeers that only these networks (by uid) needed."""
    left = [
        leave(resource.ref(name_of(obj), namespace_of(obj) or None), obj, gone) for obj in facts.ask(Read(resource))
    ]
    return tuple(change for change in left if change is not None)


def _peers_of(network: Network) -> tuple[Peer, ...]:
    return tuple(network.bgp.peers) if network.bgp else ()
