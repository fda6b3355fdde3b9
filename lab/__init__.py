"""A real control plane for the demo and the tests, without containers."""
