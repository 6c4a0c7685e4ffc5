"""Does the call rest on the center cell? Behavioral proofs: swap the border, remove the center, look at maps.

The border swap keeps a cell with its dilated contour and takes the ring from a donor. A swap alone may change a call
because of its seam, so the effect is a difference: calls changed by a ring of another lineage minus calls changed by a
ring of the same lineage, for the same patient and cell. Donors come from another field, so that no ring contains the
cell it is put around. Everything here is a function of arrays; what is left out is counted by reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from marrowscope.statistics.intervals import bootstrap_over_groups
from marrowscope.train.border import dilate_masks, evidence_map
from marrowscope.train.classifier_graph import ExportedClassifier, Readout
from marrowscope.train.config import HEADS
from marrowscope.train.validation import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from marrowscope.records import ImageArray, Interval, MaskArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo
    from marrowscope.vocabulary import Vocabulary

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DonorKind = Literal["same_lineage", "other_lineage", "other_patient"]

DONOR_KINDS: tuple[DonorKind, ...] = ("same_lineage", "other_lineage", "other_patient")
LEFT_OUT_CODES = ("J", "J1")
NO_LINEAGE = "none"
NO_DONOR = -1
RING_QUANTILE, RING_MARGIN = 0.99, 1.1
_INFERENCE_BATCH = 128


@dataclass(frozen=True, slots=True)
class Answer:
    """One head's answer for n cells: probabilities (n, k) and the called class (n,)."""

    probability: RealArray
    called: IntArray

    def take(self, rows: IntArray) -> Answer:
        """Return the answers of ``rows``, which may repeat."""
        return Answer(self.probability[rows], self.called[rows])


@dataclass(frozen=True, slots=True)
class Drift:
    """Where calls go when the ring changes, over cells whose donor is of another class than the cell.

    ``probability`` is the mean change in the probability of the donor's class, ``to_donor`` how many of the ``n_flips``
    changed calls end at the donor's class. 0 everywhere without such cells.
    """

    n: int
    probability: float
    n_flips: int
    to_donor: int


def join_answers(answers: Sequence[Answer]) -> Answer:
    """Concatenate the answers of several runs of the same head; at least one is expected."""
    return Answer(
        np.concatenate([answer.probability for answer in answers]),
        np.concatenate([answer.called for answer in answers]),
    )


