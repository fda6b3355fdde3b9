"""The lifecycle of a lab: start, inspect and delete it with nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from lab.api import Api
from lab.building import exclusive_lock, find_or_build, is_held
from lab.errors import LabError
from lab.frr import check_installed
from lab.lab_ids import LabId, find_free_lab_id, list_taken_lab_ids
from lab.manifests import CALICO_CHOICES, crd_documents, frr_k8s_documents
from lab.network_setup import ROUTER, ROUTER_HOST, Node, create_lab_network, delete_lab_network, nodes_of
from lab.paths import labs_folder
from lab.processes import ProgramRecord, kill_processes, list_lab_pids, records, spawn
from lab.profiles.core import admin_api, load_crds, start_core, wait_ready
from lab.profiles.full import start_full
from lab.programs import DEFAULT_KUBERNETES, GOBGP, KUBECTL, programs_of
from lab.progress import Progress
from lab.reaper import Reaper
from lab.router import Route, list_routes, route_table

PROFILES = ("core", "full")
BGP_CHOICES = ("native", "frr", "frr-k8s")


@dataclass(frozen=True)
class Options:
    """What kind of lab is wanted."""

    profile: str = "core"
    kubernetes: str = DEFAULT_KUBERNETES
    calico: str = "v1"
    bgp: str = "native"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise LabError(f"no profile {self.profile!r}: there are {', '.join(PROFILES)}")
        if self.calico not in CALICO_CHOICES:
            raise LabError(f"no Calico {self.calico!r}: there are {', '.join(CALICO_CHOICES)}")
        if self.bgp not in BGP_CHOICES:
            raise LabError(f"no BGP {self.bgp!r}: there are {', '.join(BGP_CHOICES)}")


class Lab:
    """A running lab. As a context manager it is taken down at the end."""

    def __init__(self, folder: Path, reaper: Reaper | None = None) -> None:
        state = json.loads((folder / "lab.json").read_text())
        self.folder = folder
        self.name = folder.name
        self.lab_id = LabId(state["slot"])
        self.options = Options(**state["options"])
        self.kubeconfig = folder / "kubeconfig"
        self._reaper = reaper

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    @property
    def programs(self) -> list[ProgramRecord]:
        """The programs of this lab, in the order of their start, also those that have ended."""
        return records(self.folder)

    def program(self, name: str) -> ProgramRecord:
        """One program by its name; a LabError names those that there are."""
        for record in self.programs:
            if record.launch.name == name:
                return record
        raise LabError(f"lab {self.name} has no program {name}: {', '.join(r.launch.name for r in self.programs)}")

    @cached_property
    def api(self) -> Api:
        """A small client that is the administrator."""
        return admin_api(self.folder)

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the full profile, each with its network namespace and its addresses; none in the core."""
        return nodes_of(self.lab_id) if self.options.profile == "full" else []

    @property
    def router_namespace(self) -> str:
        """The network namespace of the full profile's router."""
        return self.lab_id.namespace(ROUTER)

    @property
    def router_address(self) -> str:
        """Where the router listens for BGP."""
        return self.lab_id.address(ROUTER_HOST)

    @property
    def router_address6(self) -> str:
        """The same for IPv6."""
        return self.lab_id.address6(ROUTER_HOST)

    def routes(self) -> list[Route]:
        """The routes that the router has learnt: (prefix, next hop)."""
        return list_routes(self.lab_id, self._gobgp())

    def route_table(self) -> str:
        """The same, as the router's own tool prints it."""
        return route_table(self.lab_id, self._gobgp())

    def _gobgp(self) -> Path:
        if self.options.profile != "full":
            raise LabError(f"lab {self.name} has no router: it was brought up without `--profile full`")
        return find_or_build([GOBGP], Progress())[GOBGP.name]

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl as the administrator; returns its stdout, and raises a LabError with its stderr if it fails."""
        command = [kubectl_command(), f"--kubeconfig={self.kubeconfig}", *args]
        result = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if result.returncode:
            raise LabError(f"kubectl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout

    def kill_api_server(self) -> None:
        """End the API server as a power cut would; what it has stored stays in etcd."""
        kill_processes([self.program("kube-apiserver").pid], self.folder)

    def restart_api_server(self) -> None:
        """Restart the API server on its port, and wait until it is ready."""
        self.kill_api_server()
        server = spawn(self.program("kube-apiserver").launch, self.folder)
        wait_ready(self.api, [server])

    def down(self) -> None:
        """End every program and remove the lab's folder, bridge and network namespaces. Twice does no harm."""
        delete_lab(self.folder)
        if self._reaper:
            self._reaper.dismiss()
            self._reaper = None


