"""The custom resource definitions that a lab loads, and where each set comes from.

KubeVirt's are printed by a program made of its own Go package and kept in the cache. Calico's, MetalLB's, Multus's and
luigi's are small ones of our own in lab/crds; with `LAB_CRDS=DIR` the real ones from there are used for the sets that
DIR has, and MetalLB's from its Go module.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lab.building import exclusive_lock, find_or_build, run_go
from lab.errors import LabError
from lab.programs import KUBEVIRT_MODULE, KVMANIFESTS, METALLB_MODULE, tool_cache
from lab.progress import Progress

CALICO_CHOICES = {"v1": ["calico-v1"], "v3": ["calico-v3"], "both": ["calico-v1", "calico-v3"], "none": []}
CORE_OF_KUBEVIRT = (
    "kubevirts.kubevirt.io",
    "virtualmachines.kubevirt.io",
    "virtualmachineinstances.kubevirt.io",
)
FRR_K8S_GROUP = "frrk8s.metallb.io"
OWN_CRDS = Path(__file__).parent / "crds"


def crd_documents(calico: str, full: bool, progress: Progress) -> list[bytes]:
    """Every CRD that a lab loads, as JSON or YAML documents that the API server accepts as they are.

    Args:
        full: also those that only KubeVirt's own programs need, a quarter of the work of a lab's start, and MetalLB's
            own.
    """
    documents = kubevirt_documents("crds", progress)
    if not full:
        documents = [one for one in documents if json.loads(one)["metadata"]["name"] in CORE_OF_KUBEVIRT]
    for name in [*CALICO_CHOICES[calico], "metallb", "multus", "luigi"]:
        documents += _metallb_documents() if name == "metallb" and full else set_documents(name)
    return documents


def kubevirt_documents(kind: str, progress: Progress | None = None) -> list[bytes]:
    """KubeVirt's `crds`, `rbac`, `apiservices` or `webhooks`, as JSON documents; made once per version and kept."""
    cached = tool_cache(KVMANIFESTS.folder, KUBEVIRT_MODULE) / f"{kind}.json"
    if not cached.exists():
        with exclusive_lock(cached.parent / ".manifests.lock"):
            program = find_or_build([KVMANIFESTS], progress or Progress(quiet=True))[KVMANIFESTS.name]
            printed = subprocess.run([program, "-what", kind], capture_output=True, check=True).stdout
            _write_atomically(cached, _as_json(printed))
    return cached.read_bytes().splitlines()


def set_documents(name: str) -> list[bytes]:
    real = os.environ.get("LAB_CRDS")
    if real and not Path(real).is_dir():
        raise LabError(f"LAB_CRDS={real}: no such folder")
    if real and (Path(real) / name).is_dir():
        files = sorted((Path(real) / name).glob("*.yaml"))
        # The lab's users bring their own NetworkWizard; Platform9 yoshi's is loaded by the tests that are about it.
        return _documents_of(file for file in files if "networkwizards" not in file.name)
    if real and name == "metallb":
        return _metallb_documents()
    files = sorted((OWN_CRDS / name).glob("*.yaml"))
    if not files:
        raise LabError(f"no CRDs in {OWN_CRDS / name}: set LAB_CRDS to a folder that has {name}/*.yaml")
    return _documents_of(files)


def _metallb_documents() -> list[bytes]:
    """MetalLB's own CRDs, from its Go module."""
    cached = tool_cache("metallb", METALLB_MODULE) / "crds.json"
    if not cached.exists():
        with exclusive_lock(cached.parent / ".manifests.lock"):
            bases = module_folder("metallb", METALLB_MODULE) / "config" / "crd" / "bases"
            text = "\n---\n".join(file.read_text() for file in sorted(bases.glob("*.yaml")))
            _write_atomically(cached, _as_json(_with_wide_numbers(text).encode()))
    return cached.read_bytes().splitlines()


def frr_k8s_documents() -> list[bytes]:
    """The CRDs of frr-k8s, which MetalLB's manifest has, as JSON documents."""
    return [
        json.dumps(found, separators=(",", ":")).encode()
        for found in metallb_manifest("frr-k8s")
        if found["kind"] == "CustomResourceDefinition" and found["spec"]["group"] == FRR_K8S_GROUP
    ]


def metallb_manifest(bgp: str) -> list[dict[str, Any]]:
    """Every object of MetalLB's own installation manifest for a kind of BGP: native, frr or frr-k8s."""
    cached = tool_cache("metallb", METALLB_MODULE) / f"manifest-{bgp}.json"
    if not cached.exists():
        with exclusive_lock(cached.parent / ".manifests.lock"):
            source = module_folder("metallb", METALLB_MODULE) / "config" / "manifests" / f"metallb-{bgp}.yaml"
            _write_atomically(cached, _as_json(_with_wide_numbers(source.read_text()).encode()))
    return [json.loads(line) for line in cached.read_bytes().splitlines()]


def _with_wide_numbers(crds: str) -> str:
    """Declare ASNs as int64: they are int32 with a maximum of 4294967295, and Kubernetes 1.36 refuses every object."""
    return re.sub(r"format: int32(\n\s+maximum: 4294967295)", r"format: int64\1", crds)


def module_folder(folder: str, module: str) -> Path:
    """Where the Go module cache has the sources of a module that lab/tools/<folder> requires."""
    return Path(json.loads(run_go(folder, "mod", "download", "-json", module).stdout)["Dir"])


def _documents_of(files: Iterable[Path]) -> list[bytes]:
    return [document for file in files for document in split_yaml(file.read_bytes())]


def split_yaml(text: bytes) -> list[bytes]:
    """The documents of a YAML stream, without parsing them; empty ones left out."""
    return [part for part in re.split(rb"(?m)^---\s*$", text) if re.search(rb"(?m)^\s*[^#\s]", part)]


def _as_json(text: bytes) -> list[bytes]:
    # JSON, since Python reads half a megabyte of it in the time that YAML takes for a line.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    objects = [found for found in yaml.load_all(text, Loader=loader) if found]
    for found in objects:
        found.pop("status", None)
        found["metadata"].pop("creationTimestamp", None)
    return [json.dumps(found, default=str, separators=(",", ":")).encode() for found in objects]


def _write_atomically(file: Path, lines: Sequence[bytes]) -> None:
    """Write a file whole or not at all."""
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(b"\n".join(lines))
    part.replace(file)
