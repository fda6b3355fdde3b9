"""Which cluster the tests run against, and what every test may ask for.

--cluster=lab   a control plane that the tests start themselves (the default)
--cluster=kind  a kind cluster that the tests create and delete; needs Docker

YOSHI_MODULE_ORDER=SEED runs the modules in random order.

Never one that exists already: tests write and delete what belongs to the whole cluster, BGP configuration included.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from pytest_kind import KindCluster

import lab
from lab.manifests import crd_documents
from lab.programs import OLDEST_KUBERNETES
from lab.progress import Progress
from lab.running import Options, kubectl_command, prepare
from lab.testing import Cluster, must_run_for_real
from tests.scheduling import Scheduling, place_of

MARKED_BY_FOLDER = ("cluster", "e2e", "bench")


def pytest_configure() -> None:
    """A shell starts what it puts in the background with Ctrl-C ignored, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        default="lab",
        choices=("lab", "kind"),
        help="cluster to start and run against: the project's own lab, or kind (needs Docker)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if folder in MARKED_BY_FOLDER:
            item.add_marker(folder)
    items.sort(key=lambda item: place_of(item.path, os.environ.get("YOSHI_MODULE_ORDER", "")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    """Of what tests workers take at a time, see scheduling.py."""
    return Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the chosen tests will start before any of them runs: on a fresh machine it takes longer than a test
    may, and is worth being seen."""
    if session.config.getoption("collectonly") or session.config.getoption("cluster") != "lab":
        return
    chosen = {name for name in ("cluster", "e2e") if any(item.get_closest_marker(name) for item in session.items)}
    wanted = [Options("core")] if "cluster" in chosen else []
    if any(OLDEST_KUBERNETES in item.name for item in session.items if item.get_closest_marker("cluster")):
        wanted.append(Options("core", OLDEST_KUBERNETES))
    wanted += [Options("full")] if "e2e" in chosen else []
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        for options in wanted:
            try:
                prepare(options, Progress())
            except lab.LabError as error:
                raise pytest.UsageError(str(error)) from error
        if wanted and not shutil.which("kubectl"):  # the documents' commands and the completion of shells call it
            os.environ["PATH"] += os.pathsep + str(Path(kubectl_command()).parent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, what could not run has failed."""
    report = yield
    if report.skipped and must_run_for_real() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and with CI=true that is a failure: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and must_run_for_real():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and with CI=true that is a failure: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster that `--cluster` chose."""
    if request.config.getoption("cluster") == "lab":
        with lab.start() as running:
            yield Cluster(running.kubeconfig, "lab")
    else:
        with new_kind_cluster(request.config) as found:
            yield found


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


@contextmanager
def new_kind_cluster(config: pytest.Config) -> Iterator[Cluster]:
    """A new kind cluster with the CRDs that a lab has, deleted at the end.

    pytest-kind's fixture would take, and delete, a cluster that has its name already; so the name is a random one.
    """
    program = config.getoption("kind_bin") or shutil.which("kind")
    name, image = f"yoshi-test-{secrets.token_hex(4)}", config.getoption("kind_image")
    kind = KindCluster(name, image=image, kind_path=Path(program) if program else None)
    kind.create()
    try:
        found = Cluster(kind.kubeconfig_path.absolute(), f"kind-{name}")
        known = found.kubectl("get", "crd", "-o", "name")
        for document in crd_documents("v1", full=False, progress=Progress()):
            text = document.decode()
            if "CustomResourceDefinition" in text and not any(name.partition("/")[2] in text for name in known.split()):
                found.kubectl("create", "-f", "-", input=text)
        found.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield found
    finally:
        kind.delete()
        shutil.rmtree(kind.path)
