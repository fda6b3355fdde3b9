"""Templates: kubectl's output for them was recorded (kubectl_formats.json).

- recorded   every format and template on the same objects, byte for byte; a failure of kubectl's is one of ours
- relaxed    templates without braces
- mistakes   messages that name the template
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.errors import UsageError, YoshiError
from kubectl_yoshi.output.format_option import parse_output
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.jsonpath import NoMatchError, parse_expression, parse_template

RECORDED = json.loads(Path(__file__).with_name("kubectl_formats.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["output"])
def test_output_matches_recorded_kubectl_output(case: dict[str, Any]) -> None:
    objects = RECORDED["objects"][:1] if case["single"] else RECORDED["objects"]
    out = io.StringIO()
    if case["prints"] is None:
        with pytest.raises(YoshiError):
            print_objects(objects, out, parse_output(case["output"]), single=case["single"])
    else:
        print_objects(objects, out, parse_output(case["output"]), single=case["single"])
        assert out.getvalue() == case["prints"]


BLUE = {
    "kind": "NetworkWizard",
    "spec": {"cidr": "10.0.0.0/24", "peers": [{"peerIP": "10.9.0.1"}, {"peerIP": "10.9.0.2"}]},
}


@pytest.mark.parametrize(
    ("template", "prints"),
    [
        (".spec.cidr", "10.0.0.0/24"),
        ("$.spec.cidr", "10.0.0.0/24"),
        ("['kind']", "NetworkWizard"),
        ("plain words", "plain words"),
        ("{..peerIP}", "10.9.0.1 10.9.0.2"),
        ("{.spec['peers'][1].peerIP}", "10.9.0.2"),
        ('{range .spec.peers[*]}{.peerIP}{"\\n"}{end}', "10.9.0.1\n10.9.0.2\n"),
        ('{.spec.peers[?(@.peerIP=="10.9.0.2")].peerIP}', "10.9.0.2"),
        ("{.spec.*}", '10.0.0.0/24 [{"peerIP":"10.9.0.1"},{"peerIP":"10.9.0.2"}]'),
    ],
)
def test_template_output(template: str, prints: str) -> None:
    assert parse_template(template).render(BLUE) == prints


@pytest.mark.parametrize(
    "text", ["{.a", "{.a[}", "{.a[?(@.b}", "{.a[?(@.b=~1)]}", '{"a', "{#}", "{...a}", "{end}", "{no}", "{.a[0:1:0]}"]
)
def test_invalid_template_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="JSONPath"):
        parse_template(text)


def test_index_out_of_bounds_is_named() -> None:
    with pytest.raises(NoMatchError, match="index 7, length 2"):
        parse_template("{.spec.peers[7]}").render(BLUE)


@pytest.mark.parametrize("text", ["spec.cidr", ".spec.cidr", "{.spec.cidr}", "{spec.cidr}"])
def test_expression_without_braces_and_dot_is_accepted(text: str) -> None:
    assert parse_expression(text).find(BLUE) == ["10.0.0.0/24"]


@given(st.text(alphabet="{}.[]()?@$*'\":,\\ -0123456789abrangeend=<>!\n", max_size=40))
def test_any_text_is_a_template_or_a_usage_error(text: str) -> None:
    try:
        parse_template(text).render(BLUE)
    except (UsageError, NoMatchError):
        pass
