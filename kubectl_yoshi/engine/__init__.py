"""The reconcile loop: observe, plan, apply, until nothing is left to do.

`loop.run` is behind every command that changes something. It calls a planner, reads what the planner needs (`read`),
applies the plan that it returns (`apply`), determines the outcome of writes whose response was lost (`outcomes`), and
plans again after a conflict. `permissions` are checked before the first write. `sync` reconciles whole namespaces;
`controller`, `reflector` and `workqueue` do so continuously. Knows Kubernetes in general and planners, and no product.
"""
