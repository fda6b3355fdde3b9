"""Archives that depend only on the files' names, contents and executable bits.

No times, owners, order of a folder's entries or umask get in (https://reproducible-builds.org/docs/archives/).
"""

from __future__ import annotations

import gzip
import hashlib
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

EARLIEST = 315532800  # 1980-01-01, where the times of zip files begin


def pack(folder: Path, archive: Path, *, epoch: int) -> None:
    """Writes all that is in a folder into a .tar.gz or .zip, at its top.

    Args:
        folder: files, folders and symbolic links.
        archive: what to write; what it is called says which it becomes. Links are followed in a .zip.
        epoch: the time that every entry gets, in seconds since 1970.
    """
    epoch = max(epoch, EARLIEST)
    if archive.suffix == ".zip":
        _zip(folder, archive, epoch)
    else:
        _tar(folder, archive, epoch)


def sort_zip(file: Path) -> None:
    """Puts the entries of a .zip into the order of their names; nothing else of them changes."""
    with zipfile.ZipFile(file) as packed:
        entries = [(entry, packed.read(entry)) for entry in packed.infolist()]
    with zipfile.ZipFile(file, "w") as packed:
        for entry, content in sorted(entries, key=lambda pair: pair[0].filename):
            packed.writestr(entry, content)


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of all that is in a folder, sorted by name; a folder stands before what is in it."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    yield from sorted(found.items())


def _mode(path: Path, name: str) -> int:
    runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR or name.endswith(".exe")
    return 0o755 if runnable else 0o644


def _tar(folder: Path, archive: Path, epoch: int) -> None:
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in _entries(folder):
            entry = tarfile.TarInfo(name)
            entry.mtime = epoch
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, path.readlink().as_posix(), 0o777
                tar.addfile(entry)
            elif path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                entry.size, entry.mode = path.stat().st_size, _mode(path, name)
                with path.open("rb") as content:
                    tar.addfile(entry, content)


def _zip(folder: Path, archive: Path, epoch: int) -> None:
    when = time.gmtime(epoch)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, path in _entries(folder):
            if path.is_dir():
                continue
            entry = zipfile.ZipInfo(name, (when.tm_year, when.tm_mon, when.tm_mday, when.tm_hour, when.tm_min, 0))
            entry.create_system = 3  # Unix, wherever it is made, so that the modes count
            entry.external_attr = (stat.S_IFREG | _mode(path, name)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())
