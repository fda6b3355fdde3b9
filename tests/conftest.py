"""Which cluster the tests run against, and what every test may ask for.

--cluster=lab          a control plane that the tests start themselves (the default)
--cluster=kind         a kind cluster, through pytest-kind; needs Docker
--cluster=KUBECONTEXT  a cluster that exists; only namespaces made for the tests are touched
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import lab
from lab.frr import check_installed
from lab.manifests import crd_documents
from lab.programs import OLDEST_KUBERNETES
from lab.progress import Progress
from lab.running import Options, prepare
from lab.testing import Cluster, must_be_real

MARKED_BY_FOLDER = ("cluster", "e2e", "bench")


def pytest_configure() -> None:
    """A shell starts what it puts in the background with Ctrl-C ignored, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        default="lab",
        metavar="lab|kind|KUBECONTEXT",
        help="cluster to run against: the project's own lab, kind (needs Docker), or a context that exists",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if folder in MARKED_BY_FOLDER:
            item.add_marker(folder)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the chosen tests will start before any of them runs: on a fresh machine it takes longer than a test
    may, and is worth being seen."""
    if session.config.getoption("collectonly") or session.config.getoption("cluster") != "lab":
        return
    chosen = {name for name in ("cluster", "e2e") if any(item.get_closest_marker(name) for item in session.items)}
    wanted = [Options("core"), Options("core", OLDEST_KUBERNETES)] if "cluster" in chosen else []
    wanted += [Options("full")] if "e2e" in chosen else []
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        for options in wanted:
            try:
                prepare(options, Progress())
            except lab.LabError as error:
                raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, what could not run has failed."""
    report = yield
    if report.skipped and must_be_real() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and with CI=true that is a failure: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and must_be_real():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and with CI=true that is a failure: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster that `--cluster` chose."""
    choice = request.config.getoption("cluster")
    if choice == "lab":
        with lab.start() as running:
            yield Cluster(running.kubeconfig, "lab")
    elif choice == "kind":
        yield _kind(request)
    else:
        yield Cluster(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config"), choice)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own, deleted after it."""
    with cluster.namespace() as name:
        yield name


@pytest.fixture(scope="session")
def full_lab() -> Iterator[lab.Lab]:
    """The whole lab: KubeVirt, MetalLB and a router besides the core. It has network namespaces, which need root."""
    if os.geteuid() != 0:
        pytest.skip("the full lab makes network namespaces, which needs root")
    with lab.start("full") as running:
        yield running


@pytest.fixture(scope="session")
def frr_lab() -> Iterator[lab.Lab]:
    """The whole lab with MetalLB speaking BGP by FRR, which alone announces IPv6; each change takes it 3 s."""
    if os.geteuid() != 0:
        pytest.skip("the full lab makes network namespaces, which needs root")
    try:
        check_installed()
    except lab.LabError as error:
        pytest.skip(str(error))
    with lab.start("full", bgp="frr") as running:
        yield running


def _kind(request: pytest.FixtureRequest) -> Cluster:
    """pytest-kind's cluster with the custom resources that a lab has."""
    kind = request.getfixturevalue("kind_cluster")
    found = Cluster(Path(kind.kubeconfig_path), f"kind-{kind.name}")
    known = found.kubectl("get", "crd", "-o", "name")
    for document in crd_documents("v1", real_metallb=False, progress=Progress()):
        text = document.decode()
        if "CustomResourceDefinition" in text and not any(name.partition("/")[2] in text for name in known.split()):
            found.kubectl("create", "-f", "-", input=text)
    found.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return found
