"""The admission policies change while an API server with kubernetes/kubernetes#135757 evaluates them: before 1.36, one
that compiles a policy with variables at the moment of an evaluation crashes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

import lab
from kubectl_yoshi.cli.policies import PROBE, PROBE_SPEC, load_policies
from kubectl_yoshi.cli.policy_loading import REFRESH_SECONDS
from kubectl_yoshi.model.network import VERSION_ANNOTATION
from kubectl_yoshi.model.objects import POLICY, POLICY_BINDING, name_of, new_object
from lab.api import ApiError
from lab.programs import OLDEST_KUBERNETES
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, delete, get, make, make_vms, patch
from tests.waiting import wait_for

WRITERS = 3
ROUNDS = 2


@pytest.fixture(params=[OLDEST_KUBERNETES])
def own_lab(request: pytest.FixtureRequest) -> Iterator[lab.Lab]:
    """A lab whose API server may crash."""
    if request.config.getoption("cluster") != "lab":
        pytest.skip("has a lab of that version, and another cluster was chosen")
    with lab.start(kubernetes=request.param) as running:
        yield running


def test_install_and_upgrade_do_not_crash_an_api_server_that_evaluates(own_lab: lab.Lab, forks: ForkServer) -> None:
    cluster = Cluster(own_lab.kubeconfig, "lab")
    server = own_lab.program("kube-apiserver")
    yoshi = Yoshi(cluster.kubeconfig, cluster.context, forks)
    yoshi.done("install", "--policy", "off")
    with cluster.namespace() as namespace:
        make_vms(cluster, namespace, *(f"vm-{number}" for number in range(WRITERS)))
        yoshi.done("network", "create", "blue", "--cidr", "10.90.0.0/24", "-n", namespace)
        stopped, may_write = Event(), Event()

        def write(number: int) -> int:
            count = 0
            while not stopped.is_set():
                may_write.wait()
                count += 1
                annotations = {"cni.projectcalico.org/ipv4pools": f'["other-{count}"]'}
                body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
                patch(cluster, "virtualmachines", f"vm-{number}", body, namespace=namespace)
            return count

        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(write, number) for number in range(WRITERS)]
            try:
                for _ in range(ROUNDS):
                    yoshi.done("install", "--policy", "off")
                    may_write.set()
                    yoshi.done("install", "--policy", "enforce")
                    before = policies_of(cluster)
                    yoshi.done("install")
                    assert policies_of(cluster) == before, "a policy that is written is compiled again"
                    may_write.clear()
                    _make_policies_older(cluster)
                    may_write.set()
                    yoshi.done("install")
                    assert are_active(cluster)
            finally:
                stopped.set()
                may_write.set()
            assert min(writer.result() for writer in writers) > ROUNDS
    assert server.running


def _make_policies_older(cluster: Cluster) -> None:
    """Change the policies as an earlier version of this program would have installed them, while nothing uses them."""
    bindings = get(cluster, POLICY_BINDING.plural)["items"]
    for binding in bindings:
        delete(cluster, POLICY_BINDING.plural, name_of(binding))
    time.sleep(REFRESH_SECONDS)
    for policy in (obj for obj in load_policies() if obj["kind"] == POLICY.kind):
        older = {"metadata": {"annotations": {VERSION_ANNOTATION: "0.0.1"}}}
        patch(cluster, POLICY.plural, name_of(policy), older)
    for binding in bindings:
        kept = ("name", "labels", "annotations", "ownerReferences")
        metadata = {key: value for key, value in binding["metadata"].items() if key in kept}
        make(cluster, {"apiVersion": POLICY.api_version, "kind": POLICY_BINDING.kind, **binding, "metadata": metadata})
    wait_for(lambda: are_active(cluster), "the policies are in effect")


def policies_of(cluster: Cluster) -> dict[str, str]:
    """Return name -> resourceVersion."""
    return {name_of(obj): obj["metadata"]["resourceVersion"] for obj in get(cluster, POLICY.plural)["items"]}


def are_active(cluster: Cluster) -> bool:
    """Return whether the API server applies the policies."""
    try:
        cluster.api.post(
            "/apis/plumber.k8s.pf9.io/v1/namespaces/default/addressblocks?dryRun=All",
            new_object(PROBE, {"spec": PROBE_SPEC}),
        )
    except ApiError as error:
        return "ValidatingAdmissionPolicy" in str(error)
    return False
