"""The pipeline ours is measured against finds the same cells, classifies each once and keeps the order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("ultralytics")
pytest.importorskip("onnx")

from benchmarks.usual_pipeline import DEMONSTRATION_GRAPH, run_usual, square_crop
from marrowscope.cells.match import match_contours
from marrowscope.imaging import read_image
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate import SimulationConfig, simulate_cohort

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and Ultralytics warn about their own affairs


def test_same_cells_are_found_and_each_is_classified_once(tmp_path: Path) -> None:
    config = SimulationConfig(
        patients=1, centers=1, fields=2, seed=3, cells_per_field=(10, 12), width_px=640, height_px=480
    )
    simulate_cohort(tmp_path / "cohort", config)
    paths = sorted((tmp_path / "cohort").rglob("*.jpg"), reverse=True)[:2]
    height, width = read_image(paths[0]).shape[:2]
    size = max(height, width) // 2 // 32 * 32
    result = run_usual(paths, image_size=size, crop_size=64, batch_size=5, threads=1)
    assert list(result.contours) == result.paths == sorted(str(path) for path in paths)
    assert result.probabilities.shape == (result.n_cells, 16)
    assert result.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    segmenter = Segmenter.from_onnx(DEMONSTRATION_GRAPH, SegmenterConfig(um_per_px=max(height, width) / size))
    for path in paths:
        ours = [detection.contour_xy for detection in segmenter.detect(read_image(path), 1.0)]
        theirs = [np.asarray(contour, dtype=np.float64) for contour in result.contours[str(path)]]
        pairs = match_contours(ours, theirs).pairs
        assert len(pairs) >= 0.9 * max(len(ours), len(theirs)) > 0


def test_crop_is_a_square_around_the_cell_that_stays_inside_the_image() -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[20:40, 30:50, 0] = 200  # blue in the order blue, green, red
    cell = np.array([[30, 20], [49, 20], [49, 39], [30, 39]], dtype=np.float64)
    crop = square_crop(image, cell, 46)
    assert crop.shape == (46, 46, 3)
    assert crop[23, 23].tolist() == [0, 0, 200]
    assert crop[0, 0].tolist() == [0, 0, 0]
    corner = square_crop(image, cell - [30, 20], 24)
    assert corner.shape == (24, 24, 3)
