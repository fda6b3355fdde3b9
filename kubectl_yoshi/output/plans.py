"""How a plan is shown: a line per change, or the objects as they would be after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

from kubectl_yoshi.model.change import Change, Plan, Verb, applied
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.printable import on_one_line
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.output.formats import kind_and_name, object_text, without_managed_fields
from kubectl_yoshi.output.guard import raw_unless_terminal
from kubectl_yoshi.output.lists import as_list

DRY_RUN_SUFFIXES = {"none": "", "client": " (dry run)", "server": " (server dry run)"}
"""kubectl's words for --dry-run."""

_DONE = {
    Verb.CREATE: "created",
    Verb.PATCH: "patched",
    Verb.REPLACE: "replaced",
    Verb.APPLY: "serverside-applied",
    Verb.DELETE: "deleted",
}
_CALLED = {"restart": "restarted", "stop": "stopped", "start": "started"}


@dataclass(frozen=True)
class Fate:
    """An object and what becomes of it.

    Attributes:
        ref: which.
        before: as it was read; None if it does not exist.
        after: as it would be; None if it is deleted.
    """

    ref: ObjectRef
    before: Json | None
    after: Json | None


def ref_name(ref: ObjectRef) -> str:
    """As kubectl names an object: "networkwizard.plumber.k8s.pf9.io/blue", "service/web"."""
    return kind_and_name({"apiVersion": ref.resource.api_version, "kind": ref.resource.kind}) + ref.name


def change_line(change: Change, dry_run: str = "none", answer: Json | None = None) -> str:
    """What became, or would become, of a change's object, on one line.

    Args:
        change: the change.
        dry_run: "none" (it was done), "client", "server".
        answer: what the server said; tells created from configured and unchanged for a server-side apply.
    """
    suffix = DRY_RUN_SUFFIXES[dry_run]
    return on_one_line(f"{ref_name(change.ref)} {_what_happened(change, answer)}{suffix}" + _says(change))


def _what_happened(change: Change, answer: Json | None) -> str:
    if change.verb is Verb.CALL:
        return _CALLED.get(change.subresource, f"{change.subresource} called")
    if change.verb is Verb.APPLY:
        if change.before is None:
            return "created"
        after = answer if answer is not None else _merged(change.before, change.body)
        return "unchanged" if _same(change.before, after) else "configured"
    return _DONE[change.verb]


def _says(change: Change) -> str:
    return f": {change.says}" if change.says else ""


def _same(before: Json, after: Json) -> bool:
    """Equal but for the book-keeping of the API server."""
    return _content(before) == _content(after)


def _content(obj: Json) -> Json:
    metadata = {
        key: value
        for key, value in (obj.get("metadata") or {}).items()
        if key not in ("managedFields", "resourceVersion", "generation")
    }
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def show_plan(plan: Plan, out: TextIO, output: Output, dry_run: str = "client") -> None:
    """Prints a plan: a line per change, or with -o json|yaml|name the objects as they would be."""
    if output.for_people:
        for line in outcome_lines(((change, None) for change in plan), dry_run):
            print(line, file=out)
        return
    show_objects((fate.after for fate in fates(plan) if fate.after is not None), out, output, dry_run)


def show_objects(objects: Iterable[Json], out: TextIO, output: Output, dry_run: str = "none") -> None:
    """Prints objects that were, or would be, made: YAML as documents of one stream, JSON as one object or a List."""
    items = [without_managed_fields(obj) for obj in objects]
    if not items:
        return
    if output.kind == "yaml":
        from kubectl_yoshi.output.yamls import write_documents

        write_documents(items, out)
    elif output.kind == "name":
        out.writelines(f"{kind_and_name(item)}{DRY_RUN_SUFFIXES[dry_run]}\n" for item in items)
    else:
        out = out if output.template is None else raw_unless_terminal(out)
        out.write(object_text(items[0] if len(items) == 1 else as_list(items), output))


def fates(plan: Plan) -> list[Fate]:
    """Every object that a plan touches, in its order, before all of its changes and after them.

    What the API server itself would do (defaults, other parts of a merge by key) is not in it.
    """
    first: dict[ObjectRef, Json | None] = {}
    now: dict[ObjectRef, Json | None] = {}
    for change in plan:
        if change.verb in (Verb.CALL, Verb.WAIT):
            continue
        before = now.get(change.ref, change.before)
        first.setdefault(change.ref, change.before)
        now[change.ref] = _after(change, before)
    return [Fate(ref, first[ref], after) for ref, after in now.items()]


def _after(change: Change, before: Json | None) -> Json | None:
    if change.verb is Verb.DELETE:
        return None
    if change.verb is Verb.PATCH:
        return applied(change.body, before)
    if change.edit is not None and before is not None:
        return change.edit(before)
    if change.verb is Verb.APPLY and before is not None:
        return _merged(before, change.body)
    if change.subresource and before is not None:
        return {**before, change.subresource: change.body.get(change.subresource)}
    return dict(change.body)


def _merged(before: Json, body: Json) -> Json:
    """What a server-side apply gives, as far as it can be told here: maps are merged, all else is replaced."""
    result = dict(before)
    for key, value in body.items():
        there = before.get(key)
        result[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return result


def outcome_lines(done: Iterable[tuple[Change, Json | None]], dry_run: str = "none") -> Iterator[str]:
    """A line for each change that was sent, with what the server answered; waiting is not worth one."""
    for change, answer in done:
        if change.verb is not Verb.WAIT:
            yield change_line(change, dry_run, answer)
