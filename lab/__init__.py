"""A real Kubernetes control plane on one Linux machine, without containers: for the tests and the demo.

    python -m lab up                      etcd, kube-apiserver, kube-controller-manager, the custom resources
    eval "$(python -m lab env)"           talk to it with kubectl
    python -m lab up --profile full       and KubeVirt, MetalLB, nodes and a router, side by side with the first
    python -m lab status                  each program of each lab: running, memory, port
    python -m lab route --name NAME       what the router of a full lab has learnt
    python -m lab down --all              end everything, leave nothing

What is real: the API server with its webhooks, RBAC and garbage collection; KubeVirt's virt-controller and virt-api;
MetalLB's controller and speakers, which speak ARP and BGP in network namespaces; a GoBGP router that learns from them.
What is played, by kwok: the kubelets, pod addresses (the one that Calico is asked for, else any), virt-handler.
What is not there: Calico's own programs, Multus, kube-proxy, and any traffic of a VM.

Programs come from $KUBEBUILDER_ASSETS, else from the lab's cache ($XDG_CACHE_HOME/kubectl-yoshi/lab), else from
setup-envtest's folder, else they are built with Go from the modules in lab/tools, once per version. `--kubernetes 1.31`
or LAB_KUBERNETES=1.31 starts the programs of another Kubernetes.

The custom resources of Calico (`--calico v1|v3|both|none`), MetalLB, Multus and luigi are small ones from lab/crds.
LAB_CRDS=DIR replaces them by the real ones, in DIR/calico-v1, DIR/calico-v3, DIR/multus and DIR/luigi.

Labs live side by side: each has a number, from which its ports, its subnet 172.31.<number>.0/24, its bridge
yl<number> and its network namespaces yl<number>-node-1, yl<number>-node-2 and yl<number>-router follow. The full
profile needs root, for these. MetalLB's own BGP cannot announce IPv6; with `--bgp frr` it speaks BGP by the FRR that
the distribution has (apt-get install frr frr-pythontools), and with `--bgp frr-k8s` frr-k8s configures that FRR and
reports its sessions.

lab.ovs gives the nodes of a full lab Open vSwitch and NICs, lab.hostplumber makes bridges of HostNetworkTemplates, and
lab.dhcp runs dnsmasq as a DHCPServer's ConfigMap has it, and a client that asks it (apt-get install openvswitch-switch
dnsmasq-base udhcpc ethtool). Guests are network namespaces then, plugged in as the ovs CNI does.

A lab of `up` lives on in the background. One of lab.start() ends with its process, however that ends:

    with lab.start() as running:
        running.kubectl("get", "namespaces")
"""

from lab.errors import LabError
from lab.running import Lab, start

__all__ = ["Lab", "LabError", "start"]
