"""`vm attach --wait`: its notes on addresses that old instances use until the wait is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kubectl_yoshi.cli.vm import execute
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.plan import Plan

STAYS = "10.22.0.70 stays recorded for prod/web-1 as long as pod/virt-launcher-web-1 runs with it"
OTHER = "bgpconfiguration/default is shared"


@pytest.mark.parametrize(("wait", "said"), [(True, (OTHER,)), (False, (STAYS, OTHER))])
def test_note_on_a_kept_allocation_is_printed_only_without_wait(
    monkeypatch: pytest.MonkeyPatch, wait: bool, said: tuple[str, ...]
) -> None:
    done = RunResult(Plan(), (), {}, {}, (STAYS, OTHER))
    monkeypatch.setattr(execute, "execute", lambda *args, **more: done)
    monkeypatch.setattr(execute, "print_results", lambda *args: None)
    options: Any = SimpleNamespace(dry_run="none", output=None, timeout=None)
    attach: Any = [(lambda vms: None, "attached")]
    session: Any = SimpleNamespace(is_diff=False)
    (found,) = execute.execute_parts(session, options, (("prod", "web-1"),), attach, "attaching", wait=wait)
    assert found.notes == said
