"""Announcing by Calico's BGP: single addresses in BGPConfiguration's lists, each announced from its VM's node.

Calico announces an address of a Service with externalTrafficPolicy Local from the nodes that have a ready endpoint, as
long as one of the lists has it. Nobody gives a Service of our class its address, so this program writes it into the
Service's status. With `via: external-ips` it is the original's way: spec.externalIPs and the other list.
"""

from __future__ import annotations

from kubectl_yoshi.backends import calico_bgp as bgp
from kubectl_yoshi.backends import metallb
from kubectl_yoshi.backends.bgp_peers import leave_peers
from kubectl_yoshi.backends.calico_api import V1, V3, CalicoApi, api_for_writing
from kubectl_yoshi.backends.calico_peers import peers_of_calico
from kubectl_yoshi.backends.marks import is_marked_for
from kubectl_yoshi.backends.public_announcer import Shape
from kubectl_yoshi.model.addresses import Address, Intervals, span_of
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, ObjectRef, dig, name_of

CLASS = f"{GROUP}/yoshi"
"""spec.loadBalancerClass: no controller owns it, so that none gives the Service another address."""

WITHOUT_EXTERNAL_IPS = (
    "If this cluster allows no externalIPs (DenyServiceExternalIPs, a policy), make the network without --via "
    "external-ips: its Services are of type LoadBalancer then."
)


class CalicoBgp:
    """Announces by Calico."""

    name = "calico-bgp"

    def missing(self, served: Served) -> str:
        """See Announcer."""
        there = any(f"bgpconfigurations.{group}" in served.resources for group in (V1, V3)) or V3 in served.broken
        return "" if there else f"Calico's BGP configuration (bgpconfigurations.{V3} or bgpconfigurations.{V1})"

    # -- networks ------------------------------------------------------------------------------------------------

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """See Announcer."""
        api = api_for_writing(facts)
        found = [
            *map(Obstacle, bgp.asn_obstacles(network, api, facts)),
            *peers_of_calico(api).obstacles(network, facts),
        ]
        if metallb.is_installed(facts.served) and network.cidr is not None:
            found += [
                Obstacle(f"{network.cidr} overlaps ipaddresspool/{name_of(pool)}, which MetalLB gives out")
                for pool in metallb.pools(facts)
                if metallb.shares(pool, network) and not is_marked_for(pool, network)
            ]
        return tuple(found)

    def build(self, network: Network, facts: Facts) -> Plan:
        """See Announcer."""
        api = api_for_writing(facts)
        peers, _ = peers_of_calico(api).build(network, facts)
        changes = (*bgp.build_configuration(network, api, facts), *peers)
        if changes:
            return Plan((changes,), self._exported(api, facts))
        former = peers_of_calico(api).left_by(network, facts)
        return Plan((former,) if former else ())

    def _exported(self, api: CalicoApi, facts: Facts) -> tuple[str, ...]:
        """A line on the pools whose blocks Calico announces to every peer besides."""
        names = [name_of(pool) for pool in facts.ask(Read(api.pool)) if not dig(pool, "spec", "disableBGPExport")]
        return (f"Calico announces the blocks of ippool/{', '.join(names)} to these peers too",) if names else ()

    def problem(self, network: Network, facts: Facts) -> str:
        """See Announcer."""
        api = api_for_writing(facts)
        there = bgp.configuration(api, facts)
        wanted = network.bgp.my_asn if network.bgp else None
        if wanted is not None and dig(there, "spec", "asNumber") != wanted:
            return f"bgpconfiguration/default has asNumber {dig(there, 'spec', 'asNumber')} instead of {wanted}"
        lacks = peers_of_calico(api).missing(network, facts)
        return f"bgppeer/{lacks} is missing" if lacks else ""

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """See Announcer."""
        api = api_for_writing(facts)
        read = Read(api.bgp_configuration, name="default")
        found = facts.ask(read)
        as_number = str(dig(found[0], "spec", "asNumber", default="none")) if found else "none"
        if facts.why_unknown(read):
            as_number = "(may not be read)"
        return (("AS Number", as_number), *peers_of_calico(api).describe(network, facts))

    def demolish(self, network: Network, facts: Facts) -> Plan:
        """See Announcer."""
        return take_away({network.uid}, facts)

    # -- addresses -----------------------------------------------------------------------------------------------

    def shape(self, network: Network, address: Address) -> Shape:
        """See Announcer."""
        if _by_external_ips(network):
            spec = {"type": "ClusterIP", "externalIPs": [str(address)]}
            return Shape(spec=spec, if_refused=WITHOUT_EXTERNAL_IPS)
        return Shape(spec={"type": "LoadBalancer", "loadBalancerClass": CLASS})

    def permit(self, network: Network, address: Address, facts: Facts, subject: str) -> Plan:
        """See Announcer."""
        return Plan()

    def announce(
        self, network: Network, address: Address, ref: ObjectRef, service: Json | None, facts: Facts, subject: str
    ) -> Plan:
        """See Announcer. A Service that is not made yet is known by its annotations when its status is written."""
        changes = []
        entry = bgp.add_entry(network, address, _field(network), api_for_writing(facts), facts, subject)
        if entry is not None:
            changes.append(entry)
        if not _by_external_ips(network) and not (service and _has_just(service, address)):
            patch = PatchBuilder()
            patch.test(("metadata", "labels", metallb.NETWORK_LABEL), network.uid)
            patch.test((*ANNOTATIONS, f"{GROUP}/publicIP"), str(address))
            patch.add(("status", "loadBalancer"), {"ingress": [{"ip": str(address)}]})
            says = f"write {address} into the status of {ref}"
            changes.append(Change(Verb.PATCH, ref, says, patch.ops, "status", before=service, subject=subject))
        return Plan((tuple(changes),) if changes else ())

    def withdraw(self, network: Network, address: Address, facts: Facts, subject: str) -> Plan:
        """See Announcer."""
        change = bgp.remove_entry(network, address, api_for_writing(facts), facts, subject)
        return in_order(change) if change else Plan()

    def awaited(self, address: Address, ref: ObjectRef, service: Json | None, subject: str) -> tuple[Change, ...]:
        """See Announcer. Nothing: what `announce` writes is all."""
        return ()

    def concerns(self, network: Network, address: Address, facts: Facts) -> tuple[str, ...]:
        """See Announcer."""
        covering = bgp.covering(address, _field(network), api_for_writing(facts), facts)
        if not covering:
            return ()
        line = f"every node announces {covering}, which bgpconfiguration/default lists and which has {address}"
        if _by_external_ips(network):
            return (line,)
        return (f"{line}; with `serviceLoadBalancerAggregation: Disabled` there only the VM's node announces it",)

    def announced(self, service: Json, vmi: Json | None, facts: Facts) -> tuple[str, str]:
        """See Announcer. Calico says nowhere what it announces: it is the node of the VM that runs."""
        address = dig(service, *ANNOTATIONS, f"{GROUP}/publicIP", default="")
        node = str(dig(vmi, "status", "nodeName", default="")) if dig(vmi, "status", "phase") == "Running" else ""
        return (self.name, node) if address else ("", "")


