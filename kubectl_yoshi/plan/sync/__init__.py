"""Reconciling networks and VM annotations.

`requests` parses what VMs request by annotations; `planner` decides on the tasks, such as attaching these VMs to that
network, and their order; `tasks` has the planner and the description of each. `engine.sync` runs them.
"""
