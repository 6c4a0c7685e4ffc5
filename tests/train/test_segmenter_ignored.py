"""Ignored regions: no gradient of the class there, the usual one elsewhere, and validation counts nothing there."""

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ultralytics")

from ultralytics.models.yolo.segment import SegmentationValidator  # noqa: E402

from marrowscope.train.segmenter_ignored import (  # noqa: E402 - after the check that the extra is installed
    IgnoringLoss,
    IgnoringValidator,
    ignored_anchors,
    take_out_ignored,
)

SIDE = 64
GRIDS = [(8, 8), (4, 4), (2, 2)]
N_ANCHORS = 84


def _batch(*labels: tuple[int, tuple[int, int, int, int]]) -> dict[str, Any]:
    """One image of 64 px whose labels are rectangles (class, x0, y0, x1, y1), with masks at a quarter of its size."""
    masks = torch.zeros((len(labels), SIDE // 4, SIDE // 4), dtype=torch.uint8)
    boxes = torch.zeros((len(labels), 4))
    for index, (_, (x0, y0, x1, y1)) in enumerate(labels):
        masks[index, y0 // 4 : y1 // 4, x0 // 4 : x1 // 4] = 1
        boxes[index] = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / SIDE
    return {
        "img": torch.zeros((1, 3, SIDE, SIDE)),
        "cls": torch.tensor([[float(label)] for label, _ in labels]),
        "bboxes": boxes,
        "batch_idx": torch.zeros(len(labels)),
        "masks": masks,
    }


def _gradient(batch: dict[str, Any]) -> Any:  # noqa: ANN401 - a tensor of an optional extra
    """Gradient of the class logits (84,) for logits of 0: 0.5 / sum of the targets where the target is 0."""
    head = SimpleNamespace(stride=torch.tensor([8.0, 16.0, 32.0]), nc=1, reg_max=16)
    model = SimpleNamespace(
        args=SimpleNamespace(box=7.5, cls=1.0, dfl=1.5, overlap_mask=False),
        model=[head],
        parameters=lambda: iter([torch.zeros(1)]),
    )
    scores = torch.zeros((1, 1, N_ANCHORS), requires_grad=True)
    preds = {
        "boxes": torch.zeros((1, 64, N_ANCHORS), requires_grad=True),
        "scores": scores,
        "mask_coefficient": torch.zeros((1, 4, N_ANCHORS), requires_grad=True),
        "proto": torch.zeros((1, 4, SIDE // 4, SIDE // 4), requires_grad=True),
        "feats": [torch.zeros((1, 1, *grid)) for grid in GRIDS],
    }
    losses, _ = IgnoringLoss(model)(preds, take_out_ignored(batch))
    losses.sum().backward()
    return scores.grad[0, 0]


CELL = (0, (8, 8, 32, 32))
RIGHT_HALF = (1, (32, 0, 64, 64))


def test_the_class_has_no_gradient_in_an_ignored_region() -> None:
    """The right half is ignored: the right four of eight columns, two of four, one of two."""
    ignored = torch.cat([(torch.arange(w) >= w // 2).repeat(h) for h, w in GRIDS])
    gradient = _gradient(_batch(CELL, RIGHT_HALF))
    assert torch.equal(gradient == 0, ignored)
    full = _gradient(_batch(CELL))
    assert (full != 0).all()
    assert torch.equal(gradient[~ignored], full[~ignored])  # elsewhere nothing changes
    background = torch.mode(full).values
    assert background > 0
    assert (full[ignored] == background).all()  # without the region these anchors would learn "no cell"
    assert 0 < gradient[~ignored].min() < background  # an anchor of the cell has a target above 0


def test_a_cell_inside_an_ignored_region_is_learned_as_ever() -> None:
    """Where the whole field is ignored, the gradient is that of the labeled cell's anchors alone."""
    whole = (1, (0, 0, 64, 64))
    gradient, full = _gradient(_batch(CELL, whole)), _gradient(_batch(CELL))
    x, y = torch.cat([_centers(*grid) for grid in GRIDS]).T
    inside = (x >= 8) & (x < 32) & (y >= 8) & (y < 32)
    assert torch.equal(gradient[inside], full[inside])
    assert (gradient[~inside & (full > 0)] == 0).all()


def _centers(height: int, width: int) -> Any:  # noqa: ANN401
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([(x + 0.5) * SIDE / width, (y + 0.5) * SIDE / height], dim=-1).view(-1, 2)


def test_regions_are_taken_out_and_end_where_cells_begin() -> None:
    batch = take_out_ignored(_batch(CELL, RIGHT_HALF, (0, (40, 40, 56, 56))))
    assert batch["cls"].view(-1).tolist() == [0, 0]
    assert batch["bboxes"].shape == (2, 4)
    assert batch["masks"].shape == (2, 16, 16)
    assert batch["ignored"].shape == (1, 16, 16)
    assert int(batch["ignored"].sum()) == 8 * 16 - 4 * 4
    assert not batch["ignored"][0, 10:14, 10:14].any()


def test_a_batch_without_labels_ignores_nothing() -> None:
    batch = take_out_ignored(_batch())
    assert batch["ignored"].shape == (1, 16, 16)
    assert not batch["ignored"].any()
    assert ignored_anchors(batch["ignored"], GRIDS).shape == (1, N_ANCHORS)


def test_validation_counts_no_prediction_in_an_ignored_region(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(SegmentationValidator, "update_metrics", lambda _self, preds, _batch: seen.extend(preds))
    boxes = torch.tensor([[8.0, 8, 32, 32], [40, 40, 60, 60], [4, 40, 20, 60]])
    preds = [{"bboxes": boxes, "conf": torch.tensor([0.9, 0.8, 0.7])}]
    validator = IgnoringValidator.__new__(IgnoringValidator)
    validator.update_metrics(preds, take_out_ignored(_batch(CELL, RIGHT_HALF)))
    assert seen[0]["conf"].tolist() == pytest.approx([0.9, 0.7])


def test_the_mask_learns_to_end_beyond_the_box() -> None:
    """A mask that covers everything has a loss just outside the cell's box, and none farther than the margin."""
    gt_mask = torch.zeros((1, 16, 16))
    gt_mask[0, 4:8, 4:8] = 1
    proto = torch.ones((1, 16, 16), requires_grad=True)
    box, area = torch.tensor([[4.0, 4, 8, 8]]), torch.tensor([1 / 16])
    IgnoringLoss.single_mask_loss(gt_mask, torch.ones((1, 1)), proto, box, area).backward()  # type: ignore[no-untyped-call]
    assert proto.grad is not None
    reached = torch.zeros((16, 16), dtype=torch.bool)
    reached[2:10, 2:10] = True
    assert torch.equal(proto.grad[0] != 0, reached)
    assert (proto.grad[0, 4:8, 4:8] < 0).all()
    assert (proto.grad[0, 2:4, 2:10] > 0).all()
