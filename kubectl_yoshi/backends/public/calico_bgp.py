"""Announce addresses with Calico's BGP: each is listed in BGPConfiguration and announced from its VM's node.

Calico announces an address of a Service with externalTrafficPolicy Local from the nodes that have a ready endpoint, as
long as one of the lists contains it. No controller sets the address of a Service with our loadBalancerClass, so this
program writes it into the Service's status. `via: external-ips` uses spec.externalIPs and the other list, as Platform9
yoshi does.
"""

from __future__ import annotations

from kubectl_yoshi.backends.bgp_peers import remove_peers
from kubectl_yoshi.backends.calico import bgp_configuration
from kubectl_yoshi.backends.calico.api import V1, V3, CalicoApi, get_write_api
from kubectl_yoshi.backends.calico.bgp_peers import calico_bgp_peers
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ownership import is_created_for
from kubectl_yoshi.backends.public import services
from kubectl_yoshi.backends.public.announcer import ServiceTemplate
from kubectl_yoshi.model.addresses import Address, Intervals, span_of
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import Attachment, NetworkConflict
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, ObjectRef, dig, name_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot

LOAD_BALANCER_CLASS = f"{GROUP}/yoshi"
"""The value of spec.loadBalancerClass: no controller handles it, so none assigns the Service another address."""

EXTERNAL_IPS_HINT = (
    "If this cluster allows no externalIPs (DenyServiceExternalIPs, a policy), create the network without --via "
    "external-ips: its Services are of type LoadBalancer then."
)


class CalicoBgp:
    """An announcer that uses Calico's BGP."""

    name = "calico-bgp"

    def missing_apis(self, served: ServedApis) -> str:
        is_served = (
            any(f"bgpconfigurations.{group}" in served.resources for group in (V1, V3)) or V3 in served.unavailable
        )
        return "" if is_served else f"Calico's BGP configuration (bgpconfigurations.{V3} or bgpconfigurations.{V1})"

    # -- networks ------------------------------------------------------------------------------------------------

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        api = get_write_api(snapshot)
        found = [
            *map(NetworkConflict, bgp_configuration.asn_conflicts(network, api, snapshot)),
            *calico_bgp_peers(api).conflicts(network, snapshot),
        ]
        if metallb.is_installed(snapshot.served) and network.cidr is not None:
            found += [
                NetworkConflict(f"{network.cidr} overlaps ipaddresspool/{name_of(pool)}, which MetalLB assigns")
                for pool in metallb.pools(snapshot)
                if metallb.shares(pool, network) and not is_created_for(pool, network)
            ]
        return tuple(found)

    def ensure(self, network: Network, snapshot: Snapshot) -> Plan:
        api = get_write_api(snapshot)
        peers, _ = calico_bgp_peers(api).ensure(network, snapshot)
        changes = (*bgp_configuration.ensure_configuration(network, api, snapshot), *peers)
        former_peers = calico_bgp_peers(api).remove_former(network, snapshot)
        notes = self._export_notes(api, snapshot) if changes else ()
        return Plan(tuple(stage for stage in (changes, former_peers) if stage), notes)

    def _export_notes(self, api: CalicoApi, snapshot: Snapshot) -> tuple[str, ...]:
        """Return a note about the pools whose blocks Calico announces to every peer as well."""
        names = [
            name_of(pool) for pool in snapshot.lookup(Query(api.pool)) if not dig(pool, "spec", "disableBGPExport")
        ]
        return (f"Calico announces the blocks of ippool/{', '.join(names)} to these peers too",) if names else ()

    def health(self, network: Network, snapshot: Snapshot) -> str:
        api = get_write_api(snapshot)
        config = bgp_configuration.get_configuration(api, snapshot)
        wanted = network.bgp.my_asn if network.bgp else None
        if wanted is not None and dig(config, "spec", "asNumber") != wanted:
            return f"bgpconfiguration/default has asNumber {dig(config, 'spec', 'asNumber')} instead of {wanted}"
        missing_peer = calico_bgp_peers(api).missing_apis(network, snapshot)
        return f"bgppeer/{missing_peer} is missing" if missing_peer else ""

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        """Return "": Calico does not report whether its nodes have the configuration."""
        return ""

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        api = get_write_api(snapshot)
        query = Query(api.bgp_configuration, name="default")
        found = snapshot.lookup(query)
        as_number = str(dig(found[0], "spec", "asNumber", default="none")) if found else "none"
        if snapshot.unreadable_reason(query):
            as_number = "(cannot be read)"
        return (("AS Number", as_number), *calico_bgp_peers(api).describe(network, snapshot))

    def teardown(self, network: Network, snapshot: Snapshot) -> Plan:
        return remove_for_networks({network.uid}, snapshot)

    # -- addresses -----------------------------------------------------------------------------------------------

    def service_template(self, network: Network, address: Address) -> ServiceTemplate:
        if _uses_external_ips(network):
            spec = {"type": "ClusterIP", "externalIPs": [str(address)]}
            return ServiceTemplate(spec=spec, rejection_hint=EXTERNAL_IPS_HINT)
        return ServiceTemplate(spec={"type": "LoadBalancer", "loadBalancerClass": LOAD_BALANCER_CLASS})

    def ensure_prerequisites(self, network: Network, address: Address, snapshot: Snapshot, owner: str) -> Plan:
        return Plan()

    def announce(self, attachment: Attachment, service: Json | None, snapshot: Snapshot) -> Plan:
        """Return the list entry and the status of the Service.

        If the Service does not exist yet, the patch of its status tests its label and annotation.
        """
        network, address = attachment.network, attachment.address
        changes = []
        api = get_write_api(snapshot)
        entry = bgp_configuration.add_entry(attachment, _list_field(network), api, snapshot)
        if entry is not None:
            changes.append(entry)
        if not _uses_external_ips(network) and not (service and _has_only(service, address)):
            patch = PatchBuilder()
            patch.test(("metadata", "labels", metallb.NETWORK_LABEL), network.uid)
            patch.test((*ANNOTATIONS, f"{GROUP}/publicIP"), str(address))
            patch.add(("status", "loadBalancer"), {"ingress": [{"ip": str(address)}]})
            ref, owner = services.service_ref(attachment.vm, network), attachment.vm.full_name
            summary = f"write {address} into the status of {ref}"
            changes.append(Change(Verb.PATCH, ref, summary, patch.ops, "status", before=service, owner=owner))
        return Plan((tuple(changes),) if changes else ())

    def withdraw(self, network: Network, address: Address, record: Allocation, snapshot: Snapshot) -> Plan:
        change = bgp_configuration.remove_entry(network, address, get_write_api(snapshot), snapshot, record)
        return sequential(change) if change else Plan()

    def wait_conditions(self, address: Address, ref: ObjectRef, service: Json | None, owner: str) -> tuple[Change, ...]:
        """Return no conditions: announcing needs nothing but the writes of `announce`."""
        return ()

    def warnings(self, network: Network, address: Address, snapshot: Snapshot) -> tuple[str, ...]:
        api = get_write_api(snapshot)
        covering_cidr = bgp_configuration.covering_cidr(address, _list_field(network), api, snapshot)
        if not covering_cidr:
            return ()
        line = (
            f"every node announces {covering_cidr}, which bgpconfiguration/default lists and which contains {address}"
        )
        if _uses_external_ips(network):
            return (line,)
        return (f"{line}; with `serviceLoadBalancerAggregation: Disabled` there only the VM's node announces it",)

    def get_announcement(self, service: Json, vmi: Json | None, snapshot: Snapshot) -> tuple[str, str]:
        """Return the node of the running VM, since Calico does not report what it announces."""
        address = dig(service, *ANNOTATIONS, f"{GROUP}/publicIP", default="")
        node = str(dig(vmi, "status", "nodeName", default="")) if dig(vmi, "status", "phase") == "Running" else ""
        return (self.name, node) if address else ("", "")


