"""Reconciling networks and VM annotations.

`requests` parses what VMs ask for by annotations; `planner` decides on the tasks, such as attaching these VMs to that
network, and puts them in order; `tasks` has the planner and the description of each. `engine.sync` runs them.
"""
