"""kubectl yoshi version; apart from `app`, which every start imports."""

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
    """What `version` was asked for."""

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

    # And that of the API server
    kubectl yoshi version --server-version
    """,
)
@click.option("--client", is_flag=True, help="Show this program's version only, which is the default.")
@click.option("--server-version", "server", is_flag=True, help="Ask the API server for its version too.")
@output_option("json", "yaml")
@as_options(VersionOptions)
def version(session: Session, options: VersionOptions) -> None:
    """Show the version of this program, and of the server if asked."""
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
    """This program's version, and that of the Python that it runs on, a line each."""
    return f"Client Version: v{__version__}\nPython Version: v{PYTHON}"


def server_version(session: Session) -> Json:
    """What the API server says of itself."""
    return session.api.raw("/version")
