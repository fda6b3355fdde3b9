"""A client for the lab's own API server: JSON over HTTPS, with nothing that must be imported for a second."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from lab.errors import LabError

MERGE_PATCH = "application/merge-patch+json"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Api:
    """Talks to one API server as its administrator. Usable from several threads."""

    def __init__(self, host: str, port: int, token: str, authority: Path) -> None:
        self._host, self._port, self._token = host, port, token
        self._context = ssl.create_default_context(cafile=str(authority))

    def get(self, path: str, accept: str = "application/json") -> Any:
        return self._request("GET", path, None, "", accept)

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        return self._request("POST", path, body, kind)

    def put(self, path: str, body: Any) -> Any:
        return self._request("PUT", path, body, "application/json")

    def patch(self, path: str, body: Any, kind: str = MERGE_PATCH) -> Any:
        return self._request("PATCH", path, body, kind)

    def create(self, found: Mapping[str, Any]) -> Any:
        """Create an object, in the namespace that it names."""
        return self.post(collection_path(found), found)

    def create_document(self, document: bytes) -> Any:
        """Create the cluster-wide object of a JSON or YAML document, which is sent as it is."""
        if document.startswith(b"{"):
            return self.post(collection_path(json.loads(document)), document)
        version, kind = (re.search(rb"(?m)^%s: (\S+)" % key, document) for key in (b"apiVersion", b"kind"))
        if not version or not kind:
            raise LabError(f"not a Kubernetes object: {document[:100]!r}")
        path = collection_path({"apiVersion": version.group(1).decode(), "kind": kind.group(1).decode()})
        return self.post(path, document, "application/yaml")

    def is_ready(self) -> bool:
        """Whether the server says on /readyz that it is ready."""
        try:
            return bool(self._request("GET", "/readyz", None, "", "*/*"))
        except (LabError, OSError, http.client.HTTPException):
            return False

    def list_served_resources(self) -> set[tuple[str, str]]:
        """The (group, plural) of every resource that the server serves, the core group aside."""
        found = set()
        for group in self.get("/apis", accept=DISCOVERY)["items"]:
            for version in group["versions"]:
                found |= {(group["metadata"]["name"], entry["resource"]) for entry in version.get("resources", [])}
        return found

    def _request(self, method: str, path: str, body: Any, kind: str, accept: str = "application/json") -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": accept}
        if data is not None:
            headers["Content-Type"] = kind
        # A connection for each request: none is left open when a test process looks for what it forgot.
        with closing(
            http.client.HTTPSConnection(self._host, self._port, timeout=60, context=self._context)
        ) as connection:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            response_body = response.read()
        if response.status >= 300:
            raise LabError(f"{method} {path}: {response.status} {_message(response_body)}")
        return json.loads(response_body) if response_body[:1] in b"{[" else response_body.decode()


def collection_path(found: Mapping[str, Any]) -> str:
    """The path that objects like this one are created at; knows the plurals of the kinds that a lab needs."""
    group, kind = found["apiVersion"], found["kind"].lower()
    base = f"/apis/{group}" if "/" in group else f"/api/{group}"
    namespace = found.get("metadata", {}).get("namespace")
    namespace_path = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{namespace_path}/{kind}{'es' if kind.endswith('s') else 's'}"


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 120, interval: float = 0.05) -> None:
    """Ask `condition` until it is true; a LabError says that `what` did not happen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")
