"""A lab as a thing with a life: brought up, looked at, taken down with nothing left behind."""

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
from pathlib import Path
from types import TracebackType

from lab.api import Api
from lab.building import is_held, only_one, provide
from lab.core import admin_api, load_crds, start_core, wait_ready
from lab.errors import LabError
from lab.fabric import ROUTER, ROUTER_HOST, Node, lay_fabric, nodes_of, remove_fabric
from lab.frr import check_installed
from lab.full import start_full
from lab.keeper import Keeper
from lab.manifests import CALICO_CHOICES, crd_documents
from lab.places import labs_folder
from lab.processes import Record, end, of_lab, records, spawn
from lab.programs import DEFAULT_KUBERNETES, GOBGP, KUBECTL, programs_of
from lab.progress import Progress
from lab.router import Route, route_table, routes_of
from lab.slots import Slot, free_slot, taken_slots

PROFILES = ("core", "full")
BGP_CHOICES = ("native", "frr")


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

    def __init__(self, folder: Path, keeper: Keeper | None = None) -> None:
        told = json.loads((folder / "lab.json").read_text())
        self.folder = folder
        self.name = folder.name
        self.slot = Slot(told["slot"])
        self.options = Options(**told["options"])
        self.kubeconfig = folder / "kubeconfig"
        self._keeper = keeper

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    @property
    def programs(self) -> list[Record]:
        """The programs of this lab, in the order of their start, also those that have ended."""
        return records(self.folder)

    def program(self, name: str) -> Record:
        """One program by its name; a LabError names those that there are."""
        for record in self.programs:
            if record.launch.name == name:
                return record
        raise LabError(f"lab {self.name} has no program {name}: {', '.join(r.launch.name for r in self.programs)}")

    @property
    def api(self) -> Api:
        """A small client that is the administrator."""
        return admin_api(self.folder)

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the full profile, each with its network namespace and its addresses; none in the core."""
        return nodes_of(self.slot) if self.options.profile == "full" else []

    @property
    def router_namespace(self) -> str:
        """The network namespace of the full profile's router."""
        return self.slot.namespace(ROUTER)

    @property
    def router_address(self) -> str:
        """Where the router listens for BGP."""
        return self.slot.address(ROUTER_HOST)

    @property
    def router_address6(self) -> str:
        """The same for IPv6."""
        return self.slot.address6(ROUTER_HOST)

    def routes(self) -> list[Route]:
        """The routes that the router has learnt: (prefix, next hop)."""
        return routes_of(self.slot, self._gobgp())

    def route_table(self) -> str:
        """The same, as the router's own tool prints it."""
        return route_table(self.slot, self._gobgp())

    def _gobgp(self) -> Path:
        if self.options.profile != "full":
            raise LabError(f"lab {self.name} has no router: it was brought up without `--profile full`")
        return provide([GOBGP], Progress())[GOBGP.name]

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Run kubectl as the administrator; returns its stdout, and raises a LabError with its stderr if it fails."""
        command = [kubectl_command(), f"--kubeconfig={self.kubeconfig}", *args]
        result = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if result.returncode:
            raise LabError(f"kubectl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout

    def kill_api_server(self) -> None:
        """End the API server as a power cut would; what it has stored stays in etcd."""
        end([self.program("kube-apiserver").pid], self.folder)

    def restart_api_server(self) -> None:
        """Start the API server anew on its port, ended before if it runs; returns when it is ready."""
        self.kill_api_server()
        server = spawn(self.program("kube-apiserver").launch, self.folder)
        wait_ready(self.api, [server])

    def down(self) -> None:
        """End every program and remove the lab's folder, bridge and network namespaces. Twice does no harm."""
        take_down(self.folder)
        if self._keeper:
            self._keeper.dismiss()
            self._keeper = None


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
    start; then nothing is left behind. `bgp="frr"` lets MetalLB speak BGP by FRR (see lab.frr) in the full profile.
    """
    options = Options(profile, kubernetes, calico, bgp)
    progress = progress or Progress(quiet=True)
    # Before the lab has a folder: on a fresh machine this takes minutes, and nothing must be cleaned up after it.
    binaries, documents = prepare(options, progress)
    with _claimed(name or f"p{os.getpid()}-{time.monotonic_ns() % 10**6}", options) as (folder, slot):
        return _start(folder, slot, options, binaries, documents, background)


def prepare(options: Options, progress: Progress) -> tuple[dict[str, Path], list[bytes]]:
    """Find or build the programs of such a lab, and the CRDs that it loads."""
    if options.bgp == "frr":
        check_installed()
    binaries = provide(programs_of(options.profile, options.kubernetes), progress)
    return binaries, crd_documents(options.calico, options.profile == "full", progress)


def _start(
    folder: Path, slot: Slot, options: Options, binaries: dict[str, Path], documents: list[bytes], background: bool
) -> Lab:
    keeper = Keeper(folder)
    try:
        if options.profile == "full":
            lay_fabric(slot)
            start_full(start_core(folder, slot, binaries, slot.gateway), documents, options.bgp)
        else:
            load_crds(start_core(folder, slot, binaries, "127.0.0.1").api, documents)
    except BaseException:
        take_down(folder)
        keeper.dismiss()
        raise
    if background:
        keeper.dismiss()
    return Lab(folder, None if background else keeper)


def find_lab(name: str) -> Lab:
    """The lab of that name; a LabError says which there are."""
    if not (labs_folder() / name / "lab.json").exists():
        names = ", ".join(lab.name for lab in all_labs()) or "none"
        raise LabError(f"no lab {name!r} is up (up: {names})")
    return Lab(labs_folder() / name)


def all_labs() -> list[Lab]:
    """Every lab of this user."""
    return [Lab(state.parent) for state in sorted(labs_folder().glob("*/lab.json"))]


def take_down(folder: Path) -> None:
    """End and remove whatever there is of the lab in `folder`, complete or not."""
    started = {record.pid for record in records(folder)}
    end(started | set(of_lab(folder)), folder)
    for slot in taken_slots(folder.parent, folder.name):
        remove_fabric(Slot(slot))
    shutil.rmtree(folder, ignore_errors=True)


def kubectl_command() -> str:
    """kubectl from PATH; where there is none, the lab's own, built from the Kubernetes module."""
    return shutil.which("kubectl") or str(provide([KUBECTL], Progress())[KUBECTL.name])


@contextmanager
def _claimed(name: str, options: Options) -> Iterator[tuple[Path, Slot]]:
    """A folder and a slot for a new lab, claimed under a lock: two labs that start at once must not choose the same."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise LabError(f"a lab's name is made of a-z, 0-9 and dashes, unlike {name!r}")
    labs = labs_folder()
    labs.mkdir(parents=True, exist_ok=True)
    folder = labs / name
    with ExitStack() as held:
        with only_one(labs / ".lock"):
            if folder.exists():
                if any(of_lab(folder)) or is_held(folder / "up.lock"):
                    raise LabError(f"a lab {name!r} is up already; end it with `python -m lab down --name {name}`")
                take_down(folder)  # what a reboot left
            slot = free_slot(taken_slots(labs))
            held.push(lambda kind, *_: take_down(folder) if kind else None)  # Ctrl-C may come before _start's own `try`
            folder.mkdir(mode=0o700)
            held.enter_context(only_one(folder / "up.lock"))  # until its first program runs, nothing else shows it
            (folder / "lab.json").write_text(json.dumps({"slot": slot.number, "options": vars(options)}))
        yield folder, slot
