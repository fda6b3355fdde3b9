"""Reconciling networks and VM annotations: `requests` of the annotations, the `tasks` that they make, and the `planner`
that puts them in order."""
