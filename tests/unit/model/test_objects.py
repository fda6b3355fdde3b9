"""Objects as plain JSON: paths, names, and values that may be missing."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.model.objects import Resource, dig, owner_reference, short_hash

POOL = Resource("crd.projectcalico.org", "v1", "ippools", "IPPool", namespaced=False)
POD = Resource("", "v1", "pods", "Pod")


def test_resource_path_is_the_api_path() -> None:
    assert POD.path() == "/api/v1/pods"
    assert POD.path("prod", "web") == "/api/v1/namespaces/prod/pods/web"
    assert POOL.path("prod", "blue", "status") == "/apis/crd.projectcalico.org/v1/ippools/blue/status"


def test_resource_names_match_kubectl() -> None:
    assert (POD.full_name, POD.api_version) == ("pods", "v1")
    assert (POOL.full_name, POOL.api_version) == ("ippools.crd.projectcalico.org", "crd.projectcalico.org/v1")


def test_cluster_scoped_object_has_no_namespace() -> None:
    assert POOL.ref("blue", "prod").namespace is None
    assert str(POOL.ref("prod.blue", "prod")) == "ippool/prod.blue"
    assert str(POD.ref("web", "prod")) == "pod/web in namespace prod"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (("a", "b", 1, "c"), 7),
        (("a", "b", 2), "none"),
        (("a", "missing", "c"), "none"),
        (("a", "null"), "none"),
        (("a", "b", "c"), "none"),
        (("a", 0), "none"),
        (("a", "zero"), 0),
    ],
)
def test_dig_returns_the_value_or_the_default(path: tuple[str | int, ...], wanted: Any) -> None:
    assert dig({"a": {"b": [None, {"c": 7}], "null": None, "zero": 0}}, *path, default="none") == wanted


def test_owner_reference_has_the_uid_and_does_not_block_deletion() -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "u"}}
    assert owner_reference(owner) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "web",
        "uid": "u",
        "controller": False,
        "blockOwnerDeletion": False,
    }


def test_short_hash_separates_its_words() -> None:
    assert short_hash(["ab", "c"]) != short_hash(["a", "bc"])
    assert len(short_hash(["ab"], 12)) == 12
