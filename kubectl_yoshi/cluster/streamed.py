"""A list of objects parsed while it arrives: never more than a piece of its text is held beside what is kept of it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

from kubectl_yoshi.model.objects import Json

_BEGIN = '"items":['
_BETWEEN = ", \t\r\n"


class ItemsAsTheyCome:
    """Takes the bytes of a list's JSON, in pieces, and gives its items; `rest` is the list without them at the end."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder()
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._waiting = ""
        self._head = ""
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[Json]:
        """The items that are complete now.

        Raises:
            ValueError: this is no text.
        """
        self._waiting += self._text.decode(piece)
        if not self._head:
            head, begin, after = self._waiting.partition(_BEGIN)
            if not begin:
                return
            self._head, self._waiting = head + begin, after
        at = 0
        while not self._ended:
            while at < len(self._waiting) and self._waiting[at] in _BETWEEN:
                at += 1
            if at == len(self._waiting):
                break
            if self._waiting[at] == "]":
                self._ended = True
                break
            try:
                item, at = self._decoder.raw_decode(self._waiting, at)
            except ValueError:  # the rest of it is still to come
                break
            yield item
        self._waiting = self._waiting[at:]

    def rest(self) -> Json:
        """The list itself, its items left out; to be asked for when all has arrived.

        Raises:
            ValueError: it is no JSON, or not all of it.
        """
        whole: Json = json.loads(self._head + self._waiting)
        return whole
