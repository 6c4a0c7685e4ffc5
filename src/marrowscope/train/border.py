"""The crop's border against its center: the border swap of training and proofs, and the share of evidence outside.

The border shows neighbors and background; the prediction should depend on the center cell. Two forms: the
prediction should not change when another crop's border replaces the border (consistency), and the positive evidence
for the true class, the class activation map of the last feature map, should not lie outside the dilated contour
(evidence). A 3 x 3 map is a regularizer, never a proof; the proofs are behavioral (``benchmarks/border_proof.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from marrowscope.records import ImageArray, MaskArray

_BRIGHT_SHARE = 0.25
"""Share of the donor's border pixels, the brightest, whose median is its background: cells seldom cover more."""
_MIN_BORDER_PX = 16


def dilate_masks(masks: MaskArray, dilation_px: float) -> MaskArray:
    """Grow masks (n, s, s) bool by ``dilation_px`` in every direction; negative values shrink them."""
    radius = round(abs(dilation_px))
    if radius == 0:
        return masks
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    change = cv2.dilate if dilation_px > 0 else cv2.erode
    grown = [change(np.ascontiguousarray(mask).view(np.uint8), kernel) for mask in masks]
    return np.asarray(grown, dtype=np.uint8).reshape(masks.shape).astype(np.bool_)


def swap_border(
    crops: ImageArray,
    masks: MaskArray,
    donors: ImageArray,
    donor_masks: MaskArray,
    *,
    dilation_px: float = 3.0,
    feather_px: float = 1.0,
) -> ImageArray:
    """Keep each crop's cell inside its dilated contour and take everything else from its donor.

    Crops and donors are (n, s, s, 3) uint8, masks (n, s, s) bool. Where the donor's own dilated cell would show
    outside the recipient's, the donor's background covers it: the median of its brightest border pixels. The seam is
    blended over about ``feather_px``. Returns (n, s, s, 3) uint8; n may be 0.
    """
    kept = dilate_masks(masks, dilation_px)
    hidden = dilate_masks(donor_masks, dilation_px)
    swapped = np.empty_like(crops)
    for index in range(len(crops)):
        border = donors[index].copy()
        border[hidden[index]] = background_color(donors[index], hidden[index])
        alpha = kept[index].astype(np.float32)
        if feather_px > 0:
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), feather_px), dtype=np.float32)
        mixed = border + alpha[..., None] * (crops[index].astype(np.float32) - border)
        swapped[index] = np.rint(mixed).astype(np.uint8)
    return swapped


def background_color(crop: ImageArray, cell_mask: MaskArray) -> NDArray[np.uint8]:
    """Return the background color (3,) uint8 of a crop: the median of the brightest pixels outside ``cell_mask``.

    A cell that fills the crop leaves too few pixels; then the brightest of the whole crop are used.
    """
    # Index rows by number and sum by column: half the time of a mask and a sum over three columns at once.
    pixels = crop.reshape(-1, 3)
    outside = pixels.take(np.flatnonzero(~cell_mask), axis=0)
    if len(outside) < _MIN_BORDER_PX:
        outside = pixels
    brightness = np.add(outside[:, 0], outside[:, 1], dtype=np.int64) + outside[:, 2]
    n_bright = max(1, round(_BRIGHT_SHARE * len(outside)))
    brightest = outside[np.argpartition(brightness, -n_bright)[-n_bright:]]
    return np.asarray(np.rint(np.median(brightest, axis=0)), dtype=np.uint8)


def evidence_map(features: Tensor, class_weights: Tensor) -> Tensor:
    """Positive class evidence (n, h, w) of the last feature map (n, c, h, w), with each cell's weights (n, c).

    The class activation map of Zhou et al., CVPR 2016, with negative values set to 0.
    """
    return functional.relu(torch.einsum("nchw,nc->nhw", features, class_weights))


def evidence_outside(evidence: Tensor, masks: Tensor) -> Tensor:
    """Share (n,) of each cell's evidence (n, h, w) outside masks (n, s, s) of 0 and 1; 0 for one without evidence.

    The mask is averaged down to the map's size: a half-covered position counts half.
    """
    inside = functional.adaptive_avg_pool2d(masks[:, None].to(evidence.dtype), (evidence.shape[1], evidence.shape[2]))[
        :, 0
    ]
    total = evidence.sum(dim=(1, 2))
    outside = (evidence * (1 - inside)).sum(dim=(1, 2))
    return outside / total.clamp(min=1e-6)
