"""FRR on the nodes of a full lab, as MetalLB uses it where its own BGP does not suffice: it cannot announce IPv6.

MetalLB's speaker, or frr-k8s, writes FRR's configuration to a file and sends SIGHUP to a reloader, which brings FRR's
daemons to that configuration. The daemons are the distribution's; the reloader here does what MetalLB's shell script
does, with the paths of one node.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.errors import LabError
from lab.network_setup import Node
from lab.processes import Launch

DAEMONS = Path("/usr/lib/frr")
RELOAD = DAEMONS / "frr-reload.py"
VTYSH = Path("/usr/bin/vtysh")
REQUESTED_CONFIG, PID, APPLIED_CONFIG = "asked.conf", "reloader.pid", "applied.conf"
RESULT, RUNNING_CONFIG = ".status", "running-config"  # names that frr-k8s knows
STATUS_FOLDER = "frr_reloader"  # of /etc, where frr-k8s reads both


def check_installed() -> None:
    """A LabError when FRR is not there; it is not built, but comes from the distribution."""
    if not (DAEMONS / "bgpd").exists() or not RELOAD.exists():
        raise LabError("BGP by FRR needs the packages frr and frr-pythontools: apt-get install frr frr-pythontools")


def frr_launches(folder: Path, node: Node) -> list[Launch]:
    """zebra, bgpd and the reloader of one node, in this order."""
    node_folder = _node_folder(folder, node)
    node_folder.mkdir()
    (node_folder / "vtysh.conf").touch()
    (node_folder / "group").write_text(_groups_with_root_in("frrvty", Path("/etc/group").read_text()))

    def daemon(name: str, *options: str) -> Launch:
        (node_folder / f"{name}.conf").touch()
        command = [
            *_with_groups(node_folder / "group"),
            str(DAEMONS / name),
            f"--config_file={node_folder / name}.conf",
            f"--pid_file={node_folder / name}.pid",
            f"--vty_socket={node_folder}",
            f"--socket={node_folder / 'zserv.api'}",
            "--vty_port=0",
            "--user=root",  # the lab's folder is its owner's alone
            "--group=frrvty",
            "--log=stdout",
            *options,
        ]
        return Launch(f"{name}-{node.name}", command, network_namespace=node.network_namespace)

    code = "import sys; from lab.frr import reload_on_request; reload_on_request(sys.argv[1])"
    reloader = Launch(
        f"frr-reloader-{node.name}",
        [sys.executable, "-c", code, str(node_folder)],
        environment={"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    return [daemon("zebra"), daemon("bgpd", "--bgp_port=0"), reloader]


def is_ready(folder: Path, node: Node) -> bool:
    """Whether what configures FRR on this node can be started."""
    return all((_node_folder(folder, node) / name).exists() for name in ("zebra.vty", "bgpd.vty", PID))


def reload_environment(folder: Path, node: Node) -> dict[str, str]:
    """What makes MetalLB's speaker, or frr-k8s, use the FRR of its node."""
    node_folder = _node_folder(folder, node)
    return {
        "FRR_CONFIG_FILE": str(node_folder / REQUESTED_CONFIG),
        "FRR_RELOADER_PID_FILE": str(node_folder / PID),
    }


def with_vtysh(folder: Path, node: Node) -> list[str]:
    """Run what follows with a /usr/bin/vtysh that asks the FRR of this node.

    As with /etc/group, this is in the mount namespace that `ip netns exec` made for it.
    """
    node_folder = _node_folder(folder, node)
    original, wrapper = node_folder / "vtysh-original", node_folder / "vtysh"
    original.touch()
    wrapper.write_text(f'#!/bin/sh\nexec {original} --config_dir={node_folder} --vty_socket={node_folder} "$@"\n')
    wrapper.chmod(0o755)
    script = 'mount --bind "$2" "$0" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ["sh", "-c", script, str(original), str(wrapper), str(VTYSH)]


def with_reload_status(folder: Path, node: Node) -> list[str]:
    """Run what follows with an /etc that has only what the reloader of this node reports."""
    node_folder = _node_folder(folder, node)
    etc = node_folder / "etc"
    etc.mkdir()
    (etc / STATUS_FOLDER).symlink_to(node_folder)
    return ["sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc)]


def run_vtysh(folder: Path, node: Node, command: str) -> str:
    """Run a command in the FRR of a node, such as `clear bgp *`; returns what it prints."""
    return _vtysh(_node_folder(folder, node), command)


def reload_on_request(node_folder: str) -> None:
    """Wait for SIGHUP, apply the configuration that was asked for; again and again."""
    folder = Path(node_folder)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # a request that comes while one is applied is kept
    (folder / f"{PID}.part").write_text(str(os.getpid()))
    (folder / f"{PID}.part").replace(folder / PID)
    while True:
        signal.sigwait({signal.SIGHUP})
        started_at = time.monotonic()
        applied = apply(folder)
        _report(folder, applied=applied)
        print(f"{'applied' if applied else 'NOT applied'} in {time.monotonic() - started_at:.1f} s", flush=True)


def apply(folder: Path) -> bool:
    """Bring the daemons of a node to the configuration that was asked for."""
    requested = (folder / REQUESTED_CONFIG).read_text()
    # Where MetalLB has the daemons log to is a path of their container.
    (folder / APPLIED_CONFIG).write_text(re.sub(r"(?m)^log file .*$", "log stdout", requested))
    command = [
        sys.executable,
        str(RELOAD),
        "--reload",
        "--stdout",
        f"--confdir={folder}",
        f"--rundir={folder}",
        f"--vty_socket={folder}",
        str(folder / APPLIED_CONFIG),
    ]
    return subprocess.run(command, check=False).returncode == 0


def _report(folder: Path, *, applied: bool) -> None:
    """Write what frr-k8s reports as the state of the node: the result and FRR's configuration."""
    (folder / RUNNING_CONFIG).write_text(_vtysh(folder, "show running-config"))
    (folder / RESULT).write_text(f"{time.time_ns()} {'success' if applied else 'failure'}")


def _vtysh(node_folder: Path, command: str) -> str:
    words = [str(VTYSH), f"--config_dir={node_folder}", f"--vty_socket={node_folder}", "-c", command]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def _with_groups(groups: Path) -> list[str]:
    """Run what follows with another /etc/group, in the mount namespace that `ip netns exec` made for it.

    The distribution's daemons start for members of the group frrvty only, and the lab does not touch the machine's.
    """
    return ["sh", "-c", 'mount --bind "$0" /etc/group && exec "$@"', str(groups)]


def _groups_with_root_in(group: str, groups: str) -> str:
    def added(line: str) -> str:
        return line if not line.startswith(f"{group}:") else line + ("root" if line.endswith(":") else ",root")

    return "".join(f"{added(line)}\n" for line in groups.splitlines())


def _node_folder(folder: Path, node: Node) -> Path:
    return folder / f"frr-{node.name}"