def remove_for_networks(deleted_uids: set[str], snapshot: Snapshot) -> Plan:
    """Return the changes that remove everything written into Calico's BGP objects for these networks (by uid)."""
    api = get_write_api(snapshot)
    peers = remove_peers(api.bgp_peer, deleted_uids, snapshot)
    return Plan((peers,) if peers else ()) + bgp_configuration.remove_from_configuration(deleted_uids, api, snapshot)


def announces(service: Json) -> bool:
    """Return whether a Service managed by yoshi is configured to be announced by Calico."""
    return dig(service, "spec", "loadBalancerClass") == LOAD_BALANCER_CLASS or bool(dig(service, "spec", "externalIPs"))


def owner_networks(snapshot: Snapshot) -> dict[str, str]:
    """Return all networks with entries in Calico's BGP objects: uid -> "namespace/name"."""
    return bgp_configuration.owner_networks(get_write_api(snapshot), snapshot)


def overlapping_pools(network: Network, snapshot: Snapshot) -> list[str]:
    """Return a sentence for each Calico pool that shares addresses with a network."""
    if network.cidr is None:
        return []
    found = []
    for pool in snapshot.lookup(Query(get_write_api(snapshot).pool)):
        cidr = bgp_configuration.parse_cidr_or_none(dig(pool, "spec", "cidr"))
        if (
            cidr is not None
            and cidr.version == network.version
            and Intervals.from_spans([span_of(cidr)]) & network.cidr_addresses
        ):
            found.append(f"{network.cidr} overlaps ippool/{name_of(pool)} ({cidr})")
    return found


def _uses_external_ips(network: Network) -> bool:
    return network.options.get("via") == "external-ips"


def _list_field(network: Network) -> str:
    return bgp_configuration.EXTERNAL_IPS if _uses_external_ips(network) else bgp_configuration.LOAD_BALANCER_IPS


def _has_only(service: Json, address: Address) -> bool:
    ingress = dig(service, "status", "loadBalancer", "ingress", default=[])
    return len(ingress) == 1 and metallb.is_served(service, address)
