"""Match Kubernetes label selectors.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.objects import Json


def selects_labels(selector: Json, labels: Mapping[str, str]) -> bool:
    """Return whether labels match a LabelSelector (matchLabels and matchExpressions); an empty one matches all."""
    required = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in required.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    """Return whether labels satisfy one requirement; an unknown operator is satisfied by none."""
    key, values = str(expression.get("key")), expression.get("values") or []
    return {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }.get(str(expression.get("operator")), False)
