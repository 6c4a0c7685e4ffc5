"""The border swap and the share of evidence, against scipy and against figures made by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("torch")

import torch

from marrowscope.train.border import (
    background_color,
    dilate_masks,
    evidence_map,
    evidence_outside,
    swap_border,
)
from marrowscope.train.losses import HeadCorrection, evidence_loss
from marrowscope.train.model import new_classifier


def _trained(classes: dict[str, list[int]]) -> dict[str, HeadCorrection]:
    """Give corrections that correct nothing and know these classes as trained."""
    nothing = torch.zeros(0)
    return {head: HeadCorrection(nothing, nothing, 0.0, torch.tensor(trained)) for head, trained in classes.items()}


ALL_TRAINED = _trained({"cblc": [0, 1], "category": [0, 1, 2]})


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def masks(random: np.random.Generator) -> np.ndarray:
    """Four ragged masks (4, 40, 40), one of them at the edge."""
    noise = ndimage.gaussian_filter(random.normal(size=(4, 40, 40)), (0, 4, 4))
    return noise > 0.03


def _crops(random: np.random.Generator, n: int) -> np.ndarray:
    return random.integers(0, 256, (n, 40, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_dilation_and_erosion_are_scipys(masks: np.ndarray, radius: int) -> None:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(bool)
    for mask, grown, shrunk in zip(masks, dilate_masks(masks, radius), dilate_masks(masks, -radius), strict=True):
        np.testing.assert_array_equal(grown, ndimage.binary_dilation(mask, disc))
        np.testing.assert_array_equal(shrunk, ndimage.binary_erosion(mask, disc, border_value=1))


def test_dilation_reaches_as_far_as_it_says() -> None:
    point = np.zeros((1, 21, 21), dtype=np.bool_)
    point[0, 10, 10] = True
    grown = dilate_masks(point, 3.0)[0]
    rows, columns = np.nonzero(grown)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 13, 7, 13)
    assert np.hypot(rows - 10, columns - 10).max() < 3.7
    np.testing.assert_array_equal(dilate_masks(point, 0.4), point)
    assert dilate_masks(point[:0], 3.0).shape == (0, 21, 21)


def test_a_sharp_swap_keeps_the_cell_to_the_byte_and_takes_the_donors_border(
    random: np.random.Generator, masks: np.ndarray
) -> None:
    crops, donors = _crops(random, 4), _crops(random, 4)
    nothing = np.zeros_like(masks)
    swapped = swap_border(crops, masks, donors, nothing, dilation_px=2, feather_px=0)
    kept = dilate_masks(masks, 2)
    assert (kept & ~masks).any()
    np.testing.assert_array_equal(swapped[kept], crops[kept])
    np.testing.assert_array_equal(swapped[~kept], donors[~kept])


def test_the_donors_cell_never_shows(random: np.random.Generator, masks: np.ndarray) -> None:
    """Where the donor's cell would stand outside the recipient's, there is the donor's background."""
    crops, donors, donor_masks = _crops(random, 4), _crops(random, 4), masks[::-1]
    swapped = swap_border(crops, masks, donors, donor_masks, dilation_px=2, feather_px=0)
    hidden, kept = dilate_masks(donor_masks, 2), dilate_masks(masks, 2)
    for index in range(4):
        painted = hidden[index] & ~kept[index]
        assert painted.any()
        color = background_color(donors[index], hidden[index])
        np.testing.assert_array_equal(swapped[index][painted], np.broadcast_to(color, (painted.sum(), 3)))


def test_a_feathered_swap_lies_between_both_and_is_the_same_far_from_the_seam(
    random: np.random.Generator, masks: np.ndarray
) -> None:
    crops, donors, nothing = _crops(random, 4), _crops(random, 4), np.zeros_like(masks)
    soft = swap_border(crops, masks, donors, nothing, dilation_px=2, feather_px=1)
    sharp = swap_border(crops, masks, donors, nothing, dilation_px=2, feather_px=0)
    assert (soft >= np.minimum(crops, donors)).all()
    assert (soft <= np.maximum(crops, donors)).all()
    kept = dilate_masks(masks, 2)
    for index in range(4):
        to_seam = np.maximum(ndimage.distance_transform_edt(kept[index]), ndimage.distance_transform_edt(~kept[index]))
        far = to_seam > 5
        assert far.any()
        np.testing.assert_array_equal(soft[index][far], sharp[index][far])
        assert (soft[index] != sharp[index]).any()


def test_no_crop_gives_no_crop() -> None:
    nothing = np.empty((0, 8, 8, 3), dtype=np.uint8)
    masks = np.empty((0, 8, 8), dtype=np.bool_)
    assert swap_border(nothing, masks, nothing, masks).shape == (0, 8, 8, 3)


