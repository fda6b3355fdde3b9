"""The reconcile loop: observe, plan, apply, until nothing is left to do.

`loop.run` is behind every command that changes something. It asks a planner what to read (`read`), applies
the plan it returns (`apply`), finds out what became of writes whose response was lost (`outcomes`), and plans once
more after a conflict. `permissions` are checked before the first write. `sync` reconciles whole namespaces;
`controller`, `reflector` and `workqueue` do so continuously. Knows Kubernetes in general and planners, and no
product.
"""
