"""Implement Layer 2 networks: Open vSwitch bridges, Multus attachments, DHCP servers, and the interfaces of VMs.

`backend` implements the protocol of `model.backend`; `spec` parses a network's Layer 2 fields. A network consists of
these objects, which except for the template have the network's name and are in its namespace:

    HostNetworkTemplate yoshi-<bridge>-<hash>   Hostplumber       bridgeName, nodeInterface, params, nodeSelector
    NetworkAttachmentDefinition                 Multus, ovs-cni   type ovs, bridge, vlan, mtu; the marker's resource
    ConfigMap                                   luigi's DHCP      dnsmasq's configuration
    DHCPServer                                  luigi's DHCP      interfaceIp, range, lease, vlanId

The attachment always names a VLAN, 0 where there is none: without it ovs-cni makes a trunk, and the VM would see every
VLAN. `--no-host-config` leaves the template out, `--no-dhcp` the ConfigMap and the DHCPServer; what is not installed is
reported with the flag that does without it.

Attach writes the allocation, the DHCP server's file (`dhcp`), then the VM (`interface`).
"""
