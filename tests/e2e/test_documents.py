"""Every command block of docs/ that needs running VMs, MetalLB or a router does what the page says, and prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab
from lab.running import kubectl_command
from tests.documents import check_page, pages_that_need
from tools.documents.running import environment


@pytest.mark.parametrize("page", pages_that_need("full"), ids=lambda page: page.name)
def test_commands_of_a_page_print_the_documented_output(page: Path, full_lab: lab.Lab, tmp_path: Path) -> None:
    check_page(page, environment(full_lab.kubeconfig, Path(kubectl_command()), tmp_path))
