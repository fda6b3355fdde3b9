"""docs/rules/fault-matrix.md has the faults of tests/e2e/test_fault_matrix.py, which compares the whole page."""

from __future__ import annotations

from kubectl_yoshi.diagnosis.rules import RULES
from tests.e2e.fault_table import read_page
from tests.e2e.faults import FAULTS


def test_fault_matrix_lists_the_tested_faults() -> None:
    listed = [tuple(line.split(" | ")[:2]) for line in read_page().splitlines() if line.startswith("| [YOSHI")]
    expected = [(", ".join(f"[{code}]({code}.md)" for code in one.codes), one.what) for one in FAULTS]
    assert [(rules.removeprefix("| "), what) for rules, what in listed] == expected


def test_fault_matrix_tests_at_least_25_rules() -> None:
    tested = {code for one in FAULTS for code in one.codes}
    assert len(tested) >= 25
    assert tested <= {rule.code for rule in RULES}
