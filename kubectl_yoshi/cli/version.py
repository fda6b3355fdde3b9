"""`kubectl yoshi version`; separate from `app`, which every start imports."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi import __version__
from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.result_objects import API_VERSION, VERSION
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.objects import Json

PYTHON = ".".join(map(str, sys.version_info[:3]))


@dataclass(frozen=True)
class VersionOptions:
    """The flags of `version`."""

    client: bool
    output: OutputFormat


@command(
    "version",
    examples="""
    # The versions of this program, of the installed CRDs and of the API server
    kubectl yoshi version

    # Of this program only, without a request
    kubectl yoshi version --client
    """,
)
@click.option("--client", is_flag=True, help="Show only the version of this program; no request is sent.")
@output_option(VERSION)
@as_options(VersionOptions)
def version(session: Session, options: VersionOptions) -> None:
    """Show the versions of this program, the CRDs and the API server."""
    if options.output.is_human_readable:
        print(client_version(), file=session.out)
        if not options.client:
            session.out.flush()
            server = server_version(session).get("gitVersion", "<unknown>")
            print(f"CRD Version: {crd_version(session)}\nServer Version: {server}", file=session.out)
        return
    result = client_version_object()
    if not options.client:
        server_info = server_version(session)
        result |= {"crdVersion": {"gitVersion": crd_version(session)}, "serverVersion": server_info}
    from kubectl_yoshi.output.formats import print_objects

    print_objects([result], session.out, options.output, single=True)


def client_version_object() -> Json:
    """Return the Version object of this program alone."""
    return {
        "apiVersion": API_VERSION,
        "kind": VERSION,
        "metadata": {"name": "kubectl-yoshi"},
        "clientVersion": {"gitVersion": f"v{__version__}", "pythonVersion": PYTHON, "platform": sys.platform},
    }


def client_version() -> str:
    """Return the version of this program and that of its Python, in two lines."""
    return f"Client Version: v{__version__}\nPython Version: v{PYTHON}"


def server_version(session: Session) -> Json:
    """Return the API server's version information."""
    return session.api.raw("/version")


def crd_version(session: Session) -> str:
    """Return the version of this program that installed the CRDs; in angle brackets why it is unknown."""
    from kubectl_yoshi.kube.errors import ForbiddenError, NotFoundError
    from kubectl_yoshi.model.network import NETWORKWIZARD, VERSION_ANNOTATION
    from kubectl_yoshi.model.objects import CRD, annotations_of

    try:
        found = session.api.get(CRD.ref(NETWORKWIZARD.full_name))
    except NotFoundError:
        return "<not installed>"
    except ForbiddenError as error:
        return f"<unknown: {error.missing_permission}>"
    installed = annotations_of(found).get(VERSION_ANNOTATION, "")
    return f"v{installed}" if installed else "<not installed by kubectl yoshi>"
