"""A small bundle of constant graphs: everything a bundle has, in a few kilobytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.bundle import Bundle, BundleSpec, VocabularyReference, write_bundle
from marrowscope.bundle.description import (
    BundleCalibration,
    CenterRates,
    EmbeddingStatistics,
    JointOfHeads,
    MemberMetrics,
    MemberTraining,
    StageCounts,
    TemperatureOfHead,
    TrainingData,
    TrainingSource,
)
from marrowscope.bundle.golden import make_golden
from marrowscope.bundle.precisions import CenterChange, PrecisionGate
from marrowscope.cells.crop import CropSpec
from marrowscope.cells.quality import QualityRules
from marrowscope.networks import open_network
from marrowscope.patient.depth import Domain, DomainScore
from marrowscope.patient.flags import FlagRules, StainReference
from marrowscope.segment.config import SegmenterConfig
from marrowscope.statistics.joint import TripleRule
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
        "segmenter": SegmenterConfig(um_per_px=0.3, confidence=0.3),
        "crop": CropSpec(side_um=28.8, size_px=96),
        "quality_rules": QualityRules(min_circularity=0.65),
        "categories_trained": ("N", "N1", "L"),
        "implied_prior": {"N": 0.5, "N1": 0.25, "L": 0.25},
        "licenses": {"segmenter": "AGPL-3.0-only"},
    }
    return BundleSpec(**(values | changes))


HASH = "0123456789abcdef" * 4


def make_full_spec(**changes: Any) -> BundleSpec:  # noqa: ANN401 - whatever the specification takes
    """Give a specification that has every section of its schema, each with something in it."""
    counts = StageCounts(training_crops=40, validation_crops=10, training_patients=4, validation_patients=1)
    member = MemberTraining(
        crops_sha256=HASH,
        cells_sha256=HASH,
        split_sha256=HASH,
        segmenter_sha256=HASH,
        weights_sha256=HASH,
        initial_weights="none",
        stages={"gt-to-yolo": counts},
    )
    head = TemperatureOfHead(temperature=1.5, n_cells=200, n_left_out=3, nested_temperatures={"0": 1.5}, nll_before=0.5)
    change = CenterChange(
        n_patients=3,
        n_cells=100,
        n_ratios=3,
        cblc_weighted_f1=0.9,
        cblc_weighted_f1_change=0.0005,
        cblc_weighted_f1_interval=(-0.001, 0.002),
        ratio_mae=0.05,
        ratio_mae_change=-0.0004,
    )
    gate = PrecisionGate(
        passed=True,
        backend="openvino",
        device="CPU",
        measured_on="100 cells of 3 patients",
        input_sha256=HASH,
        networks_sha256=HASH,
        centers={"A": change},
    )
    row = (0.01, 0.002, 0.003)
    values: dict[str, Any] = {
        "purpose": "a test",
        "demonstration": True,
        "implied_prior_cblc": 0.25,
        "implied_prior_countable": 0.75,
        "implied_prior_plasma": 0.05,
        "threshold": 0.2,
        "views": 2,
        "flags": FlagRules(max_lymphoid=0.4),
        "stain_reference": StainReference(
            mean=(-1.0, -0.5, -0.7), covariance=(row, row, row), n_fields=4, n_patients=2
        ),
        "calibration": BundleCalibration(
            method="in words", source="predicted", n_patients=6, heads={"cblc": head, "category": head}
        ),
        "metrics": {
            "classifier-0": MemberMetrics(
                cblc_weighted_f1=0.95,
                cblc_positive_f1=0.9,
                cblc_auc=0.99,
                countable_weighted_f1=0.98,
                category_weighted_f1=0.9,
                category_macro_f1=0.8,
                n_crops=10,
                n_patients=1,
            )
        },
        "training_data": TrainingData(description="Some cells.", members={"classifier-0": member}),
        "sources": (
            TrainingSource(
                name="marrow",
                license="CC-BY-4.0",
                attribution="A. Author, 2021",
                doi="10.1000/1",
                simulated=False,
                n_cells={"N": 12, "L2": 30},
            ),
            TrainingSource(name="drawn", license="Apache-2.0", simulated=True, n_cells={"M": 7}),
        ),
        "domain": Domain(
            measured_on="sources left out in turn",
            n_patients=40,
            max_distance=4.0,
            scores={
                "contradictions": DomainScore(
                    mean=0.1, standard_deviation=0.05, square_root=True, sampling_variance=0.001, upper_limit=0.09, n=40
                ),
                "sharpness": DomainScore(mean=1.1, standard_deviation=0.1, lower_limit=0.7, upper_limit=1.5, n=40),
            },
        ),
        "joint": JointOfHeads(
            weights={"category": 0.75, "cblc": 0.5, "countable": 0.25},
            triples=(
                TripleRule(category="N", cblc=True, countable=True, share=0.25, offset=-0.5),
                TripleRule(category="L", cblc=False, countable=True, share=0.75, offset=0.125),
            ),
            n_cells=200,
            nll_before=0.5,
            nll_after=0.25,
            ece_after=0.01,
        ),
        "embeddings": EmbeddingStatistics(file="embeddings.npz", n_classes=16, n_dimensions=1280),
        "rates_by_center": {
            "St. Mary's": CenterRates(file="rates/1.json", n_patients=30, n_outside=1, opened=True),
            "B": CenterRates(file="rates/2.json", n_patients=12, n_outside=2, opened=False),
        },
        "precisions": {"bf16": gate},
        "files": {"CARD.md": HASH, "embeddings.npz": HASH},
    }
    return make_spec(**(values | changes))


def make_bundle(
    folder: Path,
    *,
    cells: Sequence[tuple[float, float, float, float, float]] = ((60.0, 50.0, 20.0, 20.0, 0.9),),
    size_px: tuple[int, int] = (128, 192),
    n_members: int = 1,
    spec: BundleSpec | None = None,
    overwrite: bool = False,
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
    return write_bundle(folder, spec or make_spec(), files, overwrite=overwrite)
