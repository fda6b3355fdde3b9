"""The backends' table, and that nothing above it asks which one of them it has before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kubectl_yoshi
from kubectl_yoshi.backends.registry import BACKENDS

PACKAGE = Path(kubectl_yoshi.__file__).parent
SOURCES = {"CALICO", "HOST_ROUTE_PLUGIN"}
"""What has a backend's name and asks for none: a place where `ips import --from` looks, and and whose allocations may
hold addresses outside the CIDR, as the CRD's rules know whose networks may be without one."""


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module that are no documentation, but for those that a name of SOURCES is given."""
    for node in ast.walk(tree):
        for field in ast.iter_child_nodes(node):
            named = isinstance(node, ast.Assign) and {getattr(to, "id", "") for to in node.targets} <= SOURCES
            plain = isinstance(field, ast.Constant) and isinstance(field.value, str)
            if plain and not named and not isinstance(node, ast.Expr):
                yield field.lineno, field.value  # type: ignore[attr-defined]


def test_backend_names_are_the_plugins() -> None:
    assert all(backend.plugin == name for name, backend in BACKENDS.items())
    assert sorted(BACKENDS) == ["calico", "ovs", "public"]


def test_command_imports_only_its_own_backend() -> None:
    """What `vm attach` of a Calico network imports is most of the time that it takes."""
    program = (
        "import sys; from kubectl_yoshi.backends.registry import BACKENDS; 'ovs' in BACKENDS; BACKENDS['calico'];"
        "print(*sorted({name.split('.')[2] for name in sys.modules if name.startswith('kubectl_yoshi.backends.')}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "calico" in found
    assert not {"ovs", "public", "metallb"} & {*found}


def test_model_and_plan_contain_no_backend_name() -> None:
    modules = [path for package in ("model", "plan") for path in (PACKAGE / package).rglob("*.py")]
    assert len(modules) > 40
    known = [
        f"{path.relative_to(PACKAGE)}:{line} says {word!r}"
        for path in modules
        for line, word in words(ast.parse(path.read_text()))
        if word in BACKENDS
    ]
    assert known == []
