"""Print a plan: a line per change, the objects after it, or their differences.

Differences are those of `kubectl diff`: between the YAML of each object before and after.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.jsonpatch import apply_json_patch
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.printable import escape_controls, to_single_line
from kubectl_yoshi.output.escaping import unwrap_stream
from kubectl_yoshi.output.formats import (
    kind_and_name,
    to_yaml,
    without_managed_fields,
)
from kubectl_yoshi.output.tables import paint, uses_colours

DRY_RUN_SUFFIXES = {"none": "", "client": " (dry run)", "server": " (server dry run)"}
"""kubectl's suffixes for --dry-run."""

_VERB_RESULTS = {
    Verb.CREATE: "created",
    Verb.PATCH: "patched",
    Verb.REPLACE: "replaced",
    Verb.APPLY: "serverside-applied",
    Verb.DELETE: "deleted",
}
_SUBRESOURCE_RESULTS = {"restart": "restarted", "stop": "stopped", "start": "started"}


@dataclass(frozen=True)
class ObjectChange:
    """An object before and after a plan.

    Attributes:
        before: as it was read; None if it does not exist.
        after: as it would be; None if it is deleted.
    """

    ref: ObjectRef
    before: Json | None
    after: Json | None


def ref_name(ref: ObjectRef) -> str:
    """Return an object's name as kubectl prints it: "networkwizard.plumber.k8s.pf9.io/blue", "service/web"."""
    return kind_and_name({"apiVersion": ref.resource.api_version, "kind": ref.resource.kind}) + ref.name


def format_change(change: Change, dry_run: str = "none", response: Json | None = None) -> str:
    """Return one line on the result of a change, or its expected result.

    Args:
        dry_run: "none" (the change was applied), "client", "server".
        response: the server's response; it distinguishes created, configured and unchanged for a server-side apply.
    """
    result = f"{ref_name(change.ref)} {_result_word(change, response)}{DRY_RUN_SUFFIXES[dry_run]}"
    return to_single_line(f"{result}: {change.summary}" if change.summary else result)


def _result_word(change: Change, response: Json | None) -> str:
    if change.verb is Verb.CALL:
        return _SUBRESOURCE_RESULTS.get(change.subresource, f"{change.subresource} called")
    if change.verb is Verb.APPLY:
        if change.before is None:
            return "created"
        after = response if response is not None else _merged(change.before, change.body)
        return "unchanged" if is_unchanged(change.before, after) else "configured"
    return _VERB_RESULTS[change.verb]


def is_unchanged(before: Json, after: Json) -> bool:
    """Return whether the objects are equal, ignoring fields that the API server maintains."""
    return _comparable_content(before) == _comparable_content(after)


def _comparable_content(obj: Json) -> Json:
    metadata = {
        key: value
        for key, value in (obj.get("metadata") or {}).items()
        if key not in ("managedFields", "resourceVersion", "generation")
    }
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def show_plan(plan: Plan, out: TextIO, dry_run: str = "client") -> None:
    """Print a line for each change of a plan."""
    for line in format_outcomes(((change, None) for change in plan), dry_run):
        print(line, file=out)


def object_changes(plan: Plan) -> list[ObjectChange]:
    """Return every object that a plan changes, in order, before all of its changes and after them.

    What the API server itself would change (defaults, other parts of a merge by key) is not included.
    """
    originals: dict[ObjectRef, Json | None] = {}
    current: dict[ObjectRef, Json | None] = {}
    for change in plan:
        if change.verb in (Verb.CALL, Verb.WAIT):
            continue
        before = current.get(change.ref, change.before)
        originals.setdefault(change.ref, change.before)
        current[change.ref] = _after(change, before)
    return [ObjectChange(ref, originals[ref], after) for ref, after in current.items()]


def _after(change: Change, before: Json | None) -> Json | None:
    if change.verb is Verb.DELETE:
        return None
    if change.verb is Verb.PATCH:
        return apply_json_patch(change.body, before)
    if change.edit is not None and before is not None:
        return change.edit(before)
    if change.verb is Verb.APPLY and before is not None:
        return _merged(before, change.body)
    if change.subresource and before is not None:
        return {**before, change.subresource: change.body.get(change.subresource)}
    return dict(change.body)


def _merged(before: Json, body: Json) -> Json:
    """Return the expected result of a server-side apply: maps are merged, all else is replaced."""
    result = dict(before)
    for key, value in body.items():
        current = before.get(key)
        result[key] = _merged(current, value) if isinstance(current, dict) and isinstance(value, dict) else value
    return result


def format_outcomes(done: Iterable[tuple[Change, Json | None]], dry_run: str = "none") -> Iterator[str]:
    """Yield a line for each change that was sent, using the server's response; waits are omitted."""
    for change, response in done:
        if change.verb is not Verb.WAIT:
            yield format_change(change, dry_run, response)


PROGRAM_VARIABLE = "KUBECTL_EXTERNAL_DIFF"
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def write_diff(object_changes: Iterable[ObjectChange], out: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Write a unified diff of every object that changes; return whether there was any.

    KUBECTL_EXTERNAL_DIFF names another program for it, as for kubectl; it is called with two folders.

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
    import difflib

    colour = uses_colours(out, environ)
    for name, old, new in changed:
        lines = [f"diff -u -N LIVE/{name} MERGED/{name}\n"]
        lines += difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"LIVE/{name}", f"MERGED/{name}")
        unwrap_stream(out).writelines(
            _colour_line(escape_controls(line)) if colour else escape_controls(line) for line in lines
        )
    return True


def diff_file_name(ref: ObjectRef) -> str:
    """Return the name of an object's file in kubectl diff: group.version.Kind.namespace.name."""
    resource = ref.resource
    parts = [resource.group, resource.version, resource.kind, ref.namespace or "", ref.name]
    return ".".join(part for index, part in enumerate(parts) if part or index == 3)


def _yaml_sides(object_change: ObjectChange) -> tuple[str, str]:
    """Return the YAML of both sides, without managedFields and without an unchanged status."""
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
    return paint(line.rstrip("\n"), colour) + "\n" if colour else line


def _run_program(program: str, changed: list[tuple[str, str, str]], out: TextIO) -> None:
    """Run the user's diff program on two folders; like kubectl, accept exit code 1 for "they differ"."""
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
    unwrap_stream(out).write(result.stdout)  # unescaped for its colours; its input files are escaped
    if result.returncode > 1:
        raise YoshiError(
            f"{PROGRAM_VARIABLE}: {program} ended with exit code {result.returncode}",
            f"Correct or unset {PROGRAM_VARIABLE}.",
        )
