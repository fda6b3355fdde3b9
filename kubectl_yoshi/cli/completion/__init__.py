"""TAB completion, and `kubectl yoshi completion`.

`protocol.complete` answers `kubectl-yoshi __complete WORD…` in Cobra's format. click parses the unfinished command
line and asks the groups, commands and parameter types of `cli` for words (their `shell_complete` methods); `sources`
reads names from the cluster or the kubeconfig, and `addresses` lists free and held addresses. `install` has the
commands, which install and print the shells' scripts.

Rules: a reply takes one second at most, and errors are never printed, since the user is typing. Only `sources`
imports the API client, and only to complete a name.
"""
