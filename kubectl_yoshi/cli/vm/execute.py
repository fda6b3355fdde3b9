"""Execute `vm attach` and `vm detach`: one command for several networks, each in a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cli.apply import ExecuteOptions, display_names, execute, print_results
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.loop import RunResult, preview_errors
from kubectl_yoshi.engine.read import Planner
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.output.format_option import OutputFormat

PlannerFactory = Callable[[tuple[NamespacedName, ...]], Planner]
"""Return the planner of a part of a command for these VMs."""


class VmChangeOptions(Protocol):
    """The flags of all commands that change VMs."""

    @property
    def dry_run(self) -> str: ...

    @property
    def output(self) -> OutputFormat: ...

    @property
    def timeout(self) -> float | None: ...


def execute_parts(
    session: Session,
    options: VmChangeOptions,
    vms: tuple[NamespacedName, ...],
    parts: Sequence[tuple[PlannerFactory, str]],
    activity: str,
) -> list[RunResult]:
    """Execute one part after the other, each for the VMs for which no earlier part failed, and print the results.

    A VM for which a later part would fail, as far as that is known before the first change, is not changed by any part.

    Returns:
        The result of each part; none for a dry run or `diff`.

    Raises:
        Exit: a VM failed; the exit code is 1.
    """
    exit_exception: click.exceptions.Exit | None = None
    run_results: list[RunResult] = []
    later = parts[1:] if options.dry_run == "none" and not session.is_diff else ()
    predicted_errors: dict[str, YoshiError] = {}
    for create_planner, _ in later:
        predicted_errors |= preview_errors(create_planner(vms), session.api, BACKENDS)
    predicted_errors.pop("", None)  # the error of the whole command, which each VM has too
    for create_planner, template in parts:
        accepted = tuple(vm for vm in vms if "/".join(vm) not in predicted_errors)
        done = RunResult(Plan())
        if accepted:
            unchanged = {owner: f"{name} unchanged" for owner, name in display_names(accepted).items()}
            execute_options = ExecuteOptions(
                options.dry_run, options.output, options.timeout, activity, len(accepted), unchanged
            )
            executed = execute(session, create_planner(accepted), execute_options)
            if executed is None:
                continue
            done = executed
        done = replace(done, errors={**predicted_errors, **done.errors})
        run_results.append(done)
        try:
            print_results(session, options.output, done, vms, template)
        except click.exceptions.Exit as raised:
            exit_exception = raised
        vms = tuple((namespace, name) for namespace, name in vms if f"{namespace}/{name}" not in done.errors)
        if not vms:
            break
    if exit_exception is not None:
        raise exit_exception
    return run_results


def network_label(network: NamespacedName, session: Session) -> str:
    """Return the shortest name of a network, relative to the session's namespace."""
    return "/".join(network) if network[0] != session.namespace else network[1]
