"""Recording addresses that VMs have already: `planner`, and where they are found (`sources`)."""
