"""The programs of a lab, their versions, and where they are found."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.errors import LabError
from lab.paths import envtest_folder, program_cache, tools_folder

NEWEST_KUBERNETES = "1.36"
OLDEST_KUBERNETES = "1.31"  # the first whose CEL knows CIDRs
DEFAULT_KUBERNETES = os.environ.get("LAB_KUBERNETES", NEWEST_KUBERNETES)
KUBERNETES_MODULE = "k8s.io/kubernetes"
KUBEVIRT_MODULE = "kubevirt.io/kubevirt"
METALLB_MODULE = "go.universe.tf/metallb"
FRR_K8S_MODULE = "github.com/metallb/frr-k8s"
KWOK_MODULE = "sigs.k8s.io/kwok"
KREW_MODULE = "sigs.k8s.io/krew"
ACTIONLINT_MODULE = "github.com/rhysd/actionlint"
WHEREABOUTS_MODULE = "github.com/k8snetworkplumbingwg/whereabouts"


@dataclass(frozen=True)
class Program:
    """A program of the lab, and the Go package that it is built from."""

    name: str
    folder: str  # of lab/tools: the Go module that builds it
    package: str
    module: str  # the Go module whose version is the program's version
    built_as: str = ""  # the name that `go build` gives it, where that is another one

    @property
    def version(self) -> str:
        """As required by the tool's go.mod, e.g. `v1.36.3`."""
        return required_version(self.folder, self.module)

    @property
    def cached(self) -> Path:
        """Where the built program is kept; it need not exist yet."""
        return tool_cache(self.folder, self.module) / self.name


