"""Implement public networks: a Service with the address for each VM, announced by MetalLB or by Calico's BGP.

`backend` implements the protocol of `model.backend`; `announcer` is the protocol of the two ways to announce.

A public address is on a Service and not on the VM's template, so it needs no restart (`Backend.pins_vm_template` is
false). The order is: the allocation; the annotations of the VM (`annotations`), whose patch fails if the VM no longer
exists; the Service; then what only the Service justifies: its status and the entry in Calico's list. Detach goes the
other way round.

    announced by                  network                                address
    metallb-l2, metallb-bgp       IPAddressPool (autoAssign false),      the Service asks by metallb.io/loadBalancerIPs;
                                  L2Advertisement or BGPAdvertisement    outside the CIDR also a pool of one address
                                  (32, 128), BGPPeers
    calico-bgp                    BGPPeers, asNumber in the              Service of class plumber.k8s.pf9.io/yoshi,
                                  BGPConfiguration "default"             its status, entry in serviceLoadBalancerIPs
    calico-bgp, via external-ips  the same                               spec.externalIPs, entry in serviceExternalIPs

An address outside the network's CIDR is announced by itself (/32, /128) like any other; a network assigns one only when
it is requested by name. Where a network's spec was edited (its generation tells), `sync` removes what was created by
what it said before: peerings, the advertisement of the other kind, and the other announcer's objects once no Service of
the network needs them.

Writing `services/status` and BGPConfiguration is an administrator's permission (yoshi-admin), so a tenant can attach to
a network that MetalLB announces, and is refused, with nothing left behind, on one that Calico announces.
"""