def test_the_background_is_the_median_of_the_brightest_quarter_outside_the_cell() -> None:
    crop = np.zeros((10, 10, 3), dtype=np.uint8)
    crop[:, :] = (120, 60, 140)
    crop[0] = (230, 220, 240)
    crop[1] = (210, 200, 220)
    crop[5, 5] = 255  # a reflex inside the cell
    cell = np.zeros((10, 10), dtype=np.bool_)
    cell[2:] = True
    # 20 pixels outside, the brightest 5 of them lie in row 0.
    np.testing.assert_array_equal(background_color(crop, cell), (230, 220, 240))
    # A cell that fills the crop: the brightest quarter of all, 25 pixels, holds rows 0 and 1 and little else.
    np.testing.assert_array_equal(background_color(crop, np.ones_like(cell)), (210, 200, 220))


def test_evidence_is_the_positive_part_of_the_class_activation_map() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # one cell, two channels, 1 x 2 places
    weights = torch.tensor([[2.0, -1.0]])
    assert evidence_map(features, weights).tolist() == [[[0.0, 5.0]]]


def test_the_share_of_evidence_outside_by_hand() -> None:
    """2 x 2 map, 4 x 4 mask: a place wholly inside, one half, one a quarter, one outside."""
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[0, :2, :2] = 1
    mask[0, :2, 2] = 1
    mask[0, 2, 0] = 1
    evidence = torch.tensor([[[4.0, 2.0], [4.0, 0.0]]])
    assert float(evidence_outside(evidence, mask).mean()) == pytest.approx((4 * 0 + 2 * 0.5 + 4 * 0.75) / 10)
    assert float(evidence_outside(evidence, torch.ones_like(mask)).mean()) == 0
    assert float(evidence_outside(evidence, torch.zeros_like(mask)).mean()) == 1


def test_a_cell_without_evidence_counts_as_none_outside_and_gives_a_finite_gradient() -> None:
    evidence = torch.zeros(2, 2, 2)
    evidence[1] = 1.0
    evidence.requires_grad_()
    share = evidence_outside(evidence, torch.zeros(2, 4, 4, dtype=torch.uint8)).mean()
    assert float(share.detach()) == 0.5
    torch.autograd.backward(share)
    assert evidence.grad is not None
    assert torch.isfinite(evidence.grad).all()


def test_the_evidence_loss_falls_when_the_evidence_moves_into_the_cell() -> None:
    """Features that favor class 1, first outside the mask, then inside; the other class's evidence has no part."""
    model = new_classifier("test_efficientnet", 3, 0.0, 0)
    with torch.no_grad():
        for head in (model.cblc, model.category):
            head.weight.zero_()
            head.weight[1, 0] = 1.0
    targets = {"cblc": torch.tensor([1]), "category": torch.tensor([1])}
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[:, :4] = 1  # the upper half
    features = torch.zeros(1, int(model.trunk.num_features), 2, 2)
    features[0, 0, 1] = 5.0
    outside = evidence_loss(model, features, targets, mask, ALL_TRAINED)
    inside = evidence_loss(model, features.flip(2), targets, mask, ALL_TRAINED)
    assert (float(outside.detach()), float(inside.detach())) == pytest.approx((1, 0))
    other = {"cblc": torch.tensor([0]), "category": torch.tensor([0])}  # against the mean, class 0 has no evidence here
    assert float(evidence_loss(model, features, other, mask, ALL_TRAINED).detach()) == 0


def test_an_untrained_class_has_no_part_in_the_evidence_of_another() -> None:
    """By hand: of three categories the third is not trained; what its weights are changes nothing.

    Weights 1 and 0 of the trained ones have the mean 1/2: the evidence of class 1 is half of the first channel, 1 above
    and 1/2 below at two places each, and a third of it lies outside the mask. With the third class in the mean it would
    be 2/3 of the first channel and 4/3 of the second, 4/3 above and 14/3 below, 7/9 of it outside.
    """
    model = new_classifier("test_efficientnet", 3, 0.0, 0)
    with torch.no_grad():
        for head in (model.cblc, model.category):
            head.weight.zero_()
        model.category.weight[1, 0] = 1.0
        model.category.weight[2, 1] = -4.0
    corrections = _trained({"cblc": [0, 1], "category": [0, 1]})
    targets = {"cblc": torch.tensor([1]), "category": torch.tensor([1])}
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[:, :4] = 1  # the upper half
    features = torch.zeros(1, int(model.trunk.num_features), 2, 2)
    features[0, 0] = torch.tensor([[2.0, 2.0], [1.0, 1.0]])
    features[0, 1, 1] = 3.0  # below: evidence against the untrained class alone
    found = float(evidence_loss(model, features, targets, mask, corrections).detach())
    assert found == pytest.approx((0 + 1 / 3) / 2)  # CBLC has no evidence: its weights are equal
    with torch.no_grad():
        model.category.weight[2] = torch.randn(int(model.trunk.num_features))
    assert float(evidence_loss(model, features, targets, mask, corrections).detach()) == pytest.approx(found)
