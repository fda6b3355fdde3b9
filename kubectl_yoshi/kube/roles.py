"""Who may do what: which of the roles that `install` makes (manifests/roles.yaml) holds a right."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from kubectl_yoshi.model.objects import Json, Resource, name_of

BINDABLE_ROLES = ("yoshi-user", "yoshi-admin")
"""The roles that an administrator binds for somebody who lacks a right, the lesser one first."""


def find_roles(verb: str, resource: Resource, subresource: str = "") -> tuple[str, ...]:
    """The roles of TO_BIND that hold a right; () where none does.

    Args:
        verb: Kubernetes' word.
        resource, subresource: of what.
    """
    kind = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return tuple(
        role
        for role in BINDABLE_ROLES
        if any(
            verb in rule["verbs"] and kind in rule["resources"] and resource.group in rule["apiGroups"]
            for rule in _load_rules()[role]
        )
    )


@cache
def _load_rules() -> Mapping[str, list[Json]]:
    """The rules of each role, by its name."""
    from importlib.resources import files

    import yaml  # late, since few runs meet a refusal

    text = files("kubectl_yoshi.manifests").joinpath("roles.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {name_of(role): role["rules"] for role in yaml.load_all(text, Loader=loader)}
