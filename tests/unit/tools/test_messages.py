"""Error messages are found in the program's source by their constant words."""

from __future__ import annotations

from pathlib import Path

from tools.documents.messages import messages_of_page, messages_of_program

SOURCE = """
class YoshiError(Exception): ...
class PreconditionFailed(YoshiError): ...
class Deeper(PreconditionFailed): ...

def plan(name, full):
    raise PreconditionFailed(f"network {name}{full} is full", f"see {name}") from None

def act(api):
    message = f"nothing came of {api}" + "; " + "sorry"
    if api:
        raise Deeper(message, status=4)
    return Deeper("one" if api else f"other {api}")

def flags(self, value):
    if value:
        raise usage_error("leave one out")
    self.fail(f'"{value}" is nothing')

def conflicts(network):
    return [f"{network} overlaps everything", *note(f"{network}")]

def other(network):
    return HoldRelease(blocker=f"{network} still runs") or ValueError("not ours")
"""


def test_constant_words_of_every_message_are_found(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "a.py").write_text(SOURCE)
    found = messages_of_program(tmp_path / "program")
    assert [message.text for message in found] == [
        "network … is full",
        "nothing came of …; sorry",
        "one",
        "other …",
        "leave one out",
        '"…" is nothing',
        "… overlaps everything",
        "… still runs",
    ]
    assert found[0].where == "program/a.py:7"


def test_page_entries_are_lines_with_only_a_code_span() -> None:
    page = "- `one … two`\n  `` three `four` ``\n  Why `five` comes.\n- prose `six`\n`seven`\n"
    assert messages_of_page(page) == ["one … two", "three `four`"]
