"""Decoding against brute force, and against Ultralytics' own where it is installed."""

import numpy as np
import pytest

from marrowscope import geometry
from marrowscope.errors import BundleError
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.contours import trace_cells
from marrowscope.segment.detections import decode, suppress_overlaps
from tests.segment.raw_outputs import raw_outputs

CELLS = [
    (60.0, 50.0, 20.0, 20.0, 0.9),
    (63.0, 51.0, 20.0, 19.0, 0.8),
    (84.3, 70.6, 16.5, 12.2, 0.7),
    (140.2, 40.7, 9.3, 13.1, 0.5),
    (20.0, 100.0, 15.0, 15.0, 0.2),
]


def _brute_force(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        corners = [[(b[0], b[1]), (b[2], b[1]), (b[2], b[3]), (b[0], b[3])] for b in (boxes[index], *boxes[kept])]
        contours = [np.array(corner, dtype=np.float64) for corner in corners]
        if all(geometry.iou(contours[0], other) <= max_iou for other in contours[1:]):
            kept.append(index)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, size=(40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 40, size=(40, 2))], axis=1)
    scores = np.round(rng.random(40), 1)
    assert suppress_overlaps(boxes, scores, 0.4).tolist() == _brute_force(boxes, scores, 0.4)


def test_suppression_of_nothing() -> None:
    assert suppress_overlaps(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


def test_decode_keeps_the_best_of_overlapping_boxes() -> None:
    raw = decode(*raw_outputs(CELLS, 128, 192), SegmenterConfig(confidence=0.3))
    np.testing.assert_allclose(raw.scores, [0.9, 0.7, 0.5], rtol=1e-6)
    np.testing.assert_allclose(raw.boxes_xyxy[0], [40.5, 30.5, 80.5, 70.5], rtol=1e-6)


def test_decode_of_an_empty_field() -> None:
    raw = decode(*raw_outputs([], 64, 64), SegmenterConfig())
    assert raw.boxes_xyxy.shape == (0, 4)
    assert raw.coefficients.shape == (0, 8)


def test_max_detections_keeps_the_best() -> None:
    raw = decode(*raw_outputs(CELLS, 128, 192), SegmenterConfig(confidence=0.0001, max_detections=2))
    np.testing.assert_allclose(raw.scores, [0.9, 0.7], rtol=1e-6)


def test_another_models_outputs_are_refused() -> None:
    output, prototypes = raw_outputs(CELLS, 64, 64)
    with pytest.raises(BundleError, match=r"shape \(1, 12, 64\) and \(1, 8, 16, 16\), expected \(1, 5 \+ k, n\)"):
        decode(output[:, :-1], prototypes, SegmenterConfig())


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_no_empty_field(output: int, value: float) -> None:
    outputs = raw_outputs([(60.0, 50.0, 20.0, 20.0, 0.9)], 128, 192)
    outputs[output].flat[-1] = value
    with pytest.raises(BundleError, match="the segmenter gives NaN or infinite values, expected numbers; do not use"):
        decode(*outputs, SegmenterConfig(um_per_px=0.3))


def test_boxes_and_masks_agree_with_ultralytics() -> None:
    """The same raw outputs through Ultralytics' decode: boxes within 1 px, mask IoU at least 0.98."""
    torch = pytest.importorskip("torch")
    nms = pytest.importorskip("ultralytics.utils.nms")
    ops = pytest.importorskip("ultralytics.utils.ops")
    output, prototypes = raw_outputs(CELLS, 128, 192)
    config = SegmenterConfig(confidence=0.3, nms_iou=0.6)
    theirs = nms.non_max_suppression(torch.from_numpy(output.copy()), 0.3, 0.6, nc=1)[0]
    masks = ops.process_mask(
        torch.from_numpy(prototypes[0]), theirs[:, 6:], theirs[:, :4], (128, 192), upsample=True
    ).numpy()
    ours = decode(output, prototypes, config)
    assert len(ours.scores) == len(theirs) == 3
    np.testing.assert_allclose(ours.boxes_xyxy, theirs[:, :4].numpy(), atol=1e-3)
    traced = trace_cells(prototypes[0], ours.coefficients, ours.boxes_xyxy, smoothing_px=0, interpolation="linear")
    drawings = geometry.rasterize_all(traced.rings, 128, 192)
    for drawn, mask in zip(drawings, masks.astype(bool), strict=True):
        assert (drawn & mask).sum() / (drawn | mask).sum() >= 0.98
