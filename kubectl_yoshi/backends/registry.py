"""The back-ends that this program knows: a new one is a module here and a line in this table."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.backends.calico.backend import Calico
from kubectl_yoshi.backends.ovs.backend import Ovs
from kubectl_yoshi.backends.public.backend import Public
from kubectl_yoshi.model.backend import Backend

BACKENDS: Mapping[str, Backend] = {backend.plugin: backend for backend in (Calico(), Public(), Ovs())}
