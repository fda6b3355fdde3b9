"""Implement Layer 2 networks: Open vSwitch bridges, Multus attachments, DHCP servers, and the interfaces of VMs.

`backend` implements the protocol of `model.backend`; `spec` parses a network's Layer 2 fields.
"""