def predict_crops(model: CellClassifier, info: ClassifierInfo, crops: ImageArray) -> dict[str, RealArray]:
    """Compute probabilities (n, k) of every head for crops (n, s, s, 3) uint8, like a bundle with ``decision_tau`` 0.

    n may be 0. Leaves the model in evaluation mode.
    """
    graph = ExportedClassifier(model, info, Readout(decision_tau=0.0)).eval()
    device = next(model.parameters()).device
    graph.to(device)
    parts: list[tuple[torch.Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(crops), _INFERENCE_BATCH):
            batch = torch.from_numpy(crops[start : start + _INFERENCE_BATCH]).to(device)
            parts.append(graph(batch.permute(0, 3, 1, 2).float() / 255))
    if not parts:
        return {head: np.zeros((0, len(info.priors[head]))) for head in HEADS}
    return {
        head: np.concatenate([part[place].cpu().numpy() for part in parts]).astype(np.float64)
        for place, head in enumerate(HEADS)
    }


def fits_crop(masks: MaskArray, dilation_px: float) -> BoolArray:
    """Tell for each mask (n, s, s) whether the dilated cell stays clear of the crop's edge."""
    grown = dilate_masks(masks, dilation_px)
    edges = (grown[:, 0], grown[:, -1], grown[:, :, 0], grown[:, :, -1])
    touches = np.stack([edge.any(axis=1) for edge in edges]).any(axis=0)
    return np.asarray(~touches & grown.any(axis=(1, 2)), dtype=np.bool_)


def select_cells(codes: Sequence[str], fits: BoolArray, vocabulary: Vocabulary) -> tuple[BoolArray, dict[str, int]]:
    """Choose the cells of a proof by expert code and ``fits_crop``; return a mask (n,) and the rest, counted by reason.

    Megakaryoblasts (J, J1) and cells larger than the crop have no ring to swap; a code without a lineage (smudges,
    artifacts) cannot be a donor of the same or another one. The first reason counts.
    """
    reasons = {
        "megakaryoblast": np.array([code in LEFT_OUT_CODES for code in codes], dtype=np.bool_),
        "no_lineage": np.array([vocabulary.lookup(code).lineage == NO_LINEAGE for code in codes], dtype=np.bool_),
        "larger_than_crop": ~fits,
    }
    kept = np.ones(len(codes), dtype=np.bool_)
    left_out: dict[str, int] = {}
    for reason, holds in reasons.items():
        left_out[reason] = int((kept & holds).sum())
        kept &= ~holds
    return kept, left_out


def choose_donors(
    patients: Sequence[str],
    fields: Sequence[str],
    lineages: Sequence[str],
    kind: DonorKind,
    rng: np.random.Generator,
) -> IntArray:
    """Draw a donor's index for each of n cells; ``NO_DONOR`` (-1) where none fits.

    ``same_lineage`` and ``other_lineage``: the same patient, another field; ``other_patient``: the same lineage.
    Every cell that fits is equally likely.
    """
    patient, field, lineage = np.asarray(patients), np.asarray(fields), np.asarray(lineages)
    donors = np.full(len(patient), NO_DONOR, dtype=np.int64)
    draws = rng.random(len(patient))
    for index in range(len(patient)):
        if kind == "other_patient":
            fitting = (patient != patient[index]) & (lineage == lineage[index])
        else:
            alike = lineage == lineage[index]
            fitting = (patient == patient[index]) & (field != field[index])
            fitting &= alike if kind == "same_lineage" else ~alike
        candidates = np.flatnonzero(fitting)
        if len(candidates):
            donors[index] = candidates[int(draws[index] * len(candidates))]
    return donors


def swap_effect(
    patients: Sequence[str], flips: BoolArray, reference: BoolArray, *, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Share of ``flips`` (n,) minus share of ``reference`` (n,) over the same cells, with an interval over patients."""
    difference = flips.astype(np.float64) - reference.astype(np.float64)
    return bootstrap_over_groups(
        patients, lambda rows: float(difference[rows].mean()), n_resamples=n_resamples, seed=seed
    )


def drift(before: Answer, after: Answer, own_class: IntArray, donor_class: IntArray) -> Drift:
    """Measure the pull of the donors' classes (n,) on one head's answers for n cells, before and after the swap."""
    apart = np.flatnonzero(donor_class != own_class)
    if not len(apart):
        return Drift(0, 0.0, 0, 0)
    wanted = donor_class[apart]
    change = after.probability[apart, wanted] - before.probability[apart, wanted]
    flipped = before.called[apart] != after.called[apart]
    arrived = flipped & (after.called[apart] == wanted)
    return Drift(len(apart), float(change.mean()), int(flipped.sum()), int(arrived.sum()))


def reach_px(masks: MaskArray) -> RealArray:
    """Distance (n,) in px from the crop's center to the farthest pixel of each mask (n, s, s); 0 for an empty one."""
    side = masks.shape[-1]
    axis = np.abs(np.arange(side) - (side - 1) / 2) + 0.5
    distance = np.hypot(axis[:, None], axis[None, :])
    return np.asarray((masks * distance).max(axis=(1, 2), initial=0.0), dtype=np.float64)


def ring_radius(masks: MaskArray) -> float:
    """Return the radius (px) of the disc that hides a cell: 10% above the 99th percentile of the cells' radii.

    A cell's radius is that of the circle of its area; masks are (n, s, s), n at least 1.
    """
    radii = np.sqrt(masks.sum(axis=(1, 2)) / np.pi)
    return RING_MARGIN * float(np.quantile(radii, RING_QUANTILE))


def ring_only(crops: ImageArray, radius_px: float, fill: tuple[int, int, int]) -> ImageArray:
    """Paint the same disc around the center of every crop (n, s, s, 3) in one color: only the ring is left."""
    side = crops.shape[1]
    axis = np.arange(side) - (side - 1) / 2
    disc = np.hypot(axis[:, None], axis[None, :]) <= radius_px
    rings = crops.copy()
    rings[:, disc] = np.array(fill, dtype=np.uint8)
    return rings


def shuffle_within(groups: Sequence[str], rng: np.random.Generator) -> IntArray:
    """Return a permutation that gives each of n rows another row of its group (itself in a group of one)."""
    names = np.asarray(groups)
    order = np.arange(len(names), dtype=np.int64)
    for name in np.unique(names):
        turn = rng.permutation(np.flatnonzero(names == name))
        order[turn] = np.roll(turn, 1)
    return order


def balanced_accuracy_within(
    patients: Sequence[str], truth: IntArray, called: IntArray, *, least: int = 3
) -> tuple[float, int]:
    """Mean over patients of their mean recall over classes, and the number of patients.

    Within a patient only classes with at least ``least`` cells count, and only patients with two such classes: the
    patient's composition then helps no one. NaN without such a patient. Chance is 1 / number of classes.
    """
    names = np.asarray(patients)
    values = []
    for name in np.unique(names):
        here = names == name
        classes, counts = np.unique(truth[here], return_counts=True)
        classes = classes[counts >= least]
        if len(classes) > 1:
            values.append(np.mean([(called[here & (truth == k)] == k).mean() for k in classes]))
    return (float(np.mean(values)) if values else float("nan")), len(values)


def relative_calls(patients: Sequence[str], truth: IntArray, probability: RealArray, *, least: int = 3) -> IntArray:
    """Call, for n cells, the class whose probability (n, k) is highest relative to its mean over the patient's cells.

    A crop without a center resembles nothing a classifier has learned from, and direct calls are nearly all smudges;
    relative calls keep what still separates cells. Classes with at least ``least`` cells in the patient can be called,
    each as if they were equally frequent; -1 for a patient without one.
    """
    names = np.asarray(patients)
    called = np.full(len(names), -1, dtype=np.int64)
    for name in np.unique(names):
        here = np.flatnonzero(names == name)
        classes, counts = np.unique(truth[here], return_counts=True)
        classes = classes[counts >= least]
        if len(classes):
            chosen = probability[np.ix_(here, classes)]
            called[here] = classes[np.argmax(chosen / np.maximum(chosen.mean(axis=0), 1e-12), axis=1)]
    return called


def activation_maps(
    model: CellClassifier, info: ClassifierInfo, crops: ImageArray, classes: IntArray, head: str = "category"
) -> NDArray[np.float32]:
    """Positive class evidence (n, s, s) of ``classes`` (n,) for crops (n, s, s, 3) uint8, each with a maximum of 1.

    The class activation map relative to the mean of the head's trained classes, interpolated from the last feature map
    to the crop; 0 everywhere for a cell without positive evidence.
    """
    device = next(model.parameters()).device
    weights = model.head_weights(head)
    trained = torch.tensor(info.trained(head), device=device)
    against = weights - weights[trained].mean(dim=0, keepdim=True)
    model.eval()
    with torch.inference_mode():
        features = model(normalize(crops, info, device)).evidence.float()
        small = evidence_map(features, against[torch.from_numpy(classes).to(device)])
        large = functional.interpolate(small[:, None], size=crops.shape[1:3], mode="bilinear", align_corners=False)[
            :, 0
        ]
        maps = large / large.amax(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    return np.asarray(maps.cpu().numpy(), dtype=np.float32)


def occlusion_maps(
    predict: Callable[[ImageArray], RealArray], crops: ImageArray, classes: IntArray, *, patch_px: int = 16,
    stride_px: int = 8, fill: tuple[int, int, int] = (224, 214, 206),
) -> NDArray[np.float32]:  # fmt: skip
    """Drop of the probability of ``classes`` (n,) when a patch is painted over, per pixel the mean of its patches.

    ``predict`` returns probabilities (n, k) of one head for crops (n, s, s, 3). Maps are (n, s, s), 0 where covering a
    position does not lower the probability (Zeiler and Fergus, ECCV 2014).
    """
    side = crops.shape[1]
    rows = np.arange(len(crops))
    clear = predict(crops)[rows, classes]
    total = np.zeros(crops.shape[:3], dtype=np.float64)
    times = np.zeros((side, side), dtype=np.float64)
    for y in range(0, side, stride_px):
        for x in range(0, side, stride_px):
            window = (
                slice(max(0, y - patch_px // 2), y + patch_px // 2),
                slice(max(0, x - patch_px // 2), x + patch_px // 2),
            )
            covered = crops.copy()
            covered[:, window[0], window[1]] = np.array(fill, dtype=np.uint8)
            total[:, window[0], window[1]] += (clear - predict(covered)[rows, classes])[:, None, None]
            times[window] += 1
    return np.asarray(np.maximum(total / np.maximum(times, 1), 0), dtype=np.float32)


def share_outside(maps: NDArray[np.float32], masks: MaskArray, dilation_px: float) -> RealArray:
    """Share (n,) of each map's (n, s, s) sum that lies outside the dilated mask; NaN for an empty map."""
    outside = ~dilate_masks(masks, dilation_px)
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    part = (maps * outside).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(np.divide(part, total, out=np.full(len(maps), np.nan), where=total > 0), dtype=np.float64)


def paint_map(crop: ImageArray, heat: NDArray[np.float32], mask: MaskArray) -> ImageArray:
    """Draw a map (s, s) of 0 to 1 over a crop (s, s, 3) in red, with the cell's contour in black."""
    strength = 0.65 * np.clip(heat, 0, 1)[..., None]
    painted = crop * (1 - strength) + strength * np.array([220, 20, 20], dtype=np.float32)
    image = np.ascontiguousarray(np.rint(painted).astype(np.uint8))
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(image, contours, -1, (0, 0, 0), 1), dtype=np.uint8)
