"""Differences as `kubectl diff` shows them: the YAML of each object before and after, side by side in one text."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.printable import escape_controls
from kubectl_yoshi.output import colours
from kubectl_yoshi.output.formats import without_managed_fields
from kubectl_yoshi.output.guard import unwrap_stream
from kubectl_yoshi.output.plans import ObjectChange
from kubectl_yoshi.output.yamls import to_yaml

PROGRAM_VARIABLE = "KUBECTL_EXTERNAL_DIFF"
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def write_diff(object_changes: Iterable[ObjectChange], out: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Writes a unified diff of every object that changes. Gives whether there was any.

    KUBECTL_EXTERNAL_DIFF names another program for it, as for kubectl; it is given two folders.

    Raises:
        YoshiError: that program cannot be run, or failed.
    """
    texts = [(diff_file_name(object_change.ref), *_yaml_sides(object_change)) for object_change in object_changes]
    changed = [(name, old, new) for name, old, new in texts if old != new]
    if not changed:
        return False
    program = (os.environ if environ is None else environ).get(PROGRAM_VARIABLE)
    if program:
        _run_program(program, changed, out)
        return True
    colour = colours.is_enabled(out, environ)
    for name, old, new in changed:
        lines = [f"diff -u -N LIVE/{name} MERGED/{name}\n"]
        lines += difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"LIVE/{name}", f"MERGED/{name}")
        unwrap_stream(out).writelines(
            _colour_line(escape_controls(line)) if colour else escape_controls(line) for line in lines
        )
    return True


def diff_file_name(ref: ObjectRef) -> str:
    """kubectl diff's name of an object: group.version.Kind.namespace.name."""
    resource = ref.resource
    parts = [resource.group, resource.version, resource.kind, ref.namespace or "", ref.name]
    return ".".join(part for index, part in enumerate(parts) if part or index == 3)


def _yaml_sides(object_change: ObjectChange) -> tuple[str, str]:
    """YAML of both sides, without what is noise: managedFields, and a status that stays as it is."""
    before, after = object_change.before, object_change.after
    if before and after and before.get("status") == after.get("status"):
        before, after = _without_status(before), _without_status(after)
    return _yaml(before), _yaml(after)


def _without_status(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key != "status"}


def _yaml(obj: Json | None) -> str:
    return to_yaml(without_managed_fields(obj)) if obj else ""


def _colour_line(line: str) -> str:
    colour = _COLOURS.get(line[:1])
    return colours.paint(line.rstrip("\n"), colour) + "\n" if colour else line


def _run_program(program: str, changed: list[tuple[str, str, str]], out: TextIO) -> None:
    """Runs the user's diff on two folders; like kubectl it takes exit code 1 for "they differ"."""
    import shlex
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kubectl-yoshi-") as folder:
        live, merged = Path(folder, "LIVE"), Path(folder, "MERGED")
        for side in (live, merged):
            side.mkdir()
        for name, old, new in changed:
            if old:
                (live / name).write_text(old, encoding="utf-8")
            if new:
                (merged / name).write_text(new, encoding="utf-8")
        try:
            result = subprocess.run(
                [*shlex.split(program), str(live), str(merged)], stdout=subprocess.PIPE, text=True, check=False
            )
        except OSError as error:
            raise YoshiError(
                f"{PROGRAM_VARIABLE}: cannot run {program}: {error.strerror}", f"Correct or unset {PROGRAM_VARIABLE}."
            ) from error
    unwrap_stream(out).write(result.stdout)  # its colours; the files that it was given are safe
    if result.returncode > 1:
        raise YoshiError(
            f"{PROGRAM_VARIABLE}: {program} ended with exit code {result.returncode}",
            f"Correct or unset {PROGRAM_VARIABLE}.",
        )
