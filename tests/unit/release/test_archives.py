"""Archives are reproducible."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from release.archives import EARLIEST, pack, sha256, sort_zip

EPOCH = 1_700_000_000


def a_folder(path: Path, *, backwards: bool = False) -> Path:
    """A program, a text, a folder and a link, made in one order or the other."""
    contents = {"program": b"#!/bin/sh\n", "b/text": b"text\n", "b/c/deep": b"\x00" * 5000, "a": b"a\n"}
    for name, content in sorted(contents.items(), reverse=backwards):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "program").chmod(0o755)
    (path / "link").symlink_to("b/text")
    return path


@pytest.mark.parametrize("name", ["x.tar.gz", "x.zip"])
def test_archive_depends_only_on_names_contents_and_executable_bits(tmp_path: Path, name: str) -> None:
    first, second = a_folder(tmp_path / "1"), a_folder(tmp_path / "2", backwards=True)
    for number, path in enumerate([second, *second.rglob("*")]):
        os.utime(path, (number, number), follow_symlinks=False)
    (second / "a").chmod(0o600)
    (second / "program").chmod(0o700)
    (second / "b").chmod(0o700)
    archives = [tmp_path / f"one-{name}", tmp_path / f"another-{name}"]
    for folder, archive in zip([first, second], archives, strict=True):
        pack(folder, archive, epoch=EPOCH)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    (second / "a").write_bytes(b"b\n")
    pack(second, archives[1], epoch=EPOCH)
    assert sha256(archives[0]) != sha256(archives[1])


def test_tar_is_sorted_and_owned_by_root(tmp_path: Path) -> None:
    pack(a_folder(tmp_path / "in"), tmp_path / "x.tar.gz", epoch=EPOCH)
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == ["a", "b", "b/c", "b/c/deep", "b/text", "link", "program"]
    assert {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {
        (EPOCH, 0, 0, "", "")
    }
    assert {entry.name: entry.mode for entry in entries if entry.isfile()} == {
        "a": 0o644, "b/c/deep": 0o644, "b/text": 0o644, "program": 0o755,
    }  # fmt: skip
    assert (tmp_path / "x.tar.gz").read_bytes()[4:8] == b"\0\0\0\0"  # gzip's own time


def test_zip_keeps_executable_bits_and_starts_in_1980(tmp_path: Path) -> None:
    pack(a_folder(tmp_path / "in"), tmp_path / "x.zip", epoch=0)
    with zipfile.ZipFile(tmp_path / "x.zip") as packed:
        assert packed.namelist() == ["a", "b/c/deep", "b/text", "link", "program"]
        modes = {entry.filename: stat.S_IMODE(entry.external_attr >> 16) for entry in packed.infolist()}
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert modes == {"a": 0o644, "b/c/deep": 0o644, "b/text": 0o644, "link": 0o644, "program": 0o755}
    assert int(subprocess.check_output(["date", "-u", "-d", "1980-01-01", "+%s"])) == EARLIEST


def test_zip_does_not_depend_on_the_file_order(tmp_path: Path) -> None:
    for name, order in (("1.zip", ["b", "a/c", "a.txt"]), ("2.zip", ["a/c", "a.txt", "b"])):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            for entry in order:
                packed.writestr(zipfile.ZipInfo(entry), entry * 9)
        sort_zip(tmp_path / name)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as packed:
        assert {entry: packed.read(entry) for entry in packed.namelist()} == {
            "a.txt": b"a.txt" * 9, "a/c": b"a/c" * 9, "b": b"b" * 9,
        }  # fmt: skip


def test_unpacked_archive_equals_the_packed_folder(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "in")
    pack(folder, tmp_path / "x.tar.gz", epoch=EPOCH)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xzf", tmp_path / "x.tar.gz"], check=True)
    subprocess.run(["diff", "-r", "--no-dereference", folder, tmp_path / "out"], check=True)
    assert (tmp_path / "out" / "link").readlink() == Path("b/text")
