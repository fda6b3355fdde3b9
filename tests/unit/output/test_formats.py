"""-o: the formats, and lists in each of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kubectl_yoshi.model.errors import UsageError, YoshiError
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.output.format_option import OutputFormat, parse_output
from kubectl_yoshi.output.formats import (
    ListFormat,
    print_objects,
    print_rows,
    to_json_text,
    to_list_object,
    to_yaml,
    without_managed_fields,
)
from kubectl_yoshi.output.tables import Column

COLUMNS = [
    Column[tuple[str, str]]("NAME", lambda row: row[0]),
    Column[tuple[str, str]]("CIDR", lambda row: row[1]),
    Column[tuple[str, str]]("NOTE", lambda row: None, wide=True),
]
ROWS = [("blue", "10.0.0.0/24"), ("a-long-name", "fd00::/64")]


def to_json(row: tuple[str, str]) -> Json:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "NetworkWizard",
        "metadata": {"name": row[0], "managedFields": [{}]},
        "spec": {"cidr": row[1]},
    }


def shown(output: str = "", rows: list[tuple[str, str]] = ROWS, **settings: bool) -> str:
    out = io.StringIO()
    list_format = ListFormat(parse_output(output) if output else OutputFormat(), **settings)
    print_rows(rows, COLUMNS, to_json, out, list_format)
    return out.getvalue()


def test_default_output_is_a_table() -> None:
    assert shown() == "NAME          CIDR\nblue          10.0.0.0/24\na-long-name   fd00::/64\n"


def test_wide_has_additional_columns() -> None:
    assert shown("wide").splitlines()[0].split() == ["NAME", "CIDR", "NOTE"]


def test_no_headers_applies_to_tables_and_custom_columns() -> None:
    assert shown(no_headers=True) == "blue          10.0.0.0/24\na-long-name   fd00::/64\n"
    assert shown("custom-columns=N:.metadata.name", no_headers=True) == "blue\na-long-name\n"


def test_json_is_a_list_without_managed_fields() -> None:
    value = json.loads(shown("json"))
    assert (value["apiVersion"], value["kind"]) == ("v1", "List")
    assert [item["metadata"] for item in value["items"]] == [{"name": "blue"}, {"name": "a-long-name"}]


def test_single_object_is_not_a_list() -> None:
    assert json.loads(shown("json", ROWS[:1], single=True))["kind"] == "NetworkWizard"
    assert yaml.safe_load(shown("yaml", ROWS[:1], single=True))["kind"] == "NetworkWizard"


def test_no_objects_are_an_empty_json_list_and_no_table_lines() -> None:
    assert json.loads(shown("json", []))["items"] == []
    assert shown("", []) == shown("name", []) == ""


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS, [("of\nlines", "[]"), ("y", "1e3")]])
def test_streamed_list_equals_the_whole_list(rows: list[tuple[str, str]]) -> None:
    whole = to_list_object([without_managed_fields(to_json(row)) for row in rows])
    assert shown("json", rows) == to_json_text(whole)
    assert shown("yaml", rows) == to_yaml(whole)


@pytest.mark.parametrize("output", ["json", "yaml", "name"])
def test_list_is_written_incrementally(output: str) -> None:
    out = io.StringIO()
    written = []

    def objects() -> Iterator[Json]:
        for row in ROWS:
            written.append(out.getvalue())
            yield to_json(row)

    assert print_objects(objects(), out, parse_output(output)) == 2
    assert ROWS[0][0] not in written[0]
    assert ROWS[0][0] in written[1]


def test_name_format_is_kind_group_and_name() -> None:
    assert shown("name", ROWS[:1]) == "networkwizard.plumber.k8s.pf9.io/blue\n"


def test_templates_and_columns_are_read_from_files(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text('{range .items[*]}{.spec.cidr}{"\\n"}{end}', encoding="utf-8")
    columns = tmp_path / "columns"
    columns.write_text("NAME            RANGE\nmetadata.name   spec.cidr\n", encoding="utf-8")
    assert shown(f"jsonpath-file={template}") == "10.0.0.0/24\nfd00::/64\n"
    assert shown(f"custom-columns-file={columns}", ROWS[:1]) == "NAME   RANGE\nblue   10.0.0.0/24\n"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("go-template={{.}}", "not supported"),
        ("go-template-file=x", "not supported"),
        ("xml", "unable to match"),
        ("", "unable to match"),
        ("json=1", "takes no value"),
        ("jsonpath", "no value given"),
        ("custom-columns=NAME", "expected <header>:<json-path-expr>"),
        ("jsonpath-file=/does/not/exist", "cannot read /does/not/exist"),
        ("jsonpath={.a", "unclosed action"),
    ],
)
def test_unknown_format_is_a_usage_error(output: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(output)
    assert words in str(caught.value)


def test_invalid_columns_file_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "columns"
    path.write_text("NAME RANGE\nmetadata.name\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is not valid"):
        parse_output(f"custom-columns-file={path}")


def test_failing_template_is_named() -> None:
    with pytest.raises(YoshiError, match=r"items\[9\]"):
        print_objects([], io.StringIO(), parse_output("jsonpath={.items[9]}"))


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "1e3",
        "12e45",
        "0x1f",
        "true",
        "yes",
        "y",
        "N",
        "null",
        "~",
        "",
        "2020-01-01",
        "02:00:00:00:00:01",
        "1:20",
        "1.5",
    ],
)
def test_yaml_quotes_ambiguous_strings(text: str) -> None:
    assert to_yaml({"a": text}) == f'a: "{text}"\n'


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.0/24", "fd00::/64", "a b", "web-1", "2d", "Ümlaut"])
def test_yaml_does_not_quote_plain_strings(text: str) -> None:
    assert to_yaml({"a": text}) == f"a: {text}\n"


def test_yaml_has_no_aliases_and_no_list_indentation() -> None:
    same = {"b": [1, "two\nlines\n"]}
    assert to_yaml({"y": same, "x": same}) == (
        'x:\n  b:\n  - 1\n  - |\n    two\n    lines\n"y":\n  b:\n  - 1\n  - |\n    two\n    lines\n'
    )
