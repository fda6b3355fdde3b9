"""Documents that are made from the program: docs/commands.md, and the man pages."""
