"""Rounds: how many requests of a command wait for each other's answers.

The round of a request is one more than the highest round of the requests whose answers its code path has seen: those
before it in the same task, before the task was submitted, and of the tasks whose results were taken. So the requests
of one round could all be in flight together, and the highest round is how many round trips the command needs at least.
This does not depend on the scheduling of threads, nor on how many workers a pool has.

For that, tasks of a ThreadPoolExecutor run at once in the thread that submits them, in the order of submission; other
threads run as they are, and begin with the round of the thread that starts them.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.golden.rebinding import rebind, replace


@dataclass(frozen=True)
class Position:
    """Where the code of a thread is.

    Attributes:
        round: the highest round whose answers it has seen.
        pool: the number of the innermost pool whose task it is, 0 for none.
        workers: of that pool.
    """

    round: int = 0
    pool: int = 0
    workers: int = 1


class _State(threading.local):
    position = Position()


_state = _State()
_numbers = itertools.count(1)


def here() -> Position:
    """Return the position of this thread."""
    return _state.position


def begin_command() -> None:
    """Begin again with the first round."""
    global _numbers
    _numbers = itertools.count(1)
    _state.position = Position()


def next_round() -> Position:
    """Count a request of this thread; return its position."""
    position = _state.position
    _state.position = Position(position.round + 1, position.pool, position.workers)
    return _state.position


def _see(round_: int) -> None:
    """Note that an answer of that round was seen."""
    position = _state.position
    _state.position = Position(max(position.round, round_), position.pool, position.workers)


class _Task(Future[Any]):
    """A task that was run when it was submitted."""

    round = 0

    def result(self, timeout: float | None = None) -> Any:
        _see(self.round)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        _see(self.round)
        return super().exception(timeout)


def _submit(pool: ThreadPoolExecutor, task: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
    future = _Task()
    before = _state.position
    about = vars(pool)
    if "golden_number" not in about:
        about |= {"golden_number": next(_numbers), "golden_round": before.round}
    _state.position = Position(before.round, about["golden_number"], pool._max_workers)
    try:
        future.set_result(task(*args, **named))
    except BaseException as error:
        future.set_exception(error)
    future.round = _state.position.round
    about["golden_round"] = max(about["golden_round"], future.round)
    _state.position = before
    return future


def _map(
    pool: ThreadPoolExecutor, task: Callable[..., Any], *columns: Iterable[Any], timeout: Any = None, **more: Any
) -> Iterator[Any]:
    futures = [pool.submit(task, *row) for row in zip(*columns, strict=False)]

    def results() -> Iterator[Any]:
        for future in futures:
            yield future.result()

    return results()


def _shutdown(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
    if wait:
        _see(vars(pool).get("golden_round", 0))


def _as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
    yield from list(futures)


def install() -> None:
    """Let this process count rounds from now on."""
    replace(ThreadPoolExecutor, "submit", _submit)
    replace(ThreadPoolExecutor, "map", _map)
    replace(ThreadPoolExecutor, "shutdown", _shutdown)
    rebind(concurrent.futures, "as_completed", _as_completed)
    start, join = threading.Thread.start, threading.Thread.join

    def start_here(thread: threading.Thread) -> None:
        position, run = _state.position, thread.run

        def run_there() -> None:
            _state.position = position
            try:
                run()
            finally:
                vars(thread)["golden_round"] = _state.position.round

        vars(thread)["run"] = run_there
        start(thread)

    def join_here(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        _see(vars(thread).get("golden_round", 0))

    replace(threading.Thread, "start", start_here)
    replace(threading.Thread, "join", join_here)
