"""What Calico, KubeVirt, MetalLB and other objects look like, one module each. Pure."""
