"""kubectl yoshi: networks and lasting addresses for KubeVirt VMs."""

__version__ = "0.1.0"
