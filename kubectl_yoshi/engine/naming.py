"""What there is by name, asked as cheaply as the API server can answer: for people who wait with a finger on TAB.

A list of names is asked for as a Table without its objects
(https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables), from the server's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.client import AS_TABLE, Api
from kubectl_yoshi.kube.kubeconfig import list_kubeconfig_files
from kubectl_yoshi.model.objects import Resource, dig
from kubectl_yoshi.model.snapshot import Snapshot

Value = TypeVar("Value")

NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


def list_names(api: Api, resource: Resource, namespace: str | None, columns: Sequence[str] = ()) -> dict[str, str]:
    """The name of every object of a kind -> what these columns of its table say of it, those it does not have left out.

    Raises:
        ClusterError: they cannot be listed.
    """
    path = quote(resource.path(namespace), safe="/")
    table = api.raw(f"{path}?resourceVersion=0&includeObject=None", accept=AS_TABLE)
    titles = [str(column.get("name")) for column in table.get("columnDefinitions") or []]
    descriptions = {}
    for row in table.get("rows") or []:
        cells = dict(zip(titles, row["cells"], strict=False))
        descriptions[str(cells["Name"])] = " ".join(str(cells[title]) for title in columns if cells.get(title))
    return descriptions


def list_kubeconfig_names(kubeconfig: str, section: str) -> list[str]:
    """The names in a section ("contexts", "clusters", "users") of the kubeconfig files, each once.

    Args:
        kubeconfig: what --kubeconfig says; "" where it was not given.
        section: which.

    Raises:
        KubeconfigError: the file that --kubeconfig names is not there.
        OSError, ValueError, yaml.YAMLError: a file cannot be read.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = (yaml.load(Path(file).read_text(encoding="utf-8"), loader) for file in list_kubeconfig_files(kubeconfig))
    return list(dict.fromkeys(_iter_names(files, section)))


def _iter_names(files: Iterator[Any], section: str) -> Iterator[str]:
    for file in files:
        for entry in dig(file, section, default=[]):
            if isinstance(entry, dict) and entry.get("name"):
                yield str(entry["name"])


def compute_without_discovery(compute: Callable[[Snapshot], Value], api: Api) -> Value:
    """The answer of a question that says what it must know, without asking what is served first.

    Raises:
        ClusterError: something cannot be read.
    """
    return compute(new_snapshot(api, discover=False))
