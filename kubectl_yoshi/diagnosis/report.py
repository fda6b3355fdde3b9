"""What a report contains: the objects that were read, without secrets, and events.

The objects are those of the snapshot that the findings were computed from, so a reader sees what the rules saw.
"""

from __future__ import annotations

from typing import Any

from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.status import ClusterStatus
from kubectl_yoshi.model.objects import EVENT, Json, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Query

REMOVED = "<removed>"
SECRET_KIND = "Secret"
DROPPED_FIELDS = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
SECRET_FIELDS = frozenset({"userdata", "userdatabase64", "networkdata", "networkdatabase64", "password", "token"})
"""Fields whose texts are removed, in lower case: cloud-init's data, and what programs call a secret."""


def read_events(facts: Facts) -> None:
    """Read the events of the scope, so that they are among the reported objects."""
    facts.snapshot.prefetch(Query(EVENT, facts.scope.namespace))


def list_reported_objects(facts: Facts) -> dict[str, list[Json]]:
    """Return the objects that were read so far, without secrets, by the full name of their resource, in order.

    Objects of kind Secret are left out, and events of namespaces that have none of the other objects.
    """
    found: dict[str, dict[tuple[str, str], Json]] = {}
    for query, answer in facts.snapshot.results.items():
        if query.verb or query.as_table or query.resource.kind == SECRET_KIND or not isinstance(answer, tuple):
            continue
        objects = found.setdefault(query.resource.full_name, {})
        for obj in answer:
            objects.setdefault((namespace_of(obj), name_of(obj)), without_secrets(obj))
    events = found.pop(EVENT.full_name, {})
    concerned = {namespace for objects in found.values() for namespace, _ in objects}
    found[EVENT.full_name] = {key: event for key, event in events.items() if key[0] in concerned}
    return {name: [objects[key] for key in sorted(objects)] for name, objects in sorted(found.items()) if objects}


def list_unreadable(facts: Facts, status: ClusterStatus) -> list[str]:
    """Return a line for each reason why something is not in the report or could not be checked."""
    unchecked = status.diagnosis.unchecked if status.diagnosis else ()
    rules = (f"{one.rule.code} not checked: {one.reason}" for one in unchecked)
    return list(dict.fromkeys((*status.unreadable, *facts.snapshot.unreadable_reasons(), *rules)))


def without_secrets(value: Any) -> Any:
    """Return a JSON value without managedFields, without the last applied configuration, and without secret texts."""
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: REMOVED if key.lower() in SECRET_FIELDS and isinstance(part, str) else without_secrets(part)
        for key, part in value.items()
        if key not in DROPPED_FIELDS
    }
