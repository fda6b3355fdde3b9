"""Execute `vm attach` and `vm detach`: one command for several networks, each in a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cli.apply import ExecuteOptions, display_names, execute, print_results
from kubectl_yoshi.cli.result_objects import attachment_result, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.loop import RunResult, preview_errors
from kubectl_yoshi.engine.read import Planner
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, NamespacedName
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.output.format_option import OutputFormat

PlannerFactory = Callable[[tuple[NamespacedName, ...]], Planner]
"""Return the planner of a part of a command for these VMs."""


@dataclass(frozen=True)
class VmPart:
    """The part of a command that concerns one network.

    Attributes:
        network: its namespace and name.
        create_planner: see PlannerFactory.
        template: the line that is printed for a VM, with {answer} for its result.
        state: of a VM for which nothing is left to do.
    """

    network: NamespacedName
    create_planner: PlannerFactory
    template: str
    state: AddressState


class VmChangeOptions(Protocol):
    """The flags of all commands that change VMs."""

    @property
    def selector(self) -> str: ...

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
    parts: Sequence[VmPart],
    activity: str,
) -> list[RunResult]:
    """Execute one part after the other, each for the VMs for which no earlier part failed, and print the results.

    A VM for which a later part would fail, as far as that is known before the first change, is not changed by any part.
    In a machine-readable format an Attachment is printed for each VM and part, also for those that failed.

    Returns:
        The result of each part; none for `diff` and for a dry run in human-readable output.

    Raises:
        Exit: a VM failed; the exit code is 1.
        YoshiError: the only VM failed, or a part as a whole.
    """
    failure: click.exceptions.Exit | YoshiError | None = None
    run_results: list[RunResult] = []
    is_single = len(vms) == 1 and len(parts) == 1 and not options.selector
    remaining = vms
    with printed_objects(session, options.output, single=is_single) as objects:
        later = parts[1:] if options.dry_run == "none" and not session.is_diff else ()
        try:
            failed = _predict_errors(session, vms, later)
        except YoshiError as error:
            nothing = RunResult(Plan(), errors=dict.fromkeys(map("/".join, vms), error))
            objects += [_attachment(nothing, vm, part) for part in parts for vm in vms]
            raise
        for part in parts:
            accepted = tuple(vm for vm in remaining if "/".join(vm) not in failed)
            try:
                executed = _execute_part(session, options, accepted, part, activity) if accepted else RunResult(Plan())
                if executed is None:
                    continue
                done = replace(executed, errors={**failed, **executed.errors})
                run_results.append(done)
            except YoshiError as error:
                failure = error
                done = RunResult(Plan(), errors={**failed, **dict.fromkeys(map("/".join, accepted), error)})
            else:
                try:
                    print_results(session, options.output, done, remaining, part.template)
                except (click.exceptions.Exit, YoshiError) as raised:
                    failure = raised
            failed = done.errors
            objects += [_attachment(done, vm, part) for vm in vms]
            remaining = tuple(vm for vm in remaining if "/".join(vm) not in failed)
        if failure is not None:
            raise failure
    return run_results


def _predict_errors(
    session: Session, vms: tuple[NamespacedName, ...], parts: Sequence[VmPart]
) -> Mapping[str, YoshiError]:
    """Return why VMs would fail in these parts, as far as it is known now."""
    predicted_errors: dict[str, YoshiError] = {}
    for part in parts:
        predicted_errors |= preview_errors(part.create_planner(vms), session.api, BACKENDS)
    predicted_errors.pop("", None)  # the error of the whole command, which each VM has too
    return predicted_errors


def _attachment(result: RunResult, vm: NamespacedName, part: VmPart) -> Json:
    return attachment_result(result, vm, "/".join(part.network), part.state)


def _execute_part(
    session: Session, options: VmChangeOptions, vms: tuple[NamespacedName, ...], part: VmPart, activity: str
) -> RunResult | None:
    unchanged = {owner: f"{name} unchanged" for owner, name in display_names(vms).items()}
    execute_options = ExecuteOptions(options.dry_run, options.output, options.timeout, activity, len(vms), unchanged)
    return execute(session, part.create_planner(vms), execute_options)


def network_label(network: NamespacedName, session: Session) -> str:
    """Return the shortest name of a network, relative to the session's namespace."""
    return "/".join(network) if network[0] != session.namespace else network[1]
