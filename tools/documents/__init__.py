"""Documents generated from the program: commands.md, output.md and api.md in docs/reference, and the man pages."""
