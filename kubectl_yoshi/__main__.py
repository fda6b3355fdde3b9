"""Where the program starts: `kubectl yoshi` as a plugin, `kubectl-yoshi` alone, or `python -m kubectl_yoshi`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

COMPLETE_VARIABLE = "_KUBECTL_YOSHI_COMPLETE"


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program with the words of the command line (those of the process if None), and exits."""
    sys.exit(run(list(sys.argv[1:] if args is None else args), program_name(sys.argv[0])))


def run(args: list[str], program: str) -> int:
    """Runs the program and gives its exit code.

    Args:
        args: the words after the program's name.
        program: what the program calls itself.
    """
    from kubectl_yoshi.commands.errors import exit_code_of
    from kubectl_yoshi.commands.flags import kept_flags
    from kubectl_yoshi.commands.root import cli

    if COMPLETE_VARIABLE in os.environ:
        cli.main(args, prog_name=program, complete_var=COMPLETE_VARIABLE)

    roots = []

    def do() -> int:
        root = cli.make_context(program, list(args))
        roots.append(root)
        with root:
            cli.invoke(root)
        sys.stdout.flush()
        return 0

    return exit_code_of(do, verbosity=lambda: kept_flags(roots[0]).get("verbosity", 0) if roots else 0)


def program_name(argv0: str) -> str:
    """What the user typed: "kubectl yoshi" as a plugin, which kubectl runs as kubectl-yoshi, krew's symlink too."""
    name = os.path.basename(argv0)  # noqa: PTH119 - pathlib costs more than the whole rest of --help
    if name.lower().endswith((".exe", ".py")):
        name = name.rsplit(".", 1)[0]
    if name.startswith(("kubectl-", "kubectl_")):
        return "kubectl " + name[len("kubectl-") :].replace("_", "-")
    if name == "__main__":
        return "python -m kubectl_yoshi"
    return name


if __name__ == "__main__":
    main()
