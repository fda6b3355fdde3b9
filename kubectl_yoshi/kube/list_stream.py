"""Parse a list of objects while it arrives, without holding more than a part of its text.

Lists are read in pages of 500. A list that turns out long is read in one answer from the API server's cache instead,
not older than its first page, and parsed by this module: pages come from etcd, and cost the server several times more
(docs/scale.md). No library that this program uses parses a list in pieces.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

from kubectl_yoshi.model.objects import Json

_ITEMS_START = '"items":['
_SEPARATORS = ", \t\r\n"


class ListItemParser:
    """Parses the JSON of a list from chunks of bytes and yields its items.

    `list_without_items` returns the rest of the list at the end.
    """

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder()
        self._utf8_decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._prefix = ""
        self._items_complete = False

    def feed(self, chunk: bytes) -> Iterator[Json]:
        """Yield the items that are complete by now.

        Raises:
            ValueError: the bytes are not UTF-8.
        """
        self._buffer += self._utf8_decoder.decode(chunk)
        if not self._prefix:
            before_items, items_start, after = self._buffer.partition(_ITEMS_START)
            if not items_start:
                return
            self._prefix, self._buffer = before_items + items_start, after
        position = 0
        while not self._items_complete:
            while position < len(self._buffer) and self._buffer[position] in _SEPARATORS:
                position += 1
            if position == len(self._buffer):
                break
            if self._buffer[position] == "]":
                self._items_complete = True
                break
            try:
                item, position = self._decoder.raw_decode(self._buffer, position)
            except ValueError:  # the rest of the item has not arrived yet
                break
            yield item
        self._buffer = self._buffer[position:]

    def list_without_items(self) -> Json:
        """Return the list itself without its items; call it after the last chunk.

        Raises:
            ValueError: it is not JSON, or incomplete.
        """
        list_object: Json = json.loads(self._prefix + self._buffer)
        return list_object
