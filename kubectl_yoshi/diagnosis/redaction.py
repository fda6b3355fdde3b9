"""Replace names and addresses that identify a cluster by pseudonyms, the same ones everywhere in a report.

| what | becomes |
|---|---|
| namespaces, VMs, networks, nodes | NAMESPACE-1, VM-1, NETWORK-1, NODE-1, wherever the name is a word of a text |
| public IPv4 addresses | the first two bytes become 240.1, 240.2, … |
| public IPv6 addresses | the first 32 bits become 3fff:1, 3fff:2, … |
| MAC addresses | 02:00:00:00:00:01, … |
| notes of reservations | removed |

Private addresses identify nobody, so they stay. The host part of public addresses stays, so that ranges, CIDRs and
differences between addresses still fit together. Pseudonyms are in upper case, which no name in Kubernetes is. Names
without a letter, names of other objects (Services, pools), labels and annotations stay as far as they do not contain
one of the replaced names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

from kubectl_yoshi.diagnosis.report import REMOVED
from kubectl_yoshi.model.addresses import address_of
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import NODE, Json, NamespacedName, dig, name_of, namespace_of
from kubectl_yoshi.model.vm import VM, VMI

NAMESPACE_WORD, VM_WORD, NETWORK_WORD, NODE_WORD = "NAMESPACE", "VM", "NETWORK", "NODE"
_WORDS_BY_KIND = {
    "Namespace": NAMESPACE_WORD,
    VM.kind: VM_WORD,
    VMI.kind: VM_WORD,
    NETWORKWIZARD.kind: NETWORK_WORD,
    NODE.kind: NODE_WORD,
}
_WORDS_BY_FIELD = {"nodeName": NODE_WORD, "node": NODE_WORD, "namespace": NAMESPACE_WORD}
"""Fields whose text is a name."""
_USER_MAPS = frozenset({"labels", "annotations", "matchLabels", "nodeSelector", "selector", "data"})
"""Fields whose keys are chosen by users; elsewhere a key of letters only is the name of a field."""
_FIELD_NAME = re.compile(r"[A-Za-z]+")
_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?")
_RESERVED_FOR = re.compile(r"(?:vm/([^/]+)/|namespace/)([^/]+)")
_MAC = re.compile(r"(?<![0-9A-Fa-f:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:-])")
_ADDRESS = re.compile(
    r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])"
    r"|(?<![0-9.])(?:\d{1,3}\.){3}\d{1,3}(?![0-9]|\.[0-9])"
)
_HOST_BITS = {4: 16, 6: 96}
_PUBLIC_PREFIX = {4: 240 << 8, 6: 0x3FFF << 16}
"""By IP version: the bits that stay, and the first pseudonym of the others, less one: in 240.0.0.0/4 and 3fff::/20."""


class Redactor:
    """Replaces what identifies a cluster; the same text always gets the same pseudonym.

    Args:
        objects: all objects of the report, from which names are taken.
        networks, vms: more names, with their namespaces.
    """

    def __init__(
        self, objects: Iterable[Json], networks: Iterable[NamespacedName] = (), vms: Iterable[NamespacedName] = ()
    ) -> None:
        found = {pair for obj in objects for pair in _names(obj)}
        for word, names in ((NETWORK_WORD, networks), (VM_WORD, vms)):
            found |= {pair for namespace, name in names for pair in ((NAMESPACE_WORD, namespace), (word, name))}
        self._pseudonyms: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for word, name in sorted(found):
            if _NAME.fullmatch(name) and name not in self._pseudonyms:
                counts[word] += 1
                self._pseudonyms[name] = f"{word}-{counts[word]}"
        longest_first = sorted(map(re.escape, self._pseudonyms), key=len, reverse=True)
        # An escape sequence in quoted JSON, such as \n, does not belong to the word that follows.
        self._names = re.compile(
            rf"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))(?:{'|'.join(longest_first) or '(?!)'})(?![A-Za-z0-9])"
        )
        self._macs: dict[str, int] = {}
        self._prefixes: dict[int, dict[int, int]] = {4: {}, 6: {}}

    def value(self, value: Any, field: str = "") -> Any:
        """Return a JSON value with pseudonyms.

        Args:
            value: the value.
            field: the field that has it.
        """
        if isinstance(value, str):
            return REMOVED if field == "note" and value else self.text(value)
        if isinstance(value, list):
            return [self.value(item, field) for item in value]
        if isinstance(value, dict):
            return {self._key(key, field): self.value(part, key) for key, part in value.items()}
        return value

    def _key(self, key: str, field: str) -> str:
        return key if field not in _USER_MAPS and _FIELD_NAME.fullmatch(key) else self.text(key)

    def text(self, text: str) -> str:
        """Return a text with pseudonyms."""
        text = self._names.sub(lambda match: self._pseudonyms[match[0]], text)
        text = _MAC.sub(lambda match: self._mac(match[0]), text)
        return _ADDRESS.sub(lambda match: self._address(match[0]), text)

    def _mac(self, text: str) -> str:
        number = self._macs.setdefault(text.lower().replace("-", ":"), len(self._macs) + 1)
        return "02:00:00" + "".join(f":{byte:02x}" for byte in number.to_bytes(3, "big"))

    def _address(self, text: str) -> str:
        try:
            address = ip_address(text)
        except ValueError:
            return text
        if not address.is_global or address.is_multicast:
            return text
        version, bits = address.version, _HOST_BITS[address.version]
        numbers = self._prefixes[version]
        number = numbers.setdefault(int(address) >> bits, len(numbers) + 1)
        host = int(address) & ((1 << bits) - 1)
        return str(address_of((_PUBLIC_PREFIX[version] + number << bits) + host, version))


def _names(obj: Json) -> Iterator[tuple[str, str]]:
    """Yield the names in an object, each after the word of its pseudonym."""
    yield NAMESPACE_WORD, namespace_of(obj)
    if word := _WORDS_BY_KIND.get(str(obj.get("kind", ""))):
        yield word, name_of(obj)
    if obj.get("kind") == ADDRESSBLOCK.kind:
        yield NETWORK_WORD, str(dig(obj, "spec", "network", default=""))
    yield from _names_in(obj, "")


def _names_in(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Yield the names that references, allocations and fields of a value have."""
    if isinstance(value, list):
        for item in value:
            yield from _names_in(item, field)
    if not isinstance(value, dict):
        return
    if word := _WORDS_BY_KIND.get(str(value.get("kind", ""))):
        yield word, str(value.get("name", ""))
    for key, part in value.items():
        if not isinstance(part, str):
            yield from _names_in(part, key)
        elif key in _WORDS_BY_FIELD:
            yield _WORDS_BY_FIELD[key], part
        elif field == "allocations":  # in the format of Platform9 yoshi
            yield VM_WORD, part
        elif field == "reservedForVMs":
            yield from zip((NAMESPACE_WORD, VM_WORD), part.split("/"), strict=False)
        elif key == "for" and (match := _RESERVED_FOR.fullmatch(part)):
            yield from ((NAMESPACE_WORD, match[1]), (VM_WORD, match[2])) if match[1] else ((NAMESPACE_WORD, match[2]),)
