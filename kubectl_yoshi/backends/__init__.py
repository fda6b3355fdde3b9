"""What each product's objects look like: Calico, MetalLB, Open vSwitch. Pure; nothing outside asks which backend it is.

`registry` lists the backends by the name of their plugin, each an implementation of `model.backend.Backend`: `calico`
(private networks), `public` (addresses announced by MetalLB or by Calico's BGP) and `ovs` (Layer 2 networks); `metallb`
has the objects that `public` uses. A module knows one kind of object. `ownership` has the annotations that tell which
objects and list entries this program created: nothing else is changed or removed. `defaults` and `network_annotation`
are what several backends share.
"""
