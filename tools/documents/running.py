"""Run the command blocks of documents on a lab, and compare their output with the documents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.documents.blocks import Block, Document

SECONDS = 120.0
"""How long a block may take; a loaded machine is slow."""

PRELUDE = """\
set -eo pipefail
halted() { for name in "$@"; do a_vm "$name" Halted; done; }
running() { for name in "$@"; do a_vm "$name" Always; done; }
a_vm() {
  kubectl apply -f - >/dev/null <<EOF
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: ${1%%:*}, labels: {app: ${1##*:}}}
spec:
  runStrategy: $2
  template:
    spec:
      domain: {devices: {interfaces: [{name: default, masquerade: {}}]}, memory: {guest: 128Mi}}
      networks: [{name: default, pod: {}}]
EOF
}
"""
"""What `given` marks may use: `halted web-1 db-1:db` makes VMs, the second one with the label app=db."""

_CHANGING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\([0-9a-f]{8}\)"), "(UID)"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b"), "MAC"),
    (re.compile(r"\b(\d+d)?(\d+h)?(\d+m)?\d+(\.\d+)?[smhd]\b"), "AGE"),
    (re.compile(r"\b(yoshi-[a-z0-9.-]+?-)[0-9a-f]{8}\b"), r"\1HASH"),
    (re.compile(r"\b\d+ KiB\b"), "SIZE"),
    (re.compile(r"\bnode-\d\b"), "NODE"),
    (re.compile(r"https://127\.0\.0\.1:\d+"), "SERVER"),
    (re.compile(r" from [a-z0-9-]+ namespace$"), ""),  # kubectl 1.33 and older do not say it
    (re.compile(r"[ \t]+"), " "),
)


class Failed(AssertionError):
    """A block did not do what its document says."""


def environment(kubeconfig: Path, kubectl: Path, home: Path) -> dict[str, str]:
    """The environment of the blocks: this Python's programs and kubectl on PATH, a home of their own.

    Args:
        kubeconfig: the lab's; the blocks get a copy, so that they may change it.
        kubectl: the program.
        home: an empty folder, where they run too.
    """
    own = home / "kubeconfig"
    own.write_bytes(kubeconfig.read_bytes())
    path = [str(Path(sys.executable).parent), str(kubectl.parent), os.environ.get("PATH", os.defpath)]
    return {
        "HOME": str(home),
        "KUBECONFIG": str(own),
        "PATH": os.pathsep.join(path),
        "LANG": "C.UTF-8",
        "SHELL": "bash",
    }


def run(document: Document, variables: Mapping[str, str]) -> Iterator[tuple[Block, str]]:
    """Runs the blocks one after the other; gives each with what it printed, stdout and stderr as they came.

    Raises:
        Failed: one ended with another exit code than it should.
    """
    for block in document.blocks:
        if block.not_run:
            check_syntax(block)
            continue
        ended = subprocess.run(
            ["bash", "-c", PRELUDE + block.commands],
            cwd=variables["HOME"], env=dict(variables), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        if ended.returncode != block.exit_code:
            raise Failed(f"line {block.line}: exit code {ended.returncode}\n{block.commands}\n{ended.stdout}")
        yield block, ended.stdout


def check_syntax(block: Block) -> None:
    """Lets bash read a block without running it.

    Raises:
        Failed: bash cannot.
    """
    read = subprocess.run(["bash", "-n", "-c", block.commands], capture_output=True, text=True, check=False)
    if read.returncode:
        raise Failed(f"line {block.line}: {read.stderr}")


def constant(output: str) -> list[str]:
    """The lines of an output without what differs at each run: ages, times, UIDs, MAC addresses, nodes, widths."""
    lines = []
    for line in output.strip().splitlines():
        for pattern, instead in _CHANGING:
            line = pattern.sub(instead, line)
        lines.append(line.strip())
    return lines


def with_outputs(text: str, printed: Mapping[int, str]) -> str:
    """A document with new outputs.

    Args:
        text: the document.
        printed: line of a block's first command -> what it printed.
    """
    from tools.documents.blocks import read_document

    lines = text.splitlines()
    for block in reversed(read_document(text).blocks):
        if block.output is not None and block.line in printed:
            start, end = block.output_lines
            lines[start:end] = [line.rstrip() for line in printed[block.line].strip("\n").splitlines()]
    return "\n".join(lines) + "\n"


CLEAN = """\
kubectl delete virtualmachines.kubevirt.io --all --wait --timeout=60s
kubectl delete services -l plumber.k8s.pf9.io/networkUID
kubectl yoshi ips gc -A --grace 0s --yes
for network in $(kubectl yoshi network list --no-headers | cut -d' ' -f1); do
  kubectl yoshi network delete "$network" --force --yes
done
"""
"""Takes away what a page left in its namespace."""


def clean(variables: Mapping[str, str]) -> None:
    """Takes away what a page left.

    Raises:
        Failed: something stays.
    """
    for _ in run(Document((Block(CLEAN, 0),)), variables):
        pass
