"""The place of the network: urllib3 hands requests to the fake API server, and each is recorded."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3
from urllib3 import exceptions

from tests.golden import rounds
from tests.golden.rebinding import replace
from tests.golden.server import Answer, FakeApiServer, Request
from tests.golden.watches import Watches

REAL_TIME = time.perf_counter
Behaviour = Callable[[FakeApiServer, Request], Answer]
"""How a request is answered, or what goes wrong instead (an exception of urllib3)."""


@dataclass
class Fault:
    """Some requests are answered otherwise.

    Attributes:
        pattern: found in "METHOD path" of such a request.
        behaviour: what becomes of it.
        times: how many of them, from the first one on.
        after: how many of them are answered well before.
    """

    pattern: str
    behaviour: Behaviour
    times: int = 1
    after: int = 0

    def takes(self, request: Request) -> bool:
        """Return whether this request is one of them, and count it."""
        if not re.search(self.pattern, f"{request.method} {request.path}"):
            return False
        self.after -= 1
        if self.after >= 0 or self.times <= 0:
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Exchange:
    """A request that was sent, and what it was answered with.

    Attributes:
        position: where in the program it was sent.
        request: the request.
        result: the status, or the name of an error of the connection.
    """

    position: rounds.Position
    request: Request
    result: str


@dataclass
class Transport:
    """Carries the requests of one scenario.

    Attributes:
        server: answers them.
        faults: of the current command.
        exchanges: what was sent since the current command began.
        mistake: what went wrong in the fake API server itself.
        watches: the watches of the current command.
    """

    server: FakeApiServer
    faults: list[Fault] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    mistake: Exception | None = None
    watches: Watches = field(init=False)

    def __post_init__(self) -> None:
        self.begin([])

    def begin(self, faults: list[Fault]) -> None:
        """Begin with the next command."""
        self.faults, self.exchanges, self.watches = faults, [], Watches(self.server)
        self.watches.send_events()

    def send(self, request: Request) -> Answer:
        """Send a request as urllib3 does it, and record it."""
        position = rounds.next_round()
        fault = next((fault for fault in self.faults if fault.takes(request)), None)
        self.watches.active = REAL_TIME()
        try:
            answer = fault.behaviour(self.server, request) if fault else self.server.handle(request)
            if request.query.get("watch") == "true" and answer.status == 200:
                answer = dataclasses.replace(answer, body=self.watches.open(request))
            self.watches.send_events()
        except (exceptions.HTTPError, KeyboardInterrupt) as error:
            self.exchanges.append(Exchange(position, request, type(error).__name__))
            raise
        except Exception as error:
            self.mistake = error
            raise
        self.exchanges.append(Exchange(position, request, str(answer.status)))
        return answer


def install(transport: Transport) -> None:
    """Let this process send all requests that way from now on."""

    def urlopen(
        pool: urllib3.HTTPConnectionPool,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *args: Any,
        preload_content: bool = True,
        **more: Any,
    ) -> urllib3.HTTPResponse:
        text = body.decode() if isinstance(body, bytes) else body or ""
        named = {name.lower(): value for name, value in (headers or {}).items()}
        answer = transport.send(Request(method, re.sub(r"^\w+://[^/]+", "", url), named, text))
        return urllib3.HTTPResponse(
            body=io.BytesIO(answer.body) if isinstance(answer.body, bytes) else answer.body,
            headers=answer.headers,
            status=answer.status,
            preload_content=preload_content,
            request_method=method,
        )

    replace(urllib3.HTTPConnectionPool, "urlopen", urlopen)


def all_of(exchanges: list[Exchange]) -> Iterator[list[Exchange]]:
    """Yield the requests of each round of a command."""
    for number in sorted({exchange.position.round for exchange in exchanges}):
        yield [exchange for exchange in exchanges if exchange.position.round == number]
