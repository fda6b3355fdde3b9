"""Every command block of README.md and docs/ that needs only the API server does what the page says, and prints it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.running import kubectl_command
from tests.documents import check_page, pages_that_need
from tools.documents.running import environment


@pytest.fixture(scope="module")
def blocks_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A lab of their own: the pages use names and addresses that are fit to be read."""
    with lab.start() as running:
        yield environment(running.kubeconfig, Path(kubectl_command()), tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("page", pages_that_need("core"), ids=lambda page: page.name)
def test_commands_of_a_page_print_the_documented_output(page: Path, blocks_environment: dict[str, str]) -> None:
    check_page(page, blocks_environment)
