"""Foreign text never controls a terminal, whatever prints it (names, notes, messages of the server).

everything written to stdout and stderr      the guard: C0 but \\n and \\t, DEL, C1, bidi controls, separators
what passes the guard                        tables, progress, differences: safe by themselves, and keep their colours
JSON, YAML                                   escaped, and read back as they were
jsonpath                                     raw in a pipe, guarded on a terminal
whole commands                               an argument, a flag, a note, a webhook's message, files, names
"""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import TextIO, cast

import click
import pytest
import yaml
from click.shell_completion import CompletionItem
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.__main__ import run as run_program
from kubectl_yoshi.cli.completion.protocol import format_reply
from kubectl_yoshi.cli.errors import run_reporting_errors
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.history import PastAllocation
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.printable import CONTROL_CHARACTERS, escape_controls, indent_continuation, to_single_line
from kubectl_yoshi.output.escaping import EscapingStream, escape_std_streams, raw_unless_terminal, unwrap_stream
from kubectl_yoshi.output.format_option import parse_output
from kubectl_yoshi.output.formats import print_objects, to_json_text, to_yaml, write_json_list
from kubectl_yoshi.output.plan_printer import ObjectChange, format_change, write_diff
from kubectl_yoshi.output.progress import Progress
from kubectl_yoshi.output.tables import Column, TableStyle, write_table
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202eevil\u2066\u2028\r\nerror: forged"
TEXTS = st.text(
    st.sampled_from("a é\t\n\r\x00\x07\x1b\x7f\x85\x9b\u200f\u2028\u2029\u202e\u2066") | st.characters(), max_size=20
)
COLOURS = re.compile(r"\x1b\[\d+m")


def is_safe(text: str) -> bool:
    """Whether nothing but letters, layout and this program's colours is in it."""
    bare = COLOURS.sub("", text)
    return not CONTROL_CHARACTERS.search(bare) and all(
        char in "\n\t" or unicodedata.category(char) != "Cc" for char in bare
    )


class AsTerminal(io.StringIO):
    """What a person would see."""

    def isatty(self) -> bool:
        return True


def guard(stream: TextIO) -> TextIO:
    return cast(TextIO, EscapingStream(stream))


@given(TEXTS)
def test_escaping_stream_passes_no_control_characters(text: str) -> None:
    out = io.StringIO()
    assert guard(out).write(text) == len(text)
    guard(out).writelines([text, text])
    click.echo(text, file=guard(out))
    print(text, file=guard(out))
    assert is_safe(out.getvalue())
    out.getvalue().encode()


@given(TEXTS)
def test_escaping_changes_only_control_characters(text: str) -> None:
    assert escape_controls(escape_controls(text)) == escape_controls(text)
    if not CONTROL_CHARACTERS.search(text):
        assert escape_controls(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "^[[31mred"),
        ("a\x7f\x9b\r", "a^?\\u009b^M"),
        ("\u202egpj", "\\u202egpj"),
        ("\udcff", "\\udcff"),
        ("für 日本 \U0001f469\u200d\U0001f4bb\n\t", "für 日本 \U0001f469\u200d\U0001f4bb\n\t"),
    ],
)
def test_control_characters_are_shown_escaped(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


@given(TEXTS, TEXTS)
def test_foreign_text_never_starts_a_line_like_a_message(message: str, done: str) -> None:
    err = io.StringIO()

    def fails() -> int:
        error = PreconditionFailed(message, "Do this.")
        error.changes_so_far = done
        raise error

    run_reporting_errors(fails, err=guard(err), verbosity=lambda: 0)
    assert is_safe(err.getvalue())
    own = 2 if done else 1
    assert sum(1 for line in err.getvalue().split("\n")[1:] if line and line[:2] != "  ") <= own
    assert "\n" not in to_single_line(message)
    assert "\n" not in PreconditionFailed(message).in_one_line
    assert "\nerror" not in indent_continuation(f"x\n{message}\nerror: forged")


@given(TEXTS, TEXTS)
def test_holders_and_changes_are_one_line(name: str, note: str) -> None:
    ref = NETWORKWIZARD.ref("blue", "prod")
    texts = [
        Allocation(RESERVATION, "prod", "", note=note).holder,
        Allocation(VIRTUALMACHINE, "prod", name).holder,
        PastAllocation(RESERVATION, "prod", "", "", note, "", "").holder,
        PastAllocation(VIRTUALMACHINE, "prod", name, "", "", "", "").holder,
        format_change(Change(Verb.PATCH, ref, f"record {name} for {note}", [])),
    ]
    for text in texts:
        assert is_safe(text)
        assert "\n" not in text
        assert "\t" not in text


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), st.booleans())
def test_tables_are_safe_and_keep_their_colours(rows: list[tuple[str, str]], colour: bool) -> None:
    out = io.StringIO()
    columns = [Column[tuple[str, str]]("A", lambda row: row[0]), Column("B", lambda row: row[1], state=True)]
    write_table([*rows, ("x", "Bound")], columns, guard(out), TableStyle(colour=colour))
    assert is_safe(out.getvalue())
    assert len(out.getvalue().splitlines()) == len(rows) + 2
    assert ("\x1b[32mBound\x1b[0m" in out.getvalue()) == colour


