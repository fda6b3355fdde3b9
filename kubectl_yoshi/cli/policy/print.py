"""`kubectl yoshi policy print`: the admission policies as YAML, for a review or for GitOps."""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.result_objects import printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat


@dataclass(frozen=True)
class PrintOptions:
    """The flags of `policy print`."""

    policy: str
    output: OutputFormat


@command(
    "print",
    examples="""
    # Review what install would apply
    kubectl yoshi policy print

    # Apply it without install, first without refusing anything
    kubectl yoshi policy print --policy audit | kubectl apply -f -
    """,
)
@click.option(
    "--policy",
    type=click.Choice(("enforce", "audit")),
    default="enforce",
    metavar="enforce|audit",
    help="As `install --policy` would apply them (default enforce).",
)
@output_option("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
@as_options(PrintOptions)
def print_policies(session: Session, options: PrintOptions) -> None:
    """Print the admission policies that install applies, as YAML; no request is sent."""
    from kubectl_yoshi.cli.policies import load_policies
    from kubectl_yoshi.model.policy_mode import PolicyMode
    from kubectl_yoshi.output.formats import to_yaml

    policies = load_policies(PolicyMode(options.policy))
    if options.output.is_human_readable:
        print("---\n".join(map(to_yaml, policies)), end="", file=session.out)
    with printed_objects(session, options.output) as objects:
        objects += policies
