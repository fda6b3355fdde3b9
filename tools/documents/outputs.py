"""Write the output of command blocks on a lab into the documents."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import lab
from lab.running import kubectl_command
from tools.documents.blocks import read_document
from tools.documents.running import clean, environment, run, with_outputs


def write_outputs(paths: Sequence[Path]) -> None:
    """Runs pages one after the other, on a lab of the kind that each needs, and writes the outputs into them.

    Raises:
        Failed: a block did not end as it should.
        LabError: no lab can be started.
    """
    kinds = {path: read_document(path.read_text(encoding="utf-8")).needs for path in paths}
    for kind in sorted(set(kinds.values()) - {"parsed"}):
        with lab.start(kind) as running, tempfile.TemporaryDirectory() as home:
            variables = environment(running.kubeconfig, Path(kubectl_command()), Path(home))
            for path in (path for path in paths if kinds[path] == kind):
                text = path.read_text(encoding="utf-8")
                printed = {block.line: output for block, output in run(read_document(text), variables)}
                clean(variables)
                path.write_text(with_outputs(text, printed), encoding="utf-8")
