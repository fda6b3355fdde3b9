"""Kubernetes' own kinds of objects that more than one package asks for."""

from __future__ import annotations

from kubectl_yoshi.model.objects import Resource

APISERVICE = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
EVENT = Resource("", "v1", "events", "Event")
