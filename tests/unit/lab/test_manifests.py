"""Which CRDs a lab loads: our own, or the real ones of LAB_CRDS for the sets that it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import LabError
from lab.manifests import CORE_OF_KUBEVIRT, crd_documents, set_documents, split_yaml
from lab.progress import Progress

CRD = "kind: CustomResourceDefinition\nmetadata:\n  name: {}\n"


def test_split_yaml_splits_documents_and_drops_empty_ones() -> None:
    assert split_yaml(b"---\na: 1\n---\n\n# only a remark\n---\nb: |\n  --- not a separator\n") == [
        b"\na: 1\n",
        b"\nb: |\n  --- not a separator\n",
    ]


def test_real_crds_replace_the_own_ones_except_networkwizards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "luigi").mkdir()
    for name in ("networkwizards", "hostnetworks"):
        (tmp_path / "luigi" / f"x_{name}.yaml").write_text(CRD.format(name))
    monkeypatch.setenv("LAB_CRDS", str(tmp_path))
    assert set_documents("luigi") == [CRD.format("hostnetworks").encode()]


def test_missing_lab_crds_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CRDS", str(tmp_path / "nowhere"))
    with pytest.raises(LabError, match="nowhere"):
        set_documents("luigi")


def test_core_lab_loads_the_crds_of_kubevirt_that_other_programs_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*CORE_OF_KUBEVIRT, "virtualmachinepools.pool.kubevirt.io"]
    monkeypatch.setattr(
        "lab.manifests.kubevirt_documents",
        lambda *_: [json.dumps({"metadata": {"name": name}}).encode() for name in names],
    )
    monkeypatch.setattr("lab.manifests._metallb_documents", list)
    monkeypatch.setattr("lab.manifests.set_documents", lambda name: [])
    loaded = {
        full: [json.loads(one)["metadata"]["name"] for one in crd_documents("v1", full, Progress(quiet=True))]
        for full in (False, True)
    }
    assert loaded == {False: [*CORE_OF_KUBEVIRT], True: names}
