"""A stand-in for Calico's aggregated API server: serves projectcalico.org/v3 out of crd.projectcalico.org/v1.

What is like the real one (apiserver/pkg/registry, libcalico-go's ConvertCalicoResourceToK8sResource): the uid of an
object differs between the groups; labels and annotations are kept in an annotation of the raw object; IPAM's blocks
and handles are not served; objects go through Go structs, with `omitempty`, on their way in and out, and a JSON Patch
is applied to what is served: what is false or empty is neither stored nor shown.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import lab
from lab.api import wait_until
from lab.errors import LabError
from lab.pki import make_authority
from tests.unit.jsonpatch import DoesNotFit, apply_patch
from tests.unit.normalization import without_empty

Json = dict[str, Any]

KINDS = {
    "ippools": "IPPool",
    "clusterinformations": "ClusterInformation",
    "ipamconfigurations": "IPAMConfiguration",
    "bgpconfigurations": "BGPConfiguration",
    "bgppeers": "BGPPeer",
}
RAW, SERVED = "/apis/crd.projectcalico.org/v1", "/apis/projectcalico.org/v3"
KEPT = "projectcalico.org/metadata"
SERVICE, NAMESPACE = "calico-api", "calico-apiserver"


def as_served(raw: Json, kind: str) -> Json:
    """The projectcalico.org/v3 object that a raw one is shown as."""
    kept = json.loads((raw["metadata"].get("annotations") or {}).get(KEPT, "{}"))
    metadata = {key: value for key, value in raw["metadata"].items() if key not in ("annotations", "managedFields")}
    metadata |= {key: value for key, value in kept.items() if value}
    metadata["uid"] = str(uuid.uuid5(uuid.NAMESPACE_OID, raw["metadata"]["uid"]))
    spec = without_empty(raw.get("spec") or {})
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def kept_metadata(obj: Json) -> dict[str, str]:
    """The annotations of the raw object."""
    kept = {key: obj["metadata"].get(key) for key in ("annotations", "labels")}
    return {KEPT: json.dumps({key: value for key, value in kept.items() if value})}


class _Calico(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    lab: lab.Lab

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.rstrip("/")
        if path == SERVED:
            resources = [
                {"name": plural, "singularName": "", "namespaced": False, "kind": kind, "verbs": ["get", "list"]}
                for plural, kind in KINDS.items()
            ]
            listing = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "projectcalico.org/v3"}
            self.answer(200, {**listing, "resources": resources})
            return
        plural, _, name = path.removeprefix(SERVED + "/").partition("/")
        if plural not in KINDS:
            self.fail(404, "NotFound")
            return
        try:
            found = self.lab.api.get(f"{RAW}/{plural}/{name}".rstrip("/"))
        except LabError:
            found = {"items": []}  # a kind that only one of the groups has
            if name:
                self.fail(404, "NotFound")
                return
        if name:
            self.answer(200, as_served(found, KINDS[plural]))
            return
        items = [as_served(item, KINDS[plural]) for item in found["items"]]
        listing = {"apiVersion": "projectcalico.org/v3", "kind": f"{KINDS[plural]}List", "metadata": {}}
        self.answer(200, {**listing, "items": items})

    def do_POST(self) -> None:
        plural, body = urlsplit(self.path).path.rpartition("/")[2], self.body()
        raw = {
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": KINDS[plural],
            "metadata": {"name": body["metadata"]["name"], "annotations": kept_metadata(body)},
            "spec": without_empty(body["spec"]),
        }
        if self.dry:
            self.answer(201, {**body, "metadata": {**body["metadata"], "uid": "dry"}})
            return
        self.answer(201, as_served(self.lab.api.post(f"{RAW}/{plural}", raw), KINDS[plural]))

    def do_PATCH(self) -> None:
        plural, _, name = urlsplit(self.path).path.removeprefix(SERVED + "/").partition("/")
        now = self.lab.api.get(f"{RAW}/{plural}/{name}")
        try:
            wanted = apply_patch(self.body(), as_served(now, KINDS[plural]))
        except DoesNotFit:
            self.fail(422, "Invalid", "the server rejected our request due to an error in our request")
            return
        ops = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": now["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/spec", "value": without_empty(wanted["spec"])},
            {"op": "add", "path": "/metadata/annotations", "value": kept_metadata(wanted)},
        ]
        raw = self.lab.api.patch(f"{RAW}/{plural}/{name}", ops, "application/json-patch+json")
        self.answer(200, as_served(raw, KINDS[plural]))

    def do_DELETE(self) -> None:
        plural, _, name = urlsplit(self.path).path.removeprefix(SERVED + "/").partition("/")
        now = as_served(self.lab.api.get(f"{RAW}/{plural}/{name}"), KINDS[plural])
        wanted = (self.body().get("preconditions") or {}).get("uid")
        if wanted not in (None, now["metadata"]["uid"]):
            self.fail(409, "Conflict", f"the UID in the precondition ({wanted}) is not {now['metadata']['uid']}")
            return
        if plural == "ippools" and not now["spec"].get("disabled"):
            self.fail(409, "Conflict", "the pool is not disabled")
            return
        self.lab.kubectl("delete", f"{plural}.crd.projectcalico.org", name)
        self.answer(200, now)

    @property
    def dry(self) -> bool:
        return "dryRun" in parse_qs(urlsplit(self.path).query)

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")

    def fail(self, code: int, reason: str, message: str = "") -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
        self.answer(code, {**status, "message": message or reason})

    def answer(self, code: int, body: Json) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def calico_apiserver(running: lab.Lab, folder: Path) -> Iterator[None]:
    """Serves projectcalico.org/v3 to a lab while the block lasts, through the API server's aggregator."""
    pair = make_authority(folder, "calico").issue(folder, "calico-api", f"{SERVICE}.{NAMESPACE}.svc", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    handler = type("Calico", (_Calico,), {"lab": running})
    with ThreadingHTTPServer((_own_address(), 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            for obj in _registration(*server.server_address[:2]):
                running.api.create(obj)
            wait_until("Calico's API server is available", lambda: _is_available(running), seconds=60)
            yield
        finally:
            running.kubectl("delete", "apiservice", "v3.projectcalico.org", "--ignore-not-found")
            running.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
            server.shutdown()
            thread.join()


def _own_address() -> str:
    """Return an address of this machine besides the loopback, which may not be an endpoint."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.connect(("192.0.2.1", 9))  # sends nothing
        return str(unused.getsockname()[0])


def _registration(address: str, port: int) -> list[Json]:
    where = {"name": SERVICE, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": {"ports": [{"port": 443}]}},
        # Kubernetes 1.31 routes by it, later ones by the EndpointSlice that the controller manager makes of it.
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": where,
            "subsets": [{"addresses": [{"ip": address}], "ports": [{"port": port, "protocol": "TCP"}]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v3.projectcalico.org"},
            "spec": {
                "group": "projectcalico.org",
                "version": "v3",
                "service": {**where, "port": 443},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 1500,
                "versionPriority": 20,
            },
        },
    ]


def _is_available(running: lab.Lab) -> bool:
    return ("projectcalico.org", "ippools") in running.api.list_served_resources()
