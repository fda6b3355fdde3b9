"""-w: shows a list again whenever something that it is made of changes."""

from __future__ import annotations

from collections.abc import Callable

from kubectl_yoshi.cluster.errors import Expired
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.network import NETWORKWIZARD


def show_again(session: Session, everywhere: bool, show: Callable[[], None]) -> None:
    """Watches networks and shows the list anew after each change, until Ctrl-C."""
    namespace = None if everywhere else session.namespace
    while True:
        version = session.api.listing(NETWORKWIZARD, namespace).resource_version
        try:
            for kind, _ in session.api.watch(NETWORKWIZARD, namespace, resource_version=version):
                if kind != "BOOKMARK":
                    print(file=session.out)
                    show()
        except Expired:
            continue
