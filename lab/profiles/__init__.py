"""The profiles of a lab: `core` is the control plane alone, `full` adds KubeVirt, MetalLB and a router."""
