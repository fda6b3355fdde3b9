"""Documents generated from the program: docs/commands.md, and the man pages."""
