"""Describe what the objects of each product look like: Calico, MetalLB, Open vSwitch.

All functions are pure, and no other package asks which backend it is. `registry` maps plugin names to backends, each an
implementation of `model.backend.Backend`: `calico` (private networks), `public` (addresses announced by MetalLB or by
Calico's BGP) and `ovs` (Layer 2 networks); `metallb` has the objects that `public` uses. A module covers one kind of
object. `ownership` has the annotations that identify the objects and list entries that this program created: nothing
else is changed or removed. Several backends share `defaults` and `network_annotation`.
"""
