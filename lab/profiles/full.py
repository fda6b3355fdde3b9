"""The full profile: what is started on top of the core, in what order, and when it is ready."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from lab import frr_k8s, kubevirt, metallb
from lab.api import Api, wait_until
from lab.errors import LabError
from lab.frr import frr_launches, is_ready, reload_environment
from lab.kwok import kwok_launch, node_object
from lab.network_setup import nodes_of
from lab.processes import Launch, ProgramRecord, spawn
from lab.profiles.core import Core, component_flags, load_crds, tail_log, write_kubeconfig
from lab.router import router_launch

TOKEN_LIFETIME = 30 * 24 * 3600  # seconds; longer than anybody keeps a lab


def start_full(core: Core, documents: Sequence[bytes], bgp: str) -> None:
    """Start the rest of the full profile on a core whose fabric is laid; returns when all of it does its work."""
    folder, lab_id, programs, api = core.folder, core.lab_id, core.programs, core.api
    nodes = nodes_of(lab_id)
    router = spawn(router_launch(folder, lab_id, programs), folder)
    scheduler = spawn(_scheduler_launch(core), folder)
    uses_frr, uses_frr_k8s = bgp != "native", bgp == "frr-k8s"
    frr = [spawn(launch, folder) for node in nodes for launch in frr_launches(folder, node)] if uses_frr else []
    with ThreadPoolExecutor(2) as pool:
        crds = pool.submit(load_crds, api, documents)
        rbac = pool.submit(_create_all, api, [*metallb.objects(bgp), *kubevirt.objects(core.authority)])
        for job in (crds, rbac):
            job.result()
    _create_all(api, [*(node_object(node, number) for number, node in enumerate(nodes, 1)), kubevirt.kubevirt_object()])
    api.patch(f"{_KUBEVIRT}/status", {"status": kubevirt.kubevirt_status()})
    metallb_accounts = (*metallb.ACCOUNTS, frr_k8s.ACCOUNT) if uses_frr_k8s else metallb.ACCOUNTS
    for namespace, accounts in ((metallb.NAMESPACE, metallb_accounts), (kubevirt.NAMESPACE, kubevirt.ACCOUNTS)):
        for account in accounts:
            _write_account_kubeconfig(core, namespace, account)

    def spawn_program(launch: Launch) -> ProgramRecord:
        return spawn(launch, folder)

    virt_controller = spawn_program(kubevirt.controller_launch(folder, lab_id, programs, core.authority))
    virt_api = spawn_program(kubevirt.api_launch(folder, lab_id, programs, core.authority))
    kwok = spawn_program(kwok_launch(folder, lab_id, programs))
    other_programs = [kwok]
    controller = metallb.controller_launch(lab_id, programs, folder / "controller.kubeconfig", bgp)
    other_programs.append(spawn_program(controller))
    _create_all(api, (metallb.speaker_pod(node) for node in nodes))
    if uses_frr:
        _wait(frr, "FRR is ready", frr[0], lambda: all(is_ready(folder, node) for node in nodes))
    if uses_frr_k8s:
        _create_all(api, (frr_k8s.daemon_pod(node) for node in nodes))
    for node in nodes:
        environment = metallb.bgp_environment(bgp)
        if uses_frr_k8s:
            other_programs += map(spawn_program, frr_k8s.daemon_launches(folder, node, programs))
        elif uses_frr:
            environment |= reload_environment(folder, node)
        other_programs.append(
            spawn_program(metallb.speaker_launch(node, programs, folder / "speaker.kubeconfig", environment))
        )

    started = [router, scheduler, *frr, virt_controller, virt_api, *other_programs]

    def answers() -> bool:
        return _is_healthy(lab_id.gateway, lab_id.port("virt-api"), core.authority.file)

    _wait(started, "virt-api answers", virt_api, answers)
    _create_all(api, kubevirt.webhooks(core.authority, lab_id))
    _wait(started, "the subresources are served", virt_api, lambda: _can_get(api, "/apis/subresources.kubevirt.io/v1"))
    _wait(started, "the nodes are ready", kwok, lambda: _ready_nodes(api) == len(nodes))
    leader_message = "STARTING controllers"
    _wait(started, "virt-controller leads", virt_controller, lambda: leader_message in virt_controller.log.read_text())


_KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt"


def _wait(records: Sequence[ProgramRecord], what: str, program: ProgramRecord, condition: Callable[[], bool]) -> None:
    """Wait for `program` to do something, but not once a program has ended; an error shows the program's last words."""

    def condition_or_exit() -> bool:
        for record in records:
            if not record.running:
                raise LabError(f"{record.launch.name} ended at its start:\n{tail_log(record.log)}")
        return condition()

    try:
        wait_until(what, condition_or_exit)
    except LabError as error:
        raise LabError(f"{error}\n{program.launch.name} said last:\n{tail_log(program.log)}") from None


def _create_all(api: Api, objects: Iterable[Mapping[str, Any]]) -> None:
    for found in objects:
        api.create(found)


def _scheduler_launch(core: Core) -> Launch:
    name = "kube-scheduler"
    port = core.lab_id.port(name)
    return Launch(name, [str(core.programs[name]), *component_flags(core.kubeconfig, port)], port)


def _write_account_kubeconfig(core: Core, namespace: str, account: str) -> None:
    """A kubeconfig with the permissions of a service account, `<account>.kubeconfig` in the lab's folder."""
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_LIFETIME},
    }
    answer = core.api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)
    server = f"{core.lab_id.gateway}:{core.lab_id.port('kube-apiserver')}"
    write_kubeconfig(core.folder / f"{account}.kubeconfig", core.authority, server, answer["status"]["token"])


def _is_healthy(host: str, port: int, authority: Path) -> bool:
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with closing(http.client.HTTPSConnection(host, port, timeout=5, context=context)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status < 500
    except OSError:
        return False


def _can_get(api: Api, path: str) -> bool:
    try:
        return bool(api.get(path))
    except LabError:
        return False


def _ready_nodes(api: Api) -> int:
    return sum(
        condition["type"] == "Ready" and condition["status"] == "True"
        for node in api.get("/api/v1/nodes")["items"]
        for condition in node["status"].get("conditions", [])
    )
