"""The proofs themselves: a caller that reads the ring is found out, one that reads the cell passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from benchmarks.border_proof import (
    NO_DONOR,
    Answer,
    activation_maps,
    balanced_accuracy_within,
    choose_donors,
    drift,
    fits_crop,
    join_answers,
    occlusion_maps,
    paint_map,
    predict_crops,
    reach_px,
    relative_calls,
    ring_only,
    ring_radius,
    select_cells,
    share_outside,
    shuffle_within,
    swap_effect,
)
from marrowscope.train.border import swap_border
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, ClassifierInfo, ClassifierOutput
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 33
INFO = ClassifierInfo(
    architecture="stub",
    categories=("a", "b", "c"),
    crop_px=SIDE,
    um_per_px=0.3,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    priors={"cblc": (0.5, 0.5), "countable": (0.0, 1.0), "category": (0.5, 0.25, 0.25)},
    imbalance="none",
    tau=0.0,
    initial_weights="none",
)


class TwoChannels(torch.nn.Module):
    """Evidence: channel 0 is the red of the crop, channel 1 its blue; the head weighs class 0 by red, 1 by blue."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))

    def forward(self, crops: torch.Tensor) -> ClassifierOutput:
        """Average the two colors over the ninths of the crop."""
        evidence = torch.nn.functional.avg_pool2d(crops[:, [0, 2]], SIDE // 3)
        features = evidence.mean(dim=(2, 3))
        category = features @ self.weights.T
        return ClassifierOutput(category[:, :2], category[:, :2], category, features[:, :0], evidence, features)

    def head_weights(self, head: str) -> torch.Tensor:
        """Give the category head's weights."""
        assert head == "category"
        return self.weights


def disc(radius: float) -> NDArray[np.bool_]:
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return np.asarray(np.hypot(axis[:, None], axis[None, :]) <= radius, dtype=np.bool_)


def cohort(n: int = 60) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], list[str], list[str]]:
    """Cells of 3 patients, 5 fields and 2 classes: the cell's red and the ring's blue both tell the class."""
    truth = np.arange(n) % 2
    crops = np.full((n, SIDE, SIDE, 3), 200, dtype=np.uint8)
    crops[..., 2] = np.where(truth, 40, 230)[:, None, None]
    masks = np.repeat(disc(8)[None], n, axis=0)
    crops[masks] = 128
    for index in range(n):
        crops[index, disc(8), 0] = 250 if truth[index] else 20
    patients = [f"p{index % 3}" for index in range(n)]
    fields = [f"p{index % 3}/f{index // 12}" for index in range(n)]
    return crops, masks, truth.astype(np.int64), patients, fields