@given(TEXTS)
def test_progress_is_safe(text: str) -> None:
    out = AsTerminal()
    with Progress("attaching", 0, guard(out)) as line:
        line.step(1, text)
    assert is_safe(out.getvalue().replace("\r", ""))
    assert "\n" not in out.getvalue()


@given(st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_json_and_yaml_are_safe_and_round_trip(value: dict[str, str]) -> None:
    out = io.StringIO()
    write_json_list([value], guard(out))
    assert json.loads(out.getvalue())["items"] == [value]
    assert is_safe(out.getvalue())
    text = to_json_text(value)
    assert is_safe(text)
    assert json.loads(text) == value
    if not any("\ud800" <= char <= "\udfff" for part in (*value, *value.values()) for char in part):
        text = to_yaml(value)
        assert is_safe(text)
        assert yaml.safe_load(text) == value


def test_diffs_are_safe_and_coloured() -> None:
    out = AsTerminal()
    ref = NETWORKWIZARD.ref("blue", "prod")
    changed = ObjectChange(ref, {"spec": {"a": EVIL}}, {"spec": {"a": EVIL * 2}})
    assert write_diff([changed], guard(out), {"FORCE_COLOR": "1"})
    assert is_safe(out.getvalue())
    assert "\x1b[32m" in out.getvalue()


def test_templates_are_raw_in_a_pipe_and_escaped_on_a_terminal() -> None:
    for stream, raw in ((io.StringIO(), True), (AsTerminal(), False)):
        output = parse_output("jsonpath={.items[0].note}")
        print_objects([{"note": EVIL}], guard(stream), output)
        assert (stream.getvalue() == EVIL) == raw
        assert raw or is_safe(stream.getvalue())
        stream.truncate(0)
        print_objects([{"note": EVIL}], guard(stream), parse_output("custom-columns=NOTE:.note"))
        assert is_safe(stream.getvalue().lstrip("\0"))
    plain = io.StringIO()
    assert unwrap_stream(plain) is raw_unless_terminal(plain) is plain


def test_completion_is_one_word_on_one_line() -> None:
    reply = format_reply([CompletionItem("web-1", help=EVIL), CompletionItem(f"web-2{EVIL}")])
    first, *rest = reply.splitlines()
    assert first.startswith("web-1\t^[]0;owned")
    assert [line[0] for line in rest] == [":"]
    assert is_safe(reply)


@pytest.mark.parametrize(
    "words",
    [
        [EVIL],
        ["vm", EVIL],
        ["vm", "attach", EVIL],
        ["vm", "attach", "web", f"--{EVIL}"],
        ["network", "create", "x", "--cidr", EVIL],
        ["ips", "show", EVIL],
        ["-v", EVIL, "version"],
        ["--kubeconfig", f"/nowhere{EVIL}", "network", "list"],
        ["--context", EVIL, "network", "list"],
        ["vm", "attach", "--vms-from", f"/nowhere/{EVIL}", "--network", "n"],
        ["help", EVIL],
        ["ips", "list", "-o", EVIL],
    ],
)
def test_usage_errors_escape_their_argument(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "contexts": [],
        "clusters": [],
        "users": [],
        "current-context": EVIL,
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    run_program(words, "kubectl yoshi")
    out, err = capsys.readouterr()
    assert is_safe(out + err)
    assert "\nerror: forged" not in err
    assert err


def test_standard_streams_are_restored() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="x"), escape_std_streams():
        raise ValueError("x")
    assert (sys.stdout, sys.stderr) == before


def test_commands_escape_notes_names_and_webhook_messages() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    said = [
        run(cluster, "ips", "reserve", "blue", "10.133.0.9", "--note", EVIL),
        run(cluster, "ips", "list", "--network", "blue"),
        run(cluster, "ips", "list", "--network", "blue", "-o", "json"),
        run(cluster, "ips", "list", "--network", "blue", "-o", "yaml"),
        run(cluster, "ips", "show", "10.133.0.9"),
        run(cluster, "network", "describe", "blue"),
        run(cluster, "diff", "ips", "release", "blue", "10.133.0.9"),
        run(cluster, "ips", "release", "blue", "10.133.0.9", "--dry-run=client"),
        run(cluster, "ips", "release", "blue", "10.133.0.9"),
        run(cluster, "vm", "attach", EVIL, "web-1", "--network", "blue"),
    ]
    cluster.api.refuse("patch", NETWORKWIZARD, 403, f'admission webhook "w" denied the request: {EVIL}')
    said.append(run(cluster, "ips", "reserve", "blue", "10.133.0.10"))
    assert "denied the request" in said[-1].err
    for one in said:
        assert is_safe(one.out + one.err), one
        assert not re.search(r"^error: forged", one.out + one.err, re.MULTILINE)
    assert "owned" in said[0].out + said[1].out