def take_away(gone: set[str], facts: Facts) -> Plan:
    """Takes back everything that was written into Calico's BGP objects for these networks (by uid)."""
    api = api_for_writing(facts)
    peers = leave_peers(api.bgp_peer, gone, facts)
    return Plan((peers,) if peers else ()) + bgp.leave_configuration(gone, api, facts)


def announces(service: Json) -> bool:
    """Whether a Service of this program's is made to be announced by Calico."""
    return dig(service, "spec", "loadBalancerClass") == CLASS or bool(dig(service, "spec", "externalIPs"))


def users(facts: Facts) -> dict[str, str]:
    """All networks for which something was written into Calico's BGP objects: uid -> "namespace/name"."""
    return bgp.users(api_for_writing(facts), facts)


def overlapping_pools(network: Network, facts: Facts) -> list[str]:
    """Calico's pools that share addresses with a network: a sentence each."""
    if network.cidr is None:
        return []
    found = []
    for pool in facts.ask(Read(api_for_writing(facts).pool)):
        cidr = bgp.network_of(dig(pool, "spec", "cidr"))
        if cidr is not None and cidr.version == network.version and Intervals.of([span_of(cidr)]) & network.everything:
            found.append(f"{network.cidr} overlaps ippool/{name_of(pool)} ({cidr})")
    return found


def _by_external_ips(network: Network) -> bool:
    return network.options.get("via") == "external-ips"


def _field(network: Network) -> str:
    return bgp.EXTERNAL_IPS if _by_external_ips(network) else bgp.LOAD_BALANCER_IPS


def _has_just(service: Json, address: Address) -> bool:
    ingress = dig(service, "status", "loadBalancer", "ingress", default=[])
    return len(ingress) == 1 and metallb.is_served(service, address)
