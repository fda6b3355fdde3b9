"""The peer: whereabouts, the real plugin, built from its Go module and run as kubelet's runtime runs it.

One process for each ADD, with CNI's environment variables and the network's configuration on stdin, its defaults
otherwise: https://www.cni.dev/docs/spec/ and https://github.com/k8snetworkplumbingwg/whereabouts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lab.building import find_or_build
from lab.manifests import split_yaml
from lab.profiles.core import load_crds
from lab.programs import WHEREABOUTS
from tests.bench.bench import Bench
from tests.bench.programs import Programs

CRDS = Path(__file__).parent / "whereabouts.yaml"
GROUPS = ("whereabouts.cni.cncf.io", "coordination.k8s.io")
"""The API groups that it writes to: its pools and reservations, and the lease that only one ADD holds at a time."""


@dataclass(frozen=True)
class Whereabouts:
    """The plugin on one cluster.

    Attributes:
        binary: the plugin.
        programs: runs it.
        configuration: its own file, which names the kubeconfig.
    """

    binary: Path
    programs: Programs
    configuration: Path

    def add(self, pod: str, cidr: str) -> str:
        """ADD for a pod: an address of the range `cidr`, without its prefix length."""
        ipam = {"type": "whereabouts", "configuration_path": str(self.configuration), "range": cidr}
        network = {"cniVersion": "1.0.0", "name": "bench", "type": "bridge", "ipam": ipam}
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_NETNS_OVERRIDE": "true",  # only the address is asked for: nothing is done in a pod's namespace
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.binary.parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={pod}",
            "NODENAME": "node-1",
        }
        answer = json.loads(self.programs.run(self.binary, input=json.dumps(network), more=environment))
        return str(answer["ips"][0]["address"]).partition("/")[0]


def installed(bench: Bench) -> Whereabouts:
    """The plugin, built if need be, and what it needs on the bench's cluster."""
    binary = find_or_build([WHEREABOUTS], bench.progress)[WHEREABOUTS.name]
    configuration = bench.programs.folder / "whereabouts.conf"
    if not configuration.exists():
        load_crds(bench.lab.api, split_yaml(CRDS.read_bytes()))
        kubernetes = {"kubeconfig": str(bench.programs.kubeconfig)}
        configuration.write_text(json.dumps({"datastore": "kubernetes", "kubernetes": kubernetes}))
    return Whereabouts(binary, bench.programs, configuration)
