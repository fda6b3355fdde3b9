"""Documents generated from the program: docs/reference/commands.md and api.md, and the man pages."""
