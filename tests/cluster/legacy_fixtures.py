"""Objects of Platform9 yoshi: the examples of its README, unchanged, and its CRD."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import indent

from lab.demo import NETWORK

README_PUBLIC = """\
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  name: publicnetwork
spec:
  plugin: "public"
  cidr: "207.97.241.196/29"
  bgpConfig:
    peers: 10.240.0.5, 10.240.0.4
    remoteASN: 64512
    myASN: 64514
"""

README_CALICO = NETWORK

README_VM = """\
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: vmcalicobridge2
  annotations:
    'plumber.k8s.pf9.io/networkName': 'newarjunpool'
"""

README_PUBLIC_IP = """\
annotations:
  "plumber.k8s.pf9.io/publicIP": "1.2.3.4"
"""

README_PUBLIC_NETWORK = """\
annotations:
  "plumber.k8s.pf9.io/publicNetwork": "yoshiPublicNetwork"
"""

REST_OF_A_VM = """\
spec:
  runStrategy: Halted
  template:
    spec:
      domain:
        devices: {}
"""
"""What KubeVirt demands of a VM and the README leaves out."""


def vm_with(name: str, annotations: str) -> str:
    """A VM with annotations as the README has them."""
    head = f"apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata:\n  name: {name}\n"
    return head + indent(annotations, "  ") + REST_OF_A_VM


ORIGINAL_CRD = b"""\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: networkwizards.plumber.k8s.pf9.io}
spec:
  group: plumber.k8s.pf9.io
  names: {kind: NetworkWizard, listKind: NetworkWizardList, plural: networkwizards, singular: networkwizard}
  scope: Namespaced
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              bgpConfig:
                type: object
                properties:
                  myASN: {type: integer, format: int32}
                  remoteASN: {type: integer, format: int32}
                  peers:
                    type: array
                    items:
                      type: object
                      required: [peerIP]
                      properties:
                        peerIP: {type: string}
                        reachableBy: {type: string}
              cidr: {type: string}
              plugin: {type: string}
              range_end: {type: string, format: byte}
              range_start: {type: string, format: byte}
          status:
            type: object
            properties:
              allocations: {type: object, additionalProperties: {type: string}}
              created: {type: boolean}
              reason: {type: string}
    served: true
    storage: true
    subresources: {status: {}}
"""


def original_crd() -> bytes:
    """Platform9 yoshi's CRD: the real one where LAB_CRDS has it, else one of the same shape."""
    real = Path(os.environ.get("LAB_CRDS", "")) / "luigi" / "plumber.k8s.pf9.io_networkwizards.yaml"
    return real.read_bytes() if real.is_file() else ORIGINAL_CRD