def start(
    profile: str = "core",
    name: str | None = None,
    kubernetes: str = DEFAULT_KUBERNETES,
    *,
    calico: str = "v1",
    bgp: str = "native",
    background: bool = False,
    progress: Progress | None = None,
) -> Lab:
    """Bring up a lab; returns when its API server is ready and serves every custom resource.

    `name` tells labs apart; without one it is made from this process's number. The lab ends with this process, even
    when that is killed, unless `background`. Raises a LabError if a lab of that name is up, or something does not
    start; then nothing is left behind. `bgp="frr"` lets MetalLB speak BGP by FRR (see lab.frr) in the full profile,
    and `bgp="frr-k8s"` by FRR that frr-k8s configures (see lab.frr_k8s).
    """
    options = Options(profile, kubernetes, calico, bgp)
    progress = progress or Progress(quiet=True)
    # Before the lab has a folder: on a fresh machine this takes minutes, and nothing must be cleaned up after it.
    binaries, documents = prepare(options, progress)
    with _reserve_lab(name or f"p{os.getpid()}-{time.monotonic_ns() % 10**6}", options) as (folder, lab_id):
        return _start(folder, lab_id, options, binaries, documents, background)


def prepare(options: Options, progress: Progress) -> tuple[dict[str, Path], list[bytes]]:
    """Find or build the programs of such a lab, and the CRDs that it loads."""
    if options.bgp != "native":
        check_installed()
    binaries = find_or_build(programs_of(options.profile, options.kubernetes), progress)
    documents = crd_documents(options.calico, options.profile == "full", progress)
    return binaries, documents + (frr_k8s_documents() if options.bgp == "frr-k8s" else [])


def _start(
    folder: Path, lab_id: LabId, options: Options, binaries: dict[str, Path], documents: list[bytes], background: bool
) -> Lab:
    reaper = Reaper(folder)
    try:
        if options.profile == "full":
            create_lab_network(lab_id)
            start_full(start_core(folder, lab_id, binaries, lab_id.gateway), documents, options.bgp)
        else:
            load_crds(start_core(folder, lab_id, binaries, "127.0.0.1").api, documents)
    except BaseException:
        delete_lab(folder)
        reaper.dismiss()
        raise
    if background:
        reaper.dismiss()
    return Lab(folder, None if background else reaper)


def find_lab(name: str) -> Lab:
    """The lab of that name; a LabError says which there are."""
    if not (labs_folder() / name / "lab.json").exists():
        names = ", ".join(lab.name for lab in list_labs()) or "none"
        raise LabError(f"no lab {name!r} is up (up: {names})")
    return Lab(labs_folder() / name)


def list_labs() -> list[Lab]:
    """Every lab of this user."""
    return [Lab(state_file.parent) for state_file in sorted(labs_folder().glob("*/lab.json"))]


def delete_lab(folder: Path) -> None:
    """End and remove whatever there is of the lab in `folder`, complete or not."""
    started = {record.pid for record in records(folder)}
    kill_processes(started | set(list_lab_pids(folder)), folder)
    for lab_id in list_taken_lab_ids(folder.parent, folder.name):
        delete_lab_network(LabId(lab_id))
    shutil.rmtree(folder, ignore_errors=True)


def kubectl_command() -> str:
    """kubectl from PATH; where there is none, the lab's own, built from the Kubernetes module."""
    return shutil.which("kubectl") or str(find_or_build([KUBECTL], Progress())[KUBECTL.name])


@contextmanager
def _reserve_lab(name: str, options: Options) -> Iterator[tuple[Path, LabId]]:
    """A folder and a slot for a new lab, claimed under a lock: two labs that start at once must not choose the same."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise LabError(f"a lab's name is made of a-z, 0-9 and dashes, unlike {name!r}")
    labs = labs_folder()
    labs.mkdir(parents=True, exist_ok=True)
    folder = labs / name
    with ExitStack() as cleanup:
        with exclusive_lock(labs / ".lock"):
            if folder.exists():
                if any(list_lab_pids(folder)) or is_held(folder / "up.lock"):
                    raise LabError(f"a lab {name!r} is up already; end it with `python -m lab down --name {name}`")
                delete_lab(folder)  # what a reboot left
            lab_id = find_free_lab_id(list_taken_lab_ids(labs))
            cleanup.push(
                lambda kind, *_: delete_lab(folder) if kind else None
            )  # Ctrl-C may come before _start's own `try`
            folder.mkdir(mode=0o700)
            cleanup.enter_context(
                exclusive_lock(folder / "up.lock")
            )  # until its first program runs, nothing else shows it
            (folder / "lab.json").write_text(json.dumps({"slot": lab_id.number, "options": vars(options)}))
        yield folder, lab_id
