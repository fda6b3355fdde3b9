"""Execute `vm attach` and `vm detach`: a private and a public network by one command, each a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cli.apply import display_names, execute, print_results
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.loop import RunResult, preview_errors
from kubectl_yoshi.engine.read import Planner
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.output.format_option import OutputFormat
from kubectl_yoshi.plan.release import explains_retention

PlannerFactory = Callable[[tuple[NamespacedName, ...]], Planner]
"""What plans a part of a command for some VMs."""


class VmChangeOptions(Protocol):
    """The flags that all commands have which change VMs."""

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
    wait: bool = False,
) -> list[RunResult]:
    """Carries out one part after the other, each for the VMs that no part before has refused, and reports on each.

    A VM that a later part would refuse, for want of a permission or whatever else is known before, no part changes.

    Returns:
        What was done, part by part; nothing where it was only to be shown.

    Raises:
        Exit: with code 1 where a VM was refused.
    """
    exit_exception: click.exceptions.Exit | None = None
    run_results: list[RunResult] = []
    later = parts[1:] if options.dry_run == "none" and not session.is_diff else ()
    predicted_errors: dict[str, YoshiError] = {}
    for create_planner, _ in later:
        predicted_errors |= preview_errors(create_planner(vms), session.api, BACKENDS)
    predicted_errors.pop("", None)  # which is for all, and there for each of them too
    for create_planner, template in parts:
        accepted = tuple(vm for vm in vms if "/".join(vm) not in predicted_errors)
        done = RunResult(Plan())
        if accepted:
            executed = execute(
                session, create_planner(accepted), options.dry_run, options.output, total=len(accepted),
                timeout=options.timeout, activity=activity, unchanged=_unchanged_messages(accepted),
            )  # fmt: skip
            if executed is None:
                continue
            done = executed
        if wait:  # what old instances still use is released, or reported, after the wait
            done = replace(done, notes=tuple(note for note in done.notes if not explains_retention(note)))
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


def _unchanged_messages(vms: tuple[NamespacedName, ...]) -> dict[str, str]:
    """What `execute` prints of a VM that stays as it is."""
    return {owner: f"{name} unchanged" for owner, name in display_names(vms).items()}


def network_label(network: NamespacedName, session: Session) -> str:
    """The shortest name of a network in the session's namespace."""
    return "/".join(network) if network[0] != session.namespace else network[1]
