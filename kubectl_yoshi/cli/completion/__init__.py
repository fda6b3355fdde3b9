"""TAB completion, and `kubectl yoshi completion`.

`protocol.complete` answers `kubectl-yoshi __complete WORD…` in Cobra's format: `cli.command_line` parses the
unfinished command line, `suggestions` finds what may stand there, and `sources` asks the cluster or the kubeconfig for
names. `install` and `scripts` are the commands: they install and print the shells' scripts.

Rules: an answer takes a second at most, and an error is never printed, since a person is typing. Only `sources`
imports the API client, and only where a name is completed.
"""
