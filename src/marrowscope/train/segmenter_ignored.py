"""Regions that training must ignore: neither cell nor background, in the loss and in validation.

Where an annotation leaves cells out, or a contour is not good enough to learn from, the label file holds an ignored
region (class 1) beside the cells (class 0). Steps: the regions travel through the augmentations as labels; they are
taken out of the batch and become one map per image, without the labeled cells; the class term of an anchor in that map
is weighted 0 unless a cell is assigned to the anchor; validation drops predictions centered in it. The network has one
class. Importing this module imports Ultralytics, so only a training does.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.models.yolo.segment import SegmentationTrainer, SegmentationValidator
from ultralytics.nn.tasks import SegmentationModel
from ultralytics.utils.loss import v8SegmentationLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

CELL_CLASS = 0
MASK_MARGIN = 2
"""How far the mask's loss extends beyond a cell's box, in pixels of the mask (four of the network).

Ultralytics computes it inside the box alone: masks then spread beyond it, over neighbors too, and contours have to be
cut off at the box.
"""


def take_out_ignored(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch with cells alone as labels, and ``ignored`` (n, h, w), true in regions outside labeled cells.

    ``masks`` is (m, h, w), one mask per label (``overlap_mask`` is off).
    """
    is_cell = batch["cls"].view(-1) == CELL_CLASS
    image_of, masks = batch["batch_idx"].view(-1).long(), batch["masks"].bool()
    n_images = len(batch["img"])
    ignored = torch.zeros((n_images, *masks.shape[1:]), dtype=torch.bool, device=masks.device)
    for image in range(n_images):
        here = image_of == image
        ignored[image] = masks[here & ~is_cell].any(0) & ~masks[here & is_cell].any(0)
    labels = {name: batch[name][is_cell] for name in ("cls", "bboxes", "batch_idx", "masks")}
    return {**batch, **labels, "ignored": ignored}


def ignored_at(ignored: Tensor, centers_xy: Tensor) -> Tensor:
    """Look up ``ignored`` (h, w) at centers (n, 2), given as shares of the image's width and height."""
    height, width = ignored.shape
    x = (centers_xy[:, 0] * width).long().clamp(0, width - 1)
    y = (centers_xy[:, 1] * height).long().clamp(0, height - 1)
    return ignored[y, x]


def ignored_anchors(ignored: Tensor, grids_hw: Sequence[tuple[int, int]]) -> Tensor:
    """Tell for each anchor (n, anchors), in the order of the feature maps, whether its center is in ``ignored``."""
    centers = []
    for height, width in grids_hw:
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        centers.append(torch.stack([x / width, y / height], dim=-1).view(-1, 2))
    anchors = torch.cat(centers).to(ignored.device)
    return torch.stack([ignored_at(image, anchors) for image in ignored])


class IgnoringBce(nn.Module):
    """Binary cross-entropy of the class logits, 0 for anchors in ``ignored`` (n, anchors) whose target is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.bce = nn.BCEWithLogitsLoss(reduction="none")
        self.ignored: Tensor | None = None

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss (n, anchors, 1); an anchor that a cell is assigned to has a target above 0 and counts."""
        loss: Tensor = self.bce(logits, targets)
        if self.ignored is None:
            return loss
        return loss * ~(self.ignored.unsqueeze(-1) & (targets == 0))


class IgnoringLoss(v8SegmentationLoss):  # type: ignore[misc] # ultralytics is untyped
    """Ultralytics' segmentation loss with masks that end by themselves and ignored anchors without class term."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__(model)
        self.bce = IgnoringBce()

    def loss(self, preds: dict[str, Any], batch: dict[str, Any]) -> Any:  # noqa: ANN401
        """Compute the loss of a batch of ``take_out_ignored``."""
        grids = [(int(level.shape[-2]), int(level.shape[-1])) for level in preds["feats"]]
        self.bce.ignored = ignored_anchors(batch["ignored"], grids)
        return super().loss(preds, batch)

    @staticmethod
    def single_mask_loss(gt_mask: Tensor, pred: Tensor, proto: Tensor, xyxy: Tensor, area: Tensor) -> Tensor:
        """Compute the mask loss of one image's boxes ``xyxy`` (m, 4), each wider by ``MASK_MARGIN`` on every side."""
        wider = xyxy + xyxy.new_tensor([-MASK_MARGIN, -MASK_MARGIN, MASK_MARGIN, MASK_MARGIN])
        growth = (wider[:, 2:] - wider[:, :2]).prod(1) / (xyxy[:, 2:] - xyxy[:, :2]).prod(1)
        loss: Tensor = v8SegmentationLoss.single_mask_loss(gt_mask, pred, proto, wider, area * growth)
        return loss


class IgnoringValidator(SegmentationValidator):  # type: ignore[misc]
    """Validation without ignored regions: they are no cells to find, and a prediction there is no error."""

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move the batch to the device and take the regions out of its labels."""
        return take_out_ignored(super().preprocess(batch))

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        """Count the predictions whose center is outside the ignored regions."""
        height, width = batch["img"].shape[2:]
        kept = []
        for pred, ignored in zip(preds, batch["ignored"], strict=True):
            boxes = pred["bboxes"]
            centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / boxes.new_tensor([width, height])
            counted = ~ignored_at(ignored, centers)
            kept.append({name: values[counted] for name, values in pred.items()})
        super().update_metrics(kept, batch)


class OneClassTrainer(SegmentationTrainer):  # type: ignore[misc]
    """Trains a network of one class on labels of two: cells and ignored regions."""

    def get_model(
        self,
        cfg: dict[str, Any] | str | None = None,
        weights: SegmentationModel | None = None,
        verbose: bool = True,  # noqa: FBT001, FBT002 - Ultralytics' signature
    ) -> SegmentationModel:
        """Build the network, from ``weights`` if there are any."""
        del verbose
        model = SegmentationModel(cfg, nc=1, ch=self.data["channels"], verbose=False)
        model.names = {CELL_CLASS: "cell"} if weights is None else dict(weights.names)  # other names, other class rows
        if weights is not None:
            model.load(weights, verbose=False)
        return model

    def set_model_attributes(self) -> None:
        """Attach what the loss reads; the data set's second class is none of the network's."""
        self.model.nc, self.model.names, self.model.args = 1, {CELL_CLASS: "cell"}, self.args

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move the batch to the device and take the regions out of its labels."""
        return take_out_ignored(super().preprocess_batch(batch))

    def get_validator(self) -> IgnoringValidator:
        """Return the validator that leaves ignored regions out."""
        return IgnoringValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )

    def ignore_regions(self) -> None:
        """Give the network and its moving average the loss; Ultralytics removes it from what it saves."""
        for network in (self.model, self.ema.ema):
            network.criterion = IgnoringLoss(network)
