"""Graphs of equal weights exported once: an export through torch takes seconds, and many tests repeat one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from marrowscope.imaging import sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.train.classifier_graph import Readout
    from marrowscope.train.model import ClassifierInfo


@contextmanager
def exported_once() -> Iterator[None]:
    """Keep the graph of each weights file and readout that ``export_bundle`` asks for."""
    from marrowscope.train.classifier_graph import export_classifier, load_classifier

    graphs: dict[tuple[str, str], bytes] = {}

    def export_or_repeat(weights: Path, out: Path, readout: Readout) -> ClassifierInfo:
        key = (sha256_file(weights), repr(readout))
        if key not in graphs:
            info = export_classifier(weights, out, readout)
            graphs[key] = out.read_bytes()
            return info
        out.write_bytes(graphs[key])
        return load_classifier(weights)[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("marrowscope.export.export_classifier", export_or_repeat)
        yield
