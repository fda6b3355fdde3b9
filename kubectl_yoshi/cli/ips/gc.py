"""`kubectl yoshi ips gc`: release addresses that nothing uses, and remove objects of deleted networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.kubectl_flags import Seconds
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    output_option,
    yes_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, REFERENCE, deleted_objects, printed_objects, released_addresses
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat


@dataclass(frozen=True)
class GcOptions:
    """The flags of `ips gc`."""

    network: str | None
    all_namespaces: bool
    grace: float
    yes: bool
    dry_run: str
    output: OutputFormat


@command("gc", examples="kubectl yoshi ips gc -A --yes")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network.")
@all_namespaces_option
@click.option(
    "--grace", type=Seconds(), default="5m", metavar="DURATION", help="Keep allocations younger than this (default 5m)."
)
@yes_option
@dry_run_option
@output_option(ADDRESS, REFERENCE)
@as_options(GcOptions)
def gc(session: Session, options: GcOptions) -> None:
    """Release addresses that nothing uses any more.

    Objects of networks that were deleted with kubectl (pools, Services, BGP entries, bridges) are removed too: those of
    the namespace's networks, or with -A of all networks.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions, run
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.plan_printer import show_plan
    from kubectl_yoshi.plan.gc import GcRequest, plan_gc

    networks = (parse_network_name(options.network, session.namespace),) if options.network else None
    namespace = None if options.all_namespaces else session.namespace
    planner = partial(plan_gc, GcRequest(networks, namespace, options.grace))
    if options.dry_run == "none" and not session.is_diff and not options.yes:
        preview = run(planner, session.api, BACKENDS, RunOptions("client"))
        if any(preview.plan):
            show_plan(preview.plan, session.err)
            session.confirm("Continue?", options.yes)
    empty_message = "nothing to collect"
    execute_options = ExecuteOptions(
        options.dry_run,
        options.output,
        activity="collecting",
        unchanged={"": empty_message},
        exact_counters=True,
    )
    with printed_objects(session, options.output) as objects:
        done = execute(session, planner, execute_options)
        if done is None:
            return
        objects += [*released_addresses(done.changes), *deleted_objects(done.changes)]
        if options.output.is_human_readable:
            for change in done.changes:
                print(change.summary, file=session.out)
        raise_errors(session, done)
    if options.output.is_human_readable and not done.changes:
        print(empty_message, file=session.out)
