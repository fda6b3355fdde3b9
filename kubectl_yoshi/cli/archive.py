"""Archives of text files, and files that are written as a whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kubectl_yoshi.model.errors import PreconditionFailed


def to_archive(files: Mapping[str, str]) -> bytes:
    """Return a .tar.gz of text files by path; the same files give the same bytes."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for path, text in sorted(files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def write_whole_file(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; a reader never sees a part of it.

    A device or named pipe is written to, not replaced.

    Raises:
        PreconditionFailed: it cannot be written.
    """
    temporary = ""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError as error:
        raise PreconditionFailed(
            f"{path} cannot be written: {error.strerror}", "Check the permissions of its folder."
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
