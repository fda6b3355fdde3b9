"""How a plan is shown: a line per change, or the objects as they would be after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

from kubectl_yoshi.model.jsonpatch import apply_json_patch
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.printable import to_single_line
from kubectl_yoshi.output.asked import OutputFormat
from kubectl_yoshi.output.formats import kind_and_name, object_text, without_managed_fields
from kubectl_yoshi.output.guard import raw_unless_terminal
from kubectl_yoshi.output.lists import to_list_object

DRY_RUN_SUFFIXES = {"none": "", "client": " (dry run)", "server": " (server dry run)"}
"""kubectl's words for --dry-run."""

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


def format_change(change: Change, dry_run: str = "none", response: Json | None = None) -> str:
    """What became, or would become, of a change's object, on one line.

    Args:
        change: the change.
        dry_run: "none" (it was done), "client", "server".
        response: what the server said; tells created from configured and unchanged for a server-side apply.
    """
    suffix = DRY_RUN_SUFFIXES[dry_run]
    return to_single_line(f"{ref_name(change.ref)} {_result_word(change, response)}{suffix}" + _summary_suffix(change))


def _result_word(change: Change, response: Json | None) -> str:
    if change.verb is Verb.CALL:
        return _SUBRESOURCE_RESULTS.get(change.subresource, f"{change.subresource} called")
    if change.verb is Verb.APPLY:
        if change.before is None:
            return "created"
        after = response if response is not None else _merged(change.before, change.body)
        return "unchanged" if _is_unchanged(change.before, after) else "configured"
    return _VERB_RESULTS[change.verb]


def _summary_suffix(change: Change) -> str:
    return f": {change.summary}" if change.summary else ""


def _is_unchanged(before: Json, after: Json) -> bool:
    """Equal but for the book-keeping of the API server."""
    return _comparable_content(before) == _comparable_content(after)


def _comparable_content(obj: Json) -> Json:
    metadata = {
        key: value
        for key, value in (obj.get("metadata") or {}).items()
        if key not in ("managedFields", "resourceVersion", "generation")
    }
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def show_plan(plan: Plan, out: TextIO, output: OutputFormat, dry_run: str = "client") -> None:
    """Prints a plan: a line per change, or with -o json|yaml|name the objects as they would be."""
    if output.is_human_readable:
        for line in format_outcomes(((change, None) for change in plan), dry_run):
            print(line, file=out)
        return
    show_objects(
        (object_change.after for object_change in object_changes(plan) if object_change.after is not None),
        out,
        output,
        dry_run,
    )


def show_objects(objects: Iterable[Json], out: TextIO, output: OutputFormat, dry_run: str = "none") -> None:
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
        out.write(object_text(items[0] if len(items) == 1 else to_list_object(items), output))


def object_changes(plan: Plan) -> list[ObjectChange]:
    """Every object that a plan touches, in its order, before all of its changes and after them.

    What the API server itself would do (defaults, other parts of a merge by key) is not in it.
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
    """What a server-side apply gives, as far as it can be told here: maps are merged, all else is replaced."""
    result = dict(before)
    for key, value in body.items():
        current = before.get(key)
        result[key] = _merged(current, value) if isinstance(current, dict) and isinstance(value, dict) else value
    return result


def format_outcomes(done: Iterable[tuple[Change, Json | None]], dry_run: str = "none") -> Iterator[str]:
    """A line for each change that was sent, with what the server answered; waiting is not worth one."""
    for change, response in done:
        if change.verb is not Verb.WAIT:
            yield format_change(change, dry_run, response)
