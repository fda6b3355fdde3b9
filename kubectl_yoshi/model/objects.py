"""Represent Kubernetes objects as plain JSON, identified by resource, namespace and name.

There are no typed models, so that fields unknown to this program are preserved (invariant I6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""A JSON object as `json.loads` returns it. It is never changed in place once read."""

NamespacedName = tuple[str, str]
"""The namespace and the name of an object."""

MAX_NAME_LENGTH = 253
"""Maximum length of an object's name (RFC 1123 subdomain), in characters."""

ANNOTATIONS = ("metadata", "annotations")
"""The path to an object's annotations, for `dig` and for patches."""


@dataclass(frozen=True, order=True)
class Resource:
    """A resource type that the API server serves.

    Attributes:
        group: API group, "" for the core group.
        version: API version, such as "v1" or "v1beta2".
        plural: the name in URLs, lower case.
        kind: the name in manifests.
        namespaced: whether its objects are in a namespace.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return the apiVersion of manifests, such as "v1" or "metallb.io/v1beta1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """Return the name that kubectl and RBAC use: "ippools.crd.projectcalico.org"; the core group has no suffix."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the URL path of a collection or an object.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def ref(self, name: str, namespace: str | None = None) -> ObjectRef:
        """Return the reference of the object with that name."""
        return ObjectRef(self, name, namespace if self.namespaced else None)


@dataclass(frozen=True, order=True)
class ObjectRef:
    """A reference to one object: its resource, name and, if namespaced, namespace."""

    resource: Resource
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        """Return the form used in messages: "ippool/prod.blue", "virtualmachine/web-1 in namespace prod"."""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource.kind.lower()}/{self.name}{where}"


CRD = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
APISERVICE = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
EVENT = Resource("", "v1", "events", "Event")
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
CRD = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
POLICY = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
POLICY_BINDING = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)


def metadata(obj: Mapping[str, Any]) -> Json:
    """Return the object's metadata; {} if it has none."""
    return obj.get("metadata") or {}


def name_of(obj: Mapping[str, Any]) -> str:
    """Return metadata.name."""
    return str(metadata(obj).get("name", ""))


def namespace_of(obj: Mapping[str, Any]) -> str:
    """Return metadata.namespace; "" for a cluster-scoped object."""
    return str(metadata(obj).get("namespace", ""))


def uid_of(obj: Mapping[str, Any]) -> str:
    """Return metadata.uid."""
    return str(metadata(obj).get("uid", ""))


def resource_version_of(obj: Mapping[str, Any]) -> str:
    """Return metadata.resourceVersion."""
    return str(metadata(obj).get("resourceVersion", ""))


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return metadata.labels; {} if there are none."""
    return metadata(obj).get("labels") or {}


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return metadata.annotations; {} if there are none."""
    return metadata(obj).get("annotations") or {}


def dig(obj: Any, *path: str | int, default: Any = None) -> Any:
    """Return the value at a path of keys and indices, or `default` if any step is missing or null."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(obj, list) or step >= len(obj):
                return default
            obj = obj[step]
        else:
            if not isinstance(obj, Mapping):
                return default
            obj = obj.get(step)
        if obj is None:
            return default
    return obj


def new_object(ref: ObjectRef, content: Mapping[str, Any], **more_metadata: Any) -> Json:
    """Return an object to create.

    Args:
        ref: its resource, name and namespace.
        content: the object without apiVersion, kind and metadata, such as {"spec": …}.
        more_metadata: annotations, labels, ownerReferences.
    """
    namespace = {"namespace": ref.namespace} if ref.namespace else {}
    return {
        "apiVersion": ref.resource.api_version,
        "kind": ref.resource.kind,
        "metadata": {"name": ref.name, **namespace, **more_metadata},
        **content,
    }


def owner_reference(owner: Mapping[str, Any]) -> Json:
    """Return an ownerReference to an object of the same namespace, with which Kubernetes deletes the dependent.

    blockOwnerDeletion stays false: it requires the permission to set finalizers on the owner, which tenants lack.
    """
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": False,
        "blockOwnerDeletion": False,
    }


def short_hash(parts: Iterable[str], length: int = 8) -> str:
    """Return a stable hexadecimal digest of these strings, for names that must not collide."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]