def swapped_calls(kind: str, read: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the calls before and after the swap by a caller that reads the cell or the ring, and the donors' classes."""
    crops, masks, truth, patients, fields = cohort()
    donors = choose_donors(patients, fields, [str(k) for k in truth], kind, np.random.default_rng(0))  # type: ignore[arg-type]
    assert (donors != NO_DONOR).all()
    after = swap_border(crops, masks, crops[donors], masks[donors], dilation_px=1.0, feather_px=0.0)

    def call(images: NDArray[np.uint8]) -> NDArray[np.int64]:
        if read == "cell":
            return (images[:, SIDE // 2, SIDE // 2, 0] > 128).astype(np.int64)
        return (images[:, 1, 1, 2] < 128).astype(np.int64)

    return call(crops), call(after), truth[donors]


def test_a_caller_that_reads_the_ring_is_found_out() -> None:
    _, _, truth, patients, _ = cohort()
    flips = {}
    for kind in ("same_lineage", "other_lineage"):
        before, after, donor_class = swapped_calls(kind, "ring")
        flips[kind] = before != after
        chance = np.eye(2)
        pulled = drift(Answer(chance[before], before), Answer(chance[after], after), truth, donor_class)
        assert (pulled.n, pulled.to_donor) == ((0, 0) if kind == "same_lineage" else (60, 60))
        assert pulled.probability == (0.0 if kind == "same_lineage" else 1.0)
    effect = swap_effect(patients, flips["other_lineage"], flips["same_lineage"])
    assert (effect.estimate, effect.lower, effect.upper) == (1.0, 1.0, 1.0)


def test_a_caller_that_reads_the_cell_passes() -> None:
    _, _, _, patients, _ = cohort()
    flips = []
    for kind in ("other_lineage", "same_lineage"):
        before, after, _ = swapped_calls(kind, "cell")
        flips.append(before != after)
    assert swap_effect(patients, *flips).estimate == 0.0


def test_the_effect_takes_the_paste_artifact_out() -> None:
    rng = np.random.default_rng(1)
    patients = [f"p{index % 20}" for index in range(4000)]
    artifact = rng.random(4000) < 0.2
    other = artifact | (rng.random(4000) < 0.05)
    effect = swap_effect(patients, other, artifact)
    assert effect.estimate == pytest.approx(other.mean() - artifact.mean())
    assert effect.lower < 0.04 < effect.upper
    assert effect.lower > 0


def test_donors_are_of_the_wanted_kind_and_of_another_field() -> None:
    patients = ["a"] * 4 + ["b"] * 3
    fields = ["a1", "a1", "a2", "a2", "b1", "b2", "b2"]
    lineages = ["x", "y", "x", "x", "x", "y", "z"]
    rng = np.random.default_rng(0)
    for _ in range(20):
        same = choose_donors(patients, fields, lineages, "same_lineage", rng).tolist()
        assert same[0] in (2, 3)
        assert same[1:] == [NO_DONOR, 0, 0, NO_DONOR, NO_DONOR, NO_DONOR]
        other = choose_donors(patients, fields, lineages, "other_lineage", rng).tolist()
        assert other[:4] == [NO_DONOR, other[1], 1, 1]
        assert other[1] in (2, 3)
        abroad = choose_donors(patients, fields, lineages, "other_patient", rng).tolist()
        assert abroad[:4] == [4, 5, 4, 4]
        assert abroad[4] in (0, 2, 3)
        assert abroad[6] == NO_DONOR


def test_what_has_no_ring_is_left_out_and_counted() -> None:
    masks = np.stack([disc(8), disc(8), disc(8), disc(15), disc(8), disc(0) & False])
    fits = fits_crop(masks, 3.0)
    assert fits.tolist() == [True, True, True, False, True, False]
    kept, left_out = select_cells(["N", "J1", "V", "R2", "J", "N"], fits, load_vocabulary())
    assert kept.tolist() == [True, False, False, False, False, False]
    assert left_out == {"megakaryoblast": 2, "no_lineage": 1, "larger_than_crop": 2}


def test_drift_without_a_donor_of_another_class_is_nothing() -> None:
    said = Answer(np.eye(2)[[0, 1]], np.array([0, 1]))
    pulled = drift(said, said, np.array([0, 1]), np.array([0, 1]))
    assert (pulled.n, pulled.probability, pulled.n_flips, pulled.to_donor) == (0, 0.0, 0, 0)


def test_answers_are_taken_and_joined_by_row() -> None:
    said = Answer(np.eye(3), np.arange(3))
    both = join_answers([said.take(np.array([2, 2])), said])
    assert both.called.tolist() == [2, 2, 0, 1, 2]
    assert both.probability.argmax(axis=1).tolist() == both.called.tolist()


def test_a_ring_only_crop_says_nothing_of_its_cell() -> None:
    crops, masks, _, _, _ = cohort()
    radius = float(reach_px(masks).max())
    assert radius == pytest.approx(8.5, abs=0.75)
    rings = ring_only(crops, radius, (9, 8, 7))
    assert (rings[masks] == (9, 8, 7)).all()
    assert (rings[:, ~disc(radius)] == crops[:, ~disc(radius)]).all()
    repainted = crops.copy()
    repainted[masks] = 0
    assert (ring_only(repainted, radius, (9, 8, 7)) == rings).all()
    assert reach_px(np.zeros((1, SIDE, SIDE), dtype=np.bool_)).tolist() == [0.0]


def test_shuffling_stays_within_the_patient_and_moves_every_ring() -> None:
    groups = ["a"] * 5 + ["b"] * 2 + ["c"]
    order = shuffle_within(groups, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(8))
    assert [groups[row] for row in order] == groups
    assert [index for index, row in enumerate(order) if index == row] == [7]


def test_composition_alone_is_worth_nothing_within_a_patient() -> None:
    patients = ["mostly-0"] * 10 + ["mostly-1"] * 10 + ["only-1"] * 10 + ["too-few"] * 3
    truth = np.array([0] * 7 + [1] * 3 + [0] * 3 + [1] * 7 + [1] * 10 + [0, 0, 1])
    by_composition = np.array([0] * 10 + [1] * 20 + [0] * 3)
    assert balanced_accuracy_within(patients, truth, by_composition) == (0.5, 2)
    assert balanced_accuracy_within(patients, truth, truth) == (1.0, 2)
    nothing, n_patients = balanced_accuracy_within(patients, np.ones(33, dtype=np.int64), truth)
    assert np.isnan(nothing)
    assert n_patients == 0


def test_the_disc_is_larger_than_the_99th_percentile_cell() -> None:
    masks = np.stack([disc(4)] * 99 + [disc(12)] * 3)
    radius = float(np.sqrt(disc(12).sum() / np.pi))
    assert ring_radius(masks) == pytest.approx(1.1 * radius, rel=1e-6)
    assert ring_radius(masks[:99]) == pytest.approx(1.1 * np.sqrt(disc(4).sum() / np.pi))


def test_a_relative_call_sees_through_a_constant_preference() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1, 2, 5, 5])
    patients = ["a"] * 7 + ["b"] * 2
    smudge = np.full((9, 6), 0.01)
    smudge[:, 4] = 0.9
    smudge[np.arange(7), truth[:7]] += 0.005
    called = relative_calls(patients, truth, smudge)
    assert called[:6].tolist() == truth[:6].tolist()
    assert called[6] in (0, 1)
    assert called[7:].tolist() == [-1, -1]
    assert balanced_accuracy_within(patients, truth, called) == (1.0, 1)


def test_activation_lies_where_the_class_has_its_evidence() -> None:
    crops = np.full((2, SIDE, SIDE, 3), 100, dtype=np.uint8)
    crops[:, :11, :11, 0] = 255  # red, for class 0, at the top left
    crops[:, 22:, 22:, 2] = 255  # blue, for class 1, at the bottom right
    maps = activation_maps(TwoChannels(), INFO, crops, np.array([0, 1]))  # type: ignore[arg-type]
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.max(axis=(1, 2)) == pytest.approx([1.0, 1.0])
    assert maps[0, 5, 5] == pytest.approx(1.0, abs=0.01)
    assert maps[1, 27, 27] == pytest.approx(1.0, abs=0.01)
    assert maps[0, 27, 27] < 0.2


def test_covering_the_only_place_that_matters_shows_on_the_map() -> None:
    crops = np.zeros((3, 32, 32, 3), dtype=np.uint8)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        clear = (images[:, 8:12, 20:24] == 0).mean(axis=(1, 2, 3))
        return np.stack([clear, 1 - clear], axis=1)

    maps = occlusion_maps(predict, crops, np.array([0, 0, 1]), patch_px=8, stride_px=4)
    assert maps.shape == (3, 32, 32)
    y, x = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
    assert 6 <= y < 14
    assert 18 <= x < 26
    assert maps[0, 24:, :12].max() == 0.0
    assert maps[2].max() == 0.0


def test_the_share_outside_counts_the_dilated_cell_as_inside() -> None:
    mask = disc(6)[None]
    maps = np.ones((1, SIDE, SIDE), dtype=np.float32)
    assert share_outside(maps, mask, 0.0)[0] == pytest.approx(1 - mask.mean())
    assert share_outside(maps * mask, mask, 0.0)[0] == 0.0
    assert share_outside(maps * (disc(8) & ~disc(6)), mask, 3.0)[0] == 0.0
    assert np.isnan(share_outside(maps * 0, mask, 0.0)[0])


def test_a_painted_map_reddens_hot_places_and_draws_the_contour() -> None:
    crop = np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)
    heat = np.zeros((SIDE, SIDE), dtype=np.float32)
    heat[:5, :5] = 1.0
    painted = paint_map(crop, heat, disc(8))
    assert painted[2, 2, 0] > painted[2, 2, 1] + 100
    assert (painted[30, 30] == 200).all()
    assert (painted[SIDE // 2, SIDE // 2 + 8] == 0).all()


def test_probabilities_are_those_of_the_training_shares_and_of_no_cell() -> None:
    crops, *_ = cohort(5)
    p = predict_crops(TwoChannels(), INFO, crops)  # type: ignore[arg-type]
    assert {head: values.shape for head, values in p.items()} == {
        "cblc": (5, 2),
        "countable": (5, 2),
        "category": (5, 3),
    }
    assert p["category"].sum(axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert (p["countable"][:, 0] == 0).all()
    assert predict_crops(TwoChannels(), INFO, crops[:0])["category"].shape == (0, 3)  # type: ignore[arg-type]
