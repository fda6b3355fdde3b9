"""How `sync --watch` ends: on Ctrl-C, or on a second one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from kubectl_yoshi.cli import sync
from kubectl_yoshi.cli.sync import stop_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What handles signals is the whole process's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_repeated_signal_stops_once() -> None:
    """As `timeout` sends it, to the process and to its group."""
    ended: list[str] = []
    with stop_on_signals(lambda: ended.append("asked")):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert ended == ["asked"]


def test_second_ctrl_c_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "REPEATED_SIGNAL_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), stop_on_signals(lambda: None):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_signal_after_the_end_is_ignored() -> None:
    """The second of the two may come only when the program is about to end."""
    with stop_on_signals(lambda: None):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert {signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} == {signal.SIG_IGN}


def test_signal_handlers_are_restored() -> None:
    with stop_on_signals(lambda: None):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
