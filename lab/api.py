"""A client for the lab's own API server: JSON over HTTPS, without slow imports."""

from __future__ import annotations

import base64
import http.client
import json
import re
import select
import ssl
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.errors import LabError

MERGE_PATCH = "application/merge-patch+json"
NOT_FOUND = 404
TOO_MANY_REQUESTS = 429
MAX_TRIES = 10
"""Of a request that the server refuses because it is busy, or does not serve a new resource yet; as kubectl does."""
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class ApiError(LabError):
    """The API server refused a request: `status` is that of its response."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServedResource:
    """A resource that an API server serves, by what its discovery says."""

    api_version: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    kind: str
    namespaced: bool

    @property
    def group(self) -> str:
        """The API group; "" for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of an object, or of a collection: of all namespaces where `namespace` is empty."""
        base = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        parts = [base, *(("namespaces", namespace) if namespace and self.namespaced else ()), self.plural]
        return "/".join([*parts, *filter(None, (name, subresource))])


class Api:
    """Talks to one API server by connections that are kept alive. Usable from several threads.

    It is the administrator, or impersonates `user`.
    """

    def __init__(self, host: str, port: int, token: str, context: ssl.SSLContext, user: str = "") -> None:
        self._host, self._port, self._token, self._context = host, port, token, context
        self._user = user
        self._idle: list[http.client.HTTPSConnection] = []
        self._resources: list[ServedResource] = []
        weakref.finalize(self, _close_all, self._idle)

    def impersonate(self, user: str) -> Api:
        """A client of the same server whose requests are those of another user."""
        return Api(self._host, self._port, self._token, self._context, user)

    def get(self, path: str, accept: str = "application/json") -> Any:
        return self._request("GET", path, None, "", accept)

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        return self._request("POST", path, body, kind)

    def put(self, path: str, body: Any) -> Any:
        return self._request("PUT", path, body, "application/json")

    def delete(self, path: str, options: Any = None) -> Any:
        return self._request("DELETE", path, options, "application/json")

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
        return {(found.group, found.plural) for found in self._discover("/apis")}

    def find_resource(self, word: str) -> ServedResource:
        """The resource that kubectl would understand by a word: "vm", "services", "ippools.crd.projectcalico.org".

        What the server serves is asked for again where the word is not known yet.
        """
        name, _, group = word.lower().partition(".")

        def is_meant(one: ServedResource) -> bool:
            return name in (one.plural, one.singular, *one.short_names) and group in ("", one.group)

        return self._find(word, is_meant)

    def find_kind(self, api_version: str, kind: str) -> ServedResource:
        """The resource of objects of this kind."""
        return self._find(f"{api_version} {kind}", lambda one: (one.api_version, one.kind) == (api_version, kind))

    def _find(self, word: str, matches: Callable[[ServedResource], bool]) -> ServedResource:
        for is_fresh in (False, True):
            if is_fresh:
                self._resources = [*self._discover("/api"), *self._discover("/apis")]
            for one in self._resources:
                if matches(one):
                    return one
        raise LabError(f"the server serves no resource {word}")

    def _discover(self, root: str) -> Iterator[ServedResource]:
        """What the server serves; of several versions of a group, the one that it prefers comes first."""
        for group in self.get(root, accept=DISCOVERY)["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                for entry in version.get("resources", []):
                    yield ServedResource(
                        f"{name}/{version['version']}" if name else version["version"],
                        entry["resource"],
                        entry.get("singularResource", ""),
                        tuple(entry.get("shortNames", ())),
                        (entry.get("responseKind") or {}).get("kind", ""),
                        entry["scope"] == "Namespaced",
                    )

    def _request(self, method: str, path: str, body: Any, kind: str, accept: str = "application/json") -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        headers["Accept"] = accept
        if self._user:
            headers["Impersonate-User"] = self._user
        if data is not None:
            headers["Content-Type"] = kind
        for tries_left in reversed(range(MAX_TRIES)):
            response, response_body = self._send(method, path, data, headers)
            if response.status != TOO_MANY_REQUESTS or not tries_left:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        if response.status >= 300:
            raise ApiError(f"{method} {path}: {response.status} {_message(response_body)}", response.status)
        return json.loads(response_body) if response_body[:1] in b"{[" else response_body.decode()

    def _send(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        while True:
            idle = self._take_idle()
            connection = idle or http.client.HTTPSConnection(self._host, self._port, timeout=60, context=self._context)
            try:
                connection.request(method, path, data, headers)
                response = connection.getresponse()
                response_body = response.read()
            except BaseException as error:
                connection.close()
                if idle and method == "GET" and isinstance(error, (OSError, http.client.HTTPException)):
                    continue  # the server has closed it meanwhile
                raise
            if response.will_close:
                connection.close()
            else:
                self._idle.append(connection)
            return response, response_body

    def _take_idle(self) -> http.client.HTTPSConnection | None:
        """An idle connection that the server has not closed yet, if there is one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.sock and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()  # nothing else is to be read from an idle one but its end
        return None


def _close_all(connections: list[http.client.HTTPSConnection]) -> None:
    for connection in connections:
        connection.close()


def api_of_kubeconfig(kubeconfig: Path, context: str) -> Api:
    """A client for a context of a kubeconfig whose user has a token or a client certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    contexts, clusters, users = (
        {entry["name"]: entry[kind] for entry in config[f"{kind}s"]} for kind in ("context", "cluster", "user")
    )
    cluster, user = clusters[contexts[context]["cluster"]], users[contexts[context]["user"]]
    authority = base64.b64decode(cluster.get("certificate-authority-data", "")).decode()
    tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=authority or None)
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            tls.load_cert_chain(pair.name)
    host, _, port = cluster["server"].removeprefix("https://").rpartition(":")
    return Api(host, int(port), user.get("token", ""), tls)


def collection_path(found: Mapping[str, Any]) -> str:
    """The path that objects like this one are created at; knows the plurals of the kinds that a lab needs."""
    group, kind = found["apiVersion"], found["kind"].lower()
    base = f"/apis/{group}" if "/" in group else f"/api/{group}"
    namespace = found.get("metadata", {}).get("namespace")
    namespace_path = f"/namespaces/{namespace}" if namespace else ""
    ending = "" if kind == "endpoints" else "es" if kind.endswith("s") else "s"
    return f"{base}{namespace_path}/{kind}{ending}"


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
