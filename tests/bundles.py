"""A small bundle of constant graphs: everything a bundle has, in a few kilobytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.bundle import Bundle, BundleSpec, VocabularyReference, write_bundle
from marrowscope.bundle.golden import make_golden
from marrowscope.networks import open_network
from marrowscope.vocabulary import load_vocabulary
from tests.onnx_graphs import classifier_graph, segmenter_graph
from tests.segment.raw_outputs import raw_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_spec(**changes: Any) -> BundleSpec:  # noqa: ANN401 - whatever the specification takes
    """Give a complete specification of the package's own vocabulary."""
    vocabulary = load_vocabulary()
    values: dict[str, Any] = {
        "name": "test",
        "version": "1",
        "vocabulary": VocabularyReference(name=vocabulary.name, version=vocabulary.version, sha256=vocabulary.sha256),
        "um_per_px": 0.3,
        "segmenter": {"um_per_px": 0.3, "confidence": 0.3},
        "crop": {"side_um": 28.8, "size_px": 96},
        "quality_rules": {"min_circularity": 0.65},
        "categories_trained": ("N", "N1", "L"),
        "implied_prior": {"N": 0.5, "N1": 0.25, "L": 0.25},
        "licences": {"segmenter": "AGPL-3.0-only"},
    }
    return BundleSpec(**(values | changes))


def make_bundle(
    folder: Path,
    *,
    cells: Sequence[tuple[float, float, float, float, float]] = ((60.0, 50.0, 20.0, 20.0, 0.9),),
    size_px: tuple[int, int] = (128, 192),
    n_members: int = 1,
    spec: BundleSpec | None = None,
) -> Bundle:
    """Write a bundle whose segmenter sees ``cells`` in every field that fills a canvas of ``size_px`` (h, w)."""
    scratch = folder.with_name(folder.name + "-graphs")
    scratch.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path | bytes] = {
        "segmenter/segmenter.onnx": segmenter_graph(*raw_outputs(cells, *size_px), {"um_per_px": "0.3"}),
        "CARD.md": b"# Test\n",
    }
    files |= {f"classifier-{index}.onnx": classifier_graph(seed=index) for index in range(n_members)}
    networks = {}
    for name, content in files.items():
        if name.endswith(".onnx"):
            path = scratch / name.replace("/", "-")
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
            networks[name] = open_network(path, "onnxruntime")
    rng = np.random.default_rng(0)
    files["golden.npz"] = make_golden(
        networks["segmenter/segmenter.onnx"],
        [networks[f"classifier-{index}.onnx"] for index in range(n_members)],
        np.full((1, 3, *size_px), 0.5, np.float32),
        rng.integers(0, 255, size=(3, 96, 96, 3), dtype=np.uint8),
    )
    return write_bundle(folder, spec or make_spec(), files)
