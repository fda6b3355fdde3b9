"""kubectl yoshi sync"""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    timeout_option,
)
from kubectl_yoshi.cli.session import Session


@dataclass(frozen=True)
class SyncOptions:
    """What `sync` was asked for."""

    all_namespaces: bool
    watch: bool
    restart: bool
    timeout: float | None
    dry_run: str

    def __post_init__(self) -> None:
        if self.watch and self.dry_run != "none":
            raise usage_error("--watch and --dry-run exclude each other")


@command(
    "sync",
    examples="""
    # Make true what the networks and VMs of this namespace ask for
    kubectl yoshi sync

    # See what that would be
    kubectl yoshi sync --dry-run

    # Keep on, for the whole cluster
    kubectl yoshi sync -A --watch
    """,
)
@all_namespaces_option
@click.option("-w", "--watch", is_flag=True, help="Keep on: make true whatever is asked for from now on.")
@click.option("--restart", is_flag=True, help="Restart VMs that run without their address.")
@timeout_option()
@dry_run_option
@as_options(SyncOptions)
def sync(session: Session, options: SyncOptions) -> None:
    """Make true what networks and VM annotations ask for.

    Every NetworkWizard is made, and every VM with the annotation plumber.k8s.pf9.io/networkName gets an address of that
    network that stays its own. What networks left behind that were deleted with plain kubectl is taken away. A VM whose
    annotation was removed keeps its address: see `kubectl yoshi vm detach`.

    What cannot be done for one VM does not stop the others; it is written as an Event on that VM. The exit code is 1
    if anything could not be done. With --watch it goes on until SIGTERM or Ctrl-C, and ends with 0.
    """
    from kubectl_yoshi.cli import syncing

    if options.watch and session.is_diff:
        raise usage_error("--watch has no differences to show")
    if options.watch:
        syncing.run_controller(session, options)
    elif session.is_diff:
        syncing.show_diff(session, options)
    else:
        syncing.sync_once(session, options)
