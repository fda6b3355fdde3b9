"""Parse flags of `network create` and `network update` into fields of a network's spec."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kubectl_yoshi.cli.errors import usage_error

if TYPE_CHECKING:
    from kubectl_yoshi.model.objects import Json

PEER_SYNTAX = "IP[,reachableBy=IP][,multihop][,passwordSecret=NAME]"
"""The syntax of --peer; for the meaning of each word see spec.bgpConfig.peers of the CRD."""


def parse_peer(text: str) -> Json:
    """Parse a value of --peer (PEER_SYNTAX); `password-secret` is accepted too.

    Raises:
        UsageError: a setting is unknown.
    """
    address, *settings = text.split(",")
    peer: dict[str, Any] = {"peerIP": address}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key == "reachableBy" and value:
            peer["reachableBy"] = value
        elif key == "multihop" and not equals:
            peer["multihop"] = True
        elif key in ("passwordSecret", "password-secret") and value:
            peer["passwordSecret"] = value
        else:
            raise usage_error(f'--peer "{text}": "{setting}" is unknown', f"Write {PEER_SYNTAX}.")
    return peer


def parse_node_selector(words: Iterable[str]) -> dict[str, str]:
    """Parse the values of --node-selector.

    Raises:
        UsageError: one is not KEY=VALUE.
    """
    selector = {}
    for word in filter(None, ",".join(words).split(",")):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise usage_error(f'--node-selector "{word}" is not a label', "Write KEY=VALUE, several with commas.")
        selector[key] = value
    return selector


def parse_lease_time(text: str) -> str:
    """Return the value of --dhcp-lease-time, in dnsmasq's form.

    Raises:
        UsageError: it is not a lease time.
    """
    if not re.fullmatch(r"[0-9]+[smhdw]?|infinite", text):
        raise usage_error(f'--dhcp-lease-time "{text}" is not a lease time', "Write one like 10m, 12h or infinite.")
    return text


def parse_dns_servers(words: Iterable[str]) -> list[str]:
    """Return the addresses in the values of --dns-server.

    Raises:
        UsageError: one is not an address.
    """
    from kubectl_yoshi.model.addresses import parse_address

    return [str(parse_address(text, "--dns-server")) for word in words for text in word.split(",")]
