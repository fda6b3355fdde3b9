"""-f: what is read from files, folders and stdin, and what is printed of files that are not right."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kubectl_yoshi.cli.manifests import parse_objects, read_objects
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import name_of

ONE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def names(*filenames: str) -> list[str]:
    return [name_of(obj) for obj in read_objects(filenames)]


def test_file_may_contain_several_and_empty_documents(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"---\n{ONE % 'a'}---\n---\n# nothing\n---\n{ONE % 'b'}", encoding="utf-8")
    assert names(str(file)) == ["a", "b"]


def test_folder_is_read_in_order_of_its_manifest_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "readme.md"):
        (tmp_path / name).write_text(
            ONE % name[0] if name != "c.json" else '{"apiVersion":"v1","kind":"A","metadata":{"name":"c"}}'
        )
    assert names(str(tmp_path)) == ["a", "b", "c"]


def test_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(ONE % "x"))
    assert names("-") == ["x"]


def test_list_object_is_expanded() -> None:
    text = '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}]}'
    assert [name_of(obj) for obj in parse_objects(text, "x")] == ["a"]


def test_timestamps_stay_strings() -> None:
    text = ONE % "a" + "data: {at: 2020-01-01, then: 2020-01-01T00:00:00Z}\n"
    assert parse_objects(text, "x")[0]["data"] == {"at": "2020-01-01", "then": "2020-01-01T00:00:00Z"}


def test_yaml_merge_keys_are_supported() -> None:
    text = ONE % "a" + "one: &one {mtu: 1, vlan: 2}\ntwo: &two\n  <<: *one\n  vlan: 3\nthree:\n  <<: *two\n  mtu: 4\n"
    (parsed,) = parse_objects(text, "x")
    assert (parsed["two"], parsed["three"]) == ({"mtu": 1, "vlan": 3}, {"mtu": 4, "vlan": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ONE % "a" + "spec:\n  cidr: 10.0.0.0/8\n  cidr: 10.1.0.0/16\n", "valid YAML: cidr is a duplicate key"),
        (
            '{"apiVersion":"v1","kind":"A","metadata":{"name":"a"},"kind":"B"}',
            "line 1: this is not valid YAML: kind is",
        ),
        ("a: b\n c: d\n", "broken.yaml, line 2: this is not valid YAML"),
        ("a: [1, 2\n", "broken.yaml, line 2: this is not valid YAML"),
        ("\x00", "this is not valid YAML"),
        ("!!python/object:os.system x", "this is not valid YAML"),
        ("", "no objects in it"),
        ("just words", "this is not a Kubernetes object"),
        ("- 1", "this is not a Kubernetes object"),
        ("kind: A\nmetadata: {name: a}", "has no apiVersion"),
        ("apiVersion: v1\nmetadata: {name: a}", "has no kind"),
        ("apiVersion: v1\nkind: A", "the A has no metadata.name"),
        ("apiVersion: v1\nkind: A\nmetadata: []", "the A has no metadata.name"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: 12}", 'write "12" in quotes'),
        (f"{ONE % 'a'}---\nkind: B", "broken.yaml, document 2: the object has no apiVersion"),
    ],
)
def test_invalid_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_objects([str(file)])
    assert words in str(caught.value)
    assert "broken.yaml" in str(caught.value)


def test_unreadable_path_is_named(tmp_path: Path) -> None:
    for name, words in (
        (str(tmp_path / "missing.yaml"), "cannot read"),
        (str(tmp_path), "no .yaml, .yml, .json files"),
        ("https://example.com/x.yaml", "URLs are not supported"),
    ):
        with pytest.raises(UsageError, match=words):
            read_objects([name])
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_objects([str(binary)])
