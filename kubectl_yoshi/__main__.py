"""Where the program starts: `kubectl yoshi` as a plugin, `kubectl-yoshi` alone, or `python -m kubectl_yoshi`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence

PLUGIN = "kubectl-yoshi"
COMPLETE_COMMAND = "__complete"
GC_THRESHOLD = 100_000
"""New objects between two searches for garbage in cycles, of which there is hardly any. Python's 700 cost a tenth of a
short run, and a quarter of the work on a list of 10,000 addresses."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program with the words of the command line (those of the process if None), and exits."""
    gc.set_threshold(GC_THRESHOLD)
    code = run(list(sys.argv[1:] if args is None else args), program_name(sys.argv[0], os.environ))
    gc.freeze()  # what is left goes with the process: to search it for garbage costs another tenth
    sys.exit(code)


def complete() -> None:
    """What kubectl runs as kubectl_complete-yoshi while somebody types `kubectl yoshi …`."""
    main([COMPLETE_COMMAND, *sys.argv[1:]])


def run(args: list[str], program: str) -> int:
    """Runs the program and gives its exit code.

    Args:
        args: the words after the program's name.
        program: what the program calls itself.
    """
    if args[:1] == [COMPLETE_COMMAND]:
        from kubectl_yoshi.cli.completion.protocol import complete

        complete(args[1:])
        return 0

    from click.exceptions import Exit

    from kubectl_yoshi.cli.app import cli
    from kubectl_yoshi.cli.errors import run_reporting_errors
    from kubectl_yoshi.cli.kubectl_flags import get_kubectl_flags
    from kubectl_yoshi.output.escaping import escape_std_streams

    roots = []

    def invoke_cli() -> int:
        root = cli.make_context(program, list(args))
        roots.append(root)
        try:
            with root:
                cli.invoke(root)
        except Exit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return 0

    with escape_std_streams():
        return run_reporting_errors(
            invoke_cli,
            verbosity=lambda: get_kubectl_flags(roots[0]).get("verbosity", 0) if roots else 0,
            root=lambda: roots[0] if roots else None,
        )


def program_name(argv0: str, environment: Mapping[str, str]) -> str:
    """What the user typed: "kubectl yoshi", or "kubectl-yoshi" alone.

    kubectl becomes the plugin (exec), so there is no parent to ask. But it starts a plugin by its whole path, so a name
    without a folder was typed; and bash and zsh leave the path of what they started in `_`. Without either, as in fish,
    it is the plugin's name, by which it can be run as well.

    Args:
        argv0: how this program was started.
        environment: its environment variables.
    """
    name = _program_basename(argv0)
    if name == PLUGIN:
        is_standalone = argv0 == os.path.basename(argv0) or _program_basename(environment.get("_", "")) == PLUGIN  # noqa: PTH119 - see _bare
        return PLUGIN if is_standalone else "kubectl yoshi"
    if name == "__main__":
        return "python -m kubectl_yoshi"
    return name


def _program_basename(path: str) -> str:
    """The name of a program, without its folder and what Windows adds."""
    name = os.path.basename(path)  # noqa: PTH119 - pathlib costs more than the whole rest of --help
    return name.rsplit(".", 1)[0] if name.lower().endswith((".exe", ".py")) else name


if __name__ == "__main__":
    main()
