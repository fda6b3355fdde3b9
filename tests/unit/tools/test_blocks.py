"""Command blocks of documents: parsing, comparison and checks; those not run are listed here."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tests.documents import PAGES, commands_of_program, pages_that_need, parse
from tools.documents.blocks import Block, read_document
from tools.documents.running import Failed, check_syntax, constant, run, with_outputs

NOT_RUN = {
    "make demo": "it starts a lab of its own, and tests/e2e has what it shows",
    "kubectl krew install yoshi": "nothing is released yet",
    "kubectl krew upgrade yoshi": "the same",
    "make test": "it would run this test",
    "make lint unit": "the same",
    "velero restore create --from-backup nightly": "there is no Velero; its restore is imitated",
    "velero restore create --from-backup nightly \\": "the same",
    "openstack port list -f csv > ports.csv": "there is no OpenStack; its list is imitated",
}
"""The first line of each block that is not run -> why."""

PAGE = """\
# A page

<!-- documents: given
prepare it
-->

```sh
echo one
```

```text
one
```

<!-- documents: exit 1 -->

```sh
false
```

Prose.

```text
no output
```

<!-- documents: not run: too dear -->

```sh
sleep 1000
```
"""


def test_blocks_are_parsed_with_their_comments() -> None:
    document = read_document(PAGE)
    assert document.needs == "core"
    assert document.blocks == (
        Block("prepare it", 4, shown=False),
        Block("echo one", 8, "one", (11, 12)),
        Block("false", 18, exit_code=1),
        Block("sleep 1000", 30, not_run="too dear"),
    )


def test_page_comment_sets_its_requirement() -> None:
    assert read_document("<!-- documents: full -->\n").needs == "full"


@pytest.mark.parametrize("text", ["```sh\necho", "<!-- documents: given\nx", "<!-- documents: whatever -->"])
def test_unclosed_or_unknown_markup_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        read_document(text)


def test_block_with_another_exit_code_is_reported(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert [out for _, out in run(read_document("```sh\necho a\n```\n"), variables)] == ["a\n"]
    with pytest.raises(Failed, match="line 2: exit code 1"):
        list(run(read_document("```sh\nfalse\ntrue\n```\n"), variables))


def test_outputs_replace_the_old_ones() -> None:
    assert with_outputs(PAGE, {8: "two\nthree\n"}) == PAGE.replace("```text\none\n", "```text\ntwo\nthree\n")


def test_output_comparison_ignores_ages_identifiers_and_widths() -> None:
    shown = (
        "NAME   AGE\na-b    12s\nUID:   36ee0dd9-c661-4ee1-b5e3-bef45649f6a7 02:8c:b8:35:45:5b 2026-11-25T10:50:04.45Z"
    )
    printed = (
        "NAME  AGE\na-b  1m5s\nUID:  dbf23e63-f719-4246-9968-dcf178ffb568 02:20:f0:e7:07:25 2026-11-25T10:46:48Z\n"
    )
    assert constant(shown) == constant(printed)
    assert constant("a 10.0.0.1") != constant("a 10.0.0.2")
    assert constant("USED 3") != constant("USED 4")


def test_blocks_not_run_are_listed_with_their_reason() -> None:
    found = {}
    for page in PAGES:
        for block in read_document(page.read_text(encoding="utf-8")).blocks:
            check_syntax(block)
            if block.not_run:
                found[re.split(r"\s{2,}#|\n", block.commands)[0].strip()] = page.name
    assert set(found) == set(NOT_RUN), "blocks that are not run are listed in NOT_RUN above, with the reason"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_have_no_detached_rows(page: Path) -> None:
    """A blank line between rows ends a table: what follows is shown as text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    torn = [table.partition("\n")[0] for table in tables if not re.match(r".*\n\|[-:| ]+\|\n", table)]
    assert torn == []


def test_pages_for_labs_are_found() -> None:
    assert {"README.md", "lifecycle.md"} <= {page.name for page in pages_that_need("core")}


@pytest.mark.parametrize("page", pages_that_need("parsed"), ids=lambda page: page.name)
def test_commands_of_pages_not_run_can_be_parsed(page: Path) -> None:
    blocks = read_document(page.read_text(encoding="utf-8")).blocks
    commands = [words for block in blocks for words in commands_of_program(block.commands)]
    assert len(commands) > 10
    for words in commands:
        parse(words)


def test_command_with_an_unknown_flag_is_refused() -> None:
    with pytest.raises(click.UsageError):
        parse(["network", "create", "blue", "--no-such-flag"])
