"""kubectl yoshi ips rebuild"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from kubectl_yoshi.commands.changing import execute
from kubectl_yoshi.commands.names import NETWORK
from kubectl_yoshi.commands.options import all_namespaces_option, as_options, command, dry_run_option, yes_option
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.output.format_option import OutputFormat


@dataclass(frozen=True)
class RebuildOptions:
    """What `ips rebuild` was asked for."""

    network: str | None
    all_namespaces: bool
    yes: bool
    dry_run: str


@command(
    "rebuild",
    examples="""
    # After a restore: see what would be written, and every contradiction
    kubectl yoshi ips rebuild -A --dry-run=client

    kubectl yoshi ips rebuild -A --yes
    """,
)
@click.option("--network", type=NETWORK, metavar="NAME", help="Only this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@yes_option
@dry_run_option
@as_options(RebuildOptions)
def rebuild(session: Session, options: RebuildOptions) -> None:
    """Write the ledger anew from all that exists: running VMs, templates, Services, Calico's books.

    What runs now beats what is only written. Reservations stay, no VM is changed, and no address is given back.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.commands.recovering import print_rebuild_result, show_audits
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild

    network = parse_network_name(options.network, session.namespace) if options.network else None
    request = RebuildRequest(network, None if options.all_namespaces else session.namespace)
    unchanged = ""
    if not session.is_diff:
        update_count, unchanged = show_audits(session, request)
        if update_count and options.dry_run == "none":
            session.confirm("Write this?", options.yes)
    planner = partial(plan_rebuild, request, BACKENDS)
    done = execute(session, planner, options.dry_run, OutputFormat(), activity="rebuilding", unchanged={"": unchanged})
    if done is not None:
        print_rebuild_result(session, done, unchanged)
