"""The command line, one module per noun: flags -> options -> run."""
