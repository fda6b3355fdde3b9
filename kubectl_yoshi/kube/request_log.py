"""The log of requests for `-v`: kubectl's levels, without credentials and Secrets.

6 logs a line per request, 7 adds the request's headers, 8 the response's headers and the start of the bodies, 9 the
whole bodies.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TextIO

logger = logging.getLogger("kubectl_yoshi.http")

LINES = logging.INFO
HEADERS = logging.DEBUG
BODIES = logging.DEBUG - 2
WHOLE_BODIES = logging.DEBUG - 4

_BODY_PREVIEW_CHARS = 1024
_HIDDEN_HEADERS = {"authorization", "proxy-authorization", "cookie", "set-cookie"}
_HIDDEN_PATHS = ("/secrets", "/token")


def enable_request_log(verbosity: int, stream: TextIO | None = None) -> None:
    """Log requests to a stream (default stderr) from `-v 6` on.

    Args:
        verbosity: the value of -v.
    """
    if verbosity < 6:
        return
    levels = {6: LINES, 7: HEADERS, 8: BODIES}
    logger.setLevel(levels.get(verbosity, WHOLE_BODIES))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.propagate = False


def log_request(method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes | None) -> None:
    """Log headers and body of a request before it is sent."""
    if logger.isEnabledFor(HEADERS):
        logger.log(HEADERS, "%s %s", method, url)
        _log_headers("Request", headers)
    _log_body("Request", url, body)


def log_response(method: str, url: str, milliseconds: float, response: Any, body: bytes | None) -> None:
    """Log the line of a request that was answered, with headers and body according to the level.

    Args:
        response: urllib3's response.
        body: its body; None if that is read later.
    """
    logger.log(LINES, "%s %s %d in %.0f ms", method, url, response.status, milliseconds)
    if logger.isEnabledFor(BODIES):
        _log_headers("Response", response.headers.items())
    _log_body("Response", url, body)


def log_failure(method: str, url: str, milliseconds: float, error: Exception) -> None:
    """Log the line of a request that was not answered."""
    logger.log(LINES, "%s %s failed in %.0f ms: %s", method, url, milliseconds, str(error).partition("\n")[0])


def _log_headers(direction: str, headers: Iterable[tuple[str, str]]) -> None:
    logger.log(HEADERS, "%s headers:", direction)
    for name, value in headers:
        logger.log(HEADERS, "    %s: %s", name, "<masked>" if name.lower() in _HIDDEN_HEADERS else value)


def _log_body(direction: str, url: str, body: bytes | None) -> None:
    if not body or not logger.isEnabledFor(BODIES):
        return
    path = url.partition("?")[0]
    if any(f"{hidden}/" in f"{path}/" for hidden in _HIDDEN_PATHS):
        logger.log(BODIES, "%s body: <%d bytes masked>", direction, len(body))
        return
    text = body.decode("utf-8", "replace")
    if not logger.isEnabledFor(WHOLE_BODIES) and len(text) > _BODY_PREVIEW_CHARS:
        text = f"{text[:_BODY_PREVIEW_CHARS]} [{len(text) - _BODY_PREVIEW_CHARS} characters more]"
    logger.log(BODIES, "%s body: %s", direction, text)
