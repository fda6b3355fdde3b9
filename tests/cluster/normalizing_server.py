"""A proxy that shows objects normalized, not as they were written (see tests/unit/normalization.py).

A JSON Patch is applied to what is shown, and what comes of it is stored, as Calico's aggregated API server does it; so
a patch that sets a field to false where it is not shown changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.kube.connection import Connection, HttpRequest
from tests.unit.jsonpatch import DoesNotFit, apply_patch
from tests.unit.kube.fault_server import status_body
from tests.unit.normalization import DEFAULTS, Json, denormalized, normalized

REJECTED = "the server rejected our request due to an error in our request"
PATH = re.compile(
    r"/apis/(crd\.projectcalico\.org|metallb\.io|([a-z]+\.)?plumber\.k8s\.pf9\.io|k8s\.cni\.cncf\.io)/\w+/"
    r"(namespaces/[^/]+/)?(?P<plural>[^/?]+)(/(?P<name>[^/?]+))?(\?.*)?"
)
TRIES = 10
"""How often a patch is applied again because another client was faster."""


@dataclass(frozen=True)
class Answer:
    """A response with the attributes of urllib3's that the proxy uses."""

    status: int
    data: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


@dataclass
class NormalizingServer:
    """See the module.

    Attributes:
        upstream: the API server.
        drops: fields of a spec that are never shown.
    """

    upstream: Connection
    drops: tuple[str, ...] = ()

    def send(self, request: HttpRequest) -> Any:
        """Send one request, and normalize its response."""
        found = PATH.fullmatch(request.path)
        plural = found["plural"] if found else ""
        if plural not in DEFAULTS:
            return self.upstream.send(request)
        if request.method == "PATCH" and "json-patch" in request.headers.get("Content-Type", ""):
            return self._patched(request.path, plural, request.headers, json.loads(request.body or b"[]"))
        return self._answer(self.upstream.send(request), plural)

    def _patched(self, path: str, plural: str, headers: Mapping[str, str], ops: list[Json]) -> Any:
        asked = {key: value for key, value in headers.items() if key != "Content-Type"}
        for _ in range(TRIES):
            there = self.upstream.send(HttpRequest("GET", path.partition("?")[0], asked))
            if there.status != 200:
                return there
            shown = self._shown(json.loads(there.data), plural)
            try:
                wanted = apply_patch(ops, shown)
            except DoesNotFit:
                return Answer(422, json.dumps(status_body(422, "Invalid", REJECTED)).encode())
            stored = json.dumps(denormalized(wanted)).encode()
            replacing = {**headers, "Content-Type": "application/json"}
            answer = self.upstream.send(HttpRequest("PUT", path, replacing, stored))
            if answer.status != 409:
                return self._answer(answer, plural)
        return answer

    def _answer(self, response: Any, plural: str) -> Any:
        if response.status >= 300 or b'"spec"' not in response.data:
            return response
        content = json.loads(response.data)
        if "items" in content:
            content["items"] = [self._shown(item, plural) for item in content["items"]]
        return Answer(response.status, json.dumps(self._shown(content, plural)).encode())

    def _shown(self, obj: Json, plural: str) -> Json:
        shown = normalized(obj, plural)
        if "spec" in shown:
            shown["spec"] = {key: value for key, value in shown["spec"].items() if key not in self.drops}
        return shown
