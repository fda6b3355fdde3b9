"""Documents generated from the program: docs/reference/commands.md, and the man pages."""
