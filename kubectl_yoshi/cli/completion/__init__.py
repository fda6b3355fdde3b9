"""TAB completion, and `kubectl yoshi completion`.

`protocol.complete` answers `kubectl-yoshi __complete WORD…` in Cobra's format. click parses the unfinished command
line and asks the groups, commands and parameter types of `cli` for words (their `shell_complete` methods); `sources`
asks the cluster or the kubeconfig for names, and `addresses` chooses free and held addresses. `install` and `scripts`
are the commands: they install and print the shells' scripts.

Rules: an answer takes a second at most, and an error is never printed, since a person is typing. Only `sources`
imports the API client, and only where a name is completed.
"""
