"""The whole way from a field to its cells, on both runtimes, with a graph whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from marrowscope import geometry
from marrowscope.networks import BACKENDS, available_backends
from marrowscope.records import Detection
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.segmenter import Segmenter
from tests.onnx_graphs import segmenter_graph
from tests.segment.raw_outputs import ellipse_contour, raw_outputs

CELLS = [(60.0, 50.0, 20.0, 20.0, 0.9), (140.2, 40.7, 14.3, 17.1, 0.5), (189.0, 100.0, 16.0, 16.0, 0.4)]
FIELD = np.full((256, 380, 3), 230, dtype=np.uint8)
UM_PER_PX = 0.15


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "segmenter.onnx"
    path.write_bytes(segmenter_graph(*raw_outputs(CELLS, 128, 192), {"um_per_px": "0.3", "stride": "32"}))
    return path


def _detect(graph: Path, backend: str, **settings: float) -> list[Detection]:
    if backend not in available_backends():
        pytest.skip(f"{backend} is not installed")
    segmenter = Segmenter.from_onnx(graph, SegmenterConfig(**settings), backend=backend)
    return segmenter.detect(FIELD, UM_PER_PX)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cells_come_back_in_the_fields_pixels(graph: Path, backend: str) -> None:
    detections = _detect(graph, backend)
    assert [round(item.score, 3) for item in detections] == [0.9, 0.5, 0.4]
    for item, cell in zip(detections[:2], CELLS[:2], strict=True):
        truth = (ellipse_contour(cell[:4]) + 0.5) * 2 - 0.5
        assert geometry.iou(item.contour_xy, truth) > 0.985
        assert item.box_xyxy == pytest.approx(geometry.bounding_box(truth), abs=0.1)
        assert item.n_parts == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_contour_never_leaves_the_field(graph: Path, backend: str) -> None:
    """The canvas is padded to 192 px; the field ends at 190 of them."""
    cut = _detect(graph, backend)[2]
    assert geometry.bounding_box(cut.contour_xy)[2] == pytest.approx(379.5, abs=1e-6)


def test_backends_agree(graph: Path) -> None:
    ours, theirs = (_detect(graph, backend) for backend in BACKENDS)
    matrix = geometry.iou_matrix([item.contour_xy for item in ours], [item.contour_xy for item in theirs])
    assert len(ours) == len(theirs)
    assert matrix.diagonal().min() >= 0.99


def test_confidence_decides_and_an_empty_field_is_empty(graph: Path) -> None:
    assert len(_detect(graph, "onnxruntime", confidence=0.45)) == 2
    assert _detect(graph, "onnxruntime", confidence=0.95) == []


def test_the_graph_states_how_its_contours_are_drawn(tmp_path: Path) -> None:
    """Trained masks reach beyond their boxes; a graph of before states nothing, and is drawn as before."""
    drawn = {"mask_level": "0.5", "box_margin_px": "2.0"}
    for name, stated, expected in (("new", drawn, (0.5, 2.0)), ("old", {}, (0.0, 0.0))):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(segmenter_graph(*raw_outputs(CELLS, 128, 192), {"um_per_px": "0.3"} | stated))
        config = Segmenter.from_onnx(path).config
        assert (config.mask_level, config.box_margin_px) == expected


def test_the_graph_states_its_scale(graph: Path) -> None:
    segmenter = Segmenter.from_onnx(graph)
    assert segmenter.config.um_per_px == 0.3
    assert len(segmenter.sha256) == 64
