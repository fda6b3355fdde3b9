"""MetalLB's objects: address pools, advertisements and BGP peers."""
