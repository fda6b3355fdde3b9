"""`kubectl yoshi version`; separate from `app`, which every start imports."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi import __version__
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.objects import Json

PYTHON = ".".join(map(str, sys.version_info[:3]))


@dataclass(frozen=True)
class VersionOptions:
    """The flags of `version`."""

    client: bool
    server: bool
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.client and self.server:
            raise usage_error("--client and --server-version exclude each other")


@command(
    "version",
    examples="""
    # The version of this program
    kubectl yoshi version

    # And the version of the API server
    kubectl yoshi version --server-version
    """,
)
@click.option("--client", is_flag=True, help="Show only the version of this program (default).")
@click.option("--server-version", "server", is_flag=True, help="Show the version of the API server too.")
@output_option("json", "yaml")
@as_options(VersionOptions)
def version(session: Session, options: VersionOptions) -> None:
    """Show the version of this program, or also of the API server."""
    if options.output.is_human_readable:
        print(client_version(), file=session.out)
        if options.server:
            session.out.flush()
            print(f"Server Version: {server_version(session).get('gitVersion', '<unknown>')}", file=session.out)
        return
    result: Json = {
        "clientVersion": {"gitVersion": f"v{__version__}", "pythonVersion": PYTHON, "platform": sys.platform}
    }
    if options.server:
        result["serverVersion"] = server_version(session)
    from kubectl_yoshi.output.formats import object_text

    session.out.write(object_text(result, options.output))


def client_version() -> str:
    """Return the version of this program and that of its Python, in two lines."""
    return f"Client Version: v{__version__}\nPython Version: v{PYTHON}"


def server_version(session: Session) -> Json:
    """Return the API server's version information."""
    return session.api.raw("/version")