@cache
def required_version(folder: str, module: str) -> str:
    """The version of `module` in lab/tools/<folder>/go.mod."""
    text = (tools_folder() / folder / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise LabError(f"lab/tools/{folder}/go.mod requires no {module}")
    return found.group(1)


def tool_cache(folder: str, module: str) -> Path:
    """The cache's folder for what comes from one version of `module`, e.g. `kubernetes-v1.36.3`."""
    parts = [part for part in module.split("/") if not re.fullmatch(r"v\d+|server", part)]
    return program_cache() / f"{parts[-1]}-{required_version(folder, module)}"


def kubernetes_folder(minor: str) -> str:
    """The folder of lab/tools that builds Kubernetes `minor`, e.g. `1.36`."""
    if minor == NEWEST_KUBERNETES:
        return "kubernetes"
    folder = f"kubernetes-{minor}"
    if not (tools_folder() / folder / "go.mod").exists():
        known = [NEWEST_KUBERNETES, *sorted(p.name.partition("-")[2] for p in tools_folder().glob("kubernetes-*"))]
        raise LabError(f"no lab/tools/{folder}: this lab knows Kubernetes {', '.join(known)}")
    return folder


def kubernetes_program(name: str, minor: str = DEFAULT_KUBERNETES) -> Program:
    """kube-apiserver, kube-controller-manager, kube-scheduler or kubectl of one minor version."""
    return Program(name, kubernetes_folder(minor), f"{KUBERNETES_MODULE}/cmd/{name}", KUBERNETES_MODULE)


ETCD = Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", built_as="server")
KUBECTL = kubernetes_program("kubectl", NEWEST_KUBERNETES)
KVMANIFESTS = Program("kvmanifests", "kubevirt", "./kvmanifests", KUBEVIRT_MODULE)
VIRT_API = Program("virt-api", "kubevirt", f"{KUBEVIRT_MODULE}/cmd/virt-api", KUBEVIRT_MODULE)
VIRT_CONTROLLER = Program("virt-controller", "kubevirt", f"{KUBEVIRT_MODULE}/cmd/virt-controller", KUBEVIRT_MODULE)
KWOK = Program("kwok", "kwok", f"{KWOK_MODULE}/cmd/kwok", KWOK_MODULE)
METALLB_CONTROLLER = Program(
    "metallb-controller", "metallb", f"{METALLB_MODULE}/controller", METALLB_MODULE, built_as="controller"
)
METALLB_SPEAKER = Program("metallb-speaker", "metallb", f"{METALLB_MODULE}/speaker", METALLB_MODULE, built_as="speaker")
# In the module of MetalLB, which requires it: so both have the same versions of what they import.
FRR_K8S = Program(
    "frr-k8s", "metallb", f"{FRR_K8S_MODULE}/cmd/frr-k8s-controller", FRR_K8S_MODULE, "frr-k8s-controller"
)
FRR_STATUS = Program("frr-status", "metallb", f"{FRR_K8S_MODULE}/frr-tools/status", FRR_K8S_MODULE, "status")
GOBGPD = Program("gobgpd", "gobgp", "github.com/osrg/gobgp/v3/cmd/gobgpd", "github.com/osrg/gobgp/v3")
GOBGP = Program("gobgp", "gobgp", "github.com/osrg/gobgp/v3/cmd/gobgp", "github.com/osrg/gobgp/v3")
# Nothing of a lab: what installs the plugin, and what reviewers of its index check manifests with.
KREW = Program("krew", "krew", f"{KREW_MODULE}/cmd/krew", KREW_MODULE)
VALIDATE_KREW_MANIFEST = Program(
    "validate-krew-manifest", "krew", f"{KREW_MODULE}/cmd/validate-krew-manifest", KREW_MODULE
)
# Nothing of a lab: it checks GitHub's workflows.
ACTIONLINT = Program("actionlint", "actionlint", f"{ACTIONLINT_MODULE}/cmd/actionlint", ACTIONLINT_MODULE)
# Nothing of a lab: the peer that the benchmarks run beside.
WHEREABOUTS = Program("whereabouts", "whereabouts", f"{WHEREABOUTS_MODULE}/cmd", WHEREABOUTS_MODULE, built_as="cmd")


def programs_of(profile: str, minor: str) -> list[Program]:
    """All programs that a lab of this profile needs, those of Kubernetes in version `minor`, e.g. `1.36`."""
    programs = [ETCD, kubernetes_program("kube-apiserver", minor), kubernetes_program("kube-controller-manager", minor)]
    if profile == "full":
        programs += [kubernetes_program("kube-scheduler", minor), VIRT_API, VIRT_CONTROLLER, KWOK]
        programs += [METALLB_CONTROLLER, METALLB_SPEAKER, FRR_K8S, FRR_STATUS, GOBGPD, GOBGP]
    return programs


ALL_PROGRAMS = {
    program.name: program
    for program in [
        *programs_of("full", NEWEST_KUBERNETES),
        *(KUBECTL, KVMANIFESTS, WHEREABOUTS, KREW, VALIDATE_KREW_MANIFEST, ACTIONLINT),
    ]
}


def find(program: Program) -> Path | None:
    """Where `program` is: `$KUBEBUILDER_ASSETS`, else the lab's cache, else setup-envtest's folder, else nowhere."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    candidates = [Path(assets) / program.name] if assets else []
    for candidate in [*candidates, program.cached, *envtest_candidates(program)]:
        if os.access(candidate, os.X_OK) and (candidate == program.cached or _serves(program, candidate)):
            return candidate
    return None


def envtest_candidates(program: Program) -> list[Path]:
    """The program in setup-envtest's folders, newest first."""

    def version(folder: Path) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", folder.name.partition("-")[0])]

    folders = sorted(envtest_folder().glob("*.*.*-*-*"), key=version, reverse=True)
    return [folder / program.name for folder in folders]


def _serves(program: Program, binary: Path) -> bool:
    """Whether a binary that we did not build is of the minor version that is wanted."""
    if program.module != KUBERNETES_MODULE or program == KUBECTL:
        return True
    try:
        output = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except OSError:
        return False
    found = re.search(r"v(\d+\.\d+)\.", output)
    return found is not None and program.version.startswith(f"v{found.group(1)}.")
