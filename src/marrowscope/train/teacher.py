"""Distillation: a network also learns the probabilities that a bundle, its teacher, gives to the training crops.

The teacher sees every crop unchanged, once, before the first step; the network sees it augmented. Of a head, only the
classes enter that both were trained on, and only cells whose label, if it has one there, is among them. Both sides are
compared under the class shares of the training cells: the teacher's probabilities are freed of the shares that they
assume (``implied_prior`` of each graph) and given these, the network's logits are shifted alike. So the term pulls to
the same point as the cross-entropy of the labels, whatever correction of class imbalance either was trained with.

Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015 (at temperature 1, where the soft
targets are probabilities).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import bundle_path
from marrowscope.errors import BundleError, ConfigError
from marrowscope.train.config import HEADS
from marrowscope.train.validation import validation_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from marrowscope.bundle import Bundle
    from marrowscope.networks import Network
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.model import ClassifierInfo

Taught = dict[str, "NDArray[np.float32]"]
"""By head, the teacher's probabilities (n, k) of all crops as if its classes were equally frequent; a crop that it was
not asked about and a class that it does not know have 0."""

_BATCH = 32
_LEAST = 1e-6
"""Probabilities below this are raised to it: a teacher's certainty has no more digits than half-precision weights."""


class Lesson(NamedTuple):
    """What the network learns from the teacher in one head: ``log_target`` (n, j) over the j classes both know.

    ``classes`` (j,) int64 are these; ``shift`` (j,) brings the network's logits to the shares of the training cells;
    ``applies`` (n,) float32 is 1 for a crop that the teacher may be believed about, else 0.
    """

    log_target: Tensor
    classes: Tensor
    shift: Tensor
    applies: Tensor

    def to(self, device: torch.device) -> Lesson:
        """Move the lesson to ``device``."""
        return Lesson(*(part.to(device) for part in self))

    def at(self, rows: Tensor) -> Lesson:
        """Return the lesson of some crops."""
        return Lesson(self.log_target[rows], self.classes, self.shift, self.applies[rows])


def read_teacher(given: str) -> Bundle:
    """Read the bundle that ``teacher`` names: a path, default or demo. ConfigError where it cannot be used."""
    try:
        return load_bundle(bundle_path(Path(given)), with_rates=False)
    except BundleError as error:
        message = f"teacher: {error}"
        raise ConfigError(message) from error


def check_teacher(bundle: Bundle, crop_set: CropSet) -> None:
    """Raise ConfigError for a bundle that reads crops of another scale, a larger size or another vocabulary."""
    crop = bundle.spec.crop
    if bundle.vocabulary.categories != crop_set.categories:
        found, expected = "categories of another vocabulary", "those of the crop set"
    elif not math.isclose(crop.um_per_px, crop_set.um_per_px, rel_tol=1e-6):
        found, expected = f"crops of {crop.um_per_px:g} um per px", f"{crop_set.um_per_px:g} as in {crop_set.folder}"
    elif crop.size_px > crop_set.stored_px:
        found, expected = f"crops of {crop.size_px} px", f"at most {crop_set.stored_px}, as in {crop_set.folder}"
    else:
        return
    message = (
        f"teacher: found a bundle with {found}, expected {expected}; choose another bundle or prepare crops for it"
    )
    raise ConfigError(message)


def ask_teacher(bundle: Bundle, crop_set: CropSet, rows: IntArray, *, threads: int) -> Taught:
    """Return the mean of what the bundle's members say of the unchanged crops of ``rows``."""
    taught: Taught = {}
    members = bundle.open_classifiers(threads=threads)
    for member in members:
        priors = _assumed_shares(member)
        start = 0
        for batch in validation_batches(crop_set, rows, bundle.spec.crop.size_px, _BATCH):
            # A full batch gives every crop the same bits, whatever stands beside it.
            full = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), dtype=np.uint8)])
            answers = member.run_images(full)
            chosen = rows[start : start + len(batch)]
            start += len(batch)
            for head, prior in priors.items():
                table = taught.setdefault(head, np.zeros((len(crop_set.cells), len(prior)), dtype=np.float32))
                table[chosen] += _freed(answers[f"p_{head}"][: len(batch)], prior) / len(members)
    return taught


def _assumed_shares(member: Network) -> dict[str, NDArray[np.float64]]:
    """Return by head the class shares (k,) that the graph's probabilities assume, which it states itself."""
    try:
        stated = json.loads(member.metadata["implied_prior"])
        return {head: np.asarray(stated[head], dtype=np.float64) for head in HEADS}
    except (KeyError, ValueError, TypeError) as error:
        message = (
            "teacher: found a classifier that does not state which class shares its probabilities assume, expected "
            "implied_prior in its graph; export the bundle again"
        )
        raise ConfigError(message) from error


def _freed(probabilities: NDArray[np.float32], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide probabilities (n, k) by the shares (k,) they assume; the result sums to 1, untrained classes have 0."""
    likelihood = np.divide(probabilities, prior, out=np.zeros(probabilities.shape), where=prior > 0)
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))


def lessons(taught: Taught, labels: Mapping[str, IntArray], info: ClassifierInfo) -> dict[str, Lesson]:
    """Prepare the term for a network described by ``info``; ``labels`` (n,) by head are -1 where open."""
    prepared = {}
    for head, believed in taught.items():
        share, implied = (np.asarray(given[head], dtype=np.float64) for given in (info.priors, info.implied))
        asked, known = believed.any(axis=1), believed.any(axis=0) & (share > 0)
        classes = np.flatnonzero(known)
        if len(classes) == 0:
            continue
        scores = np.log(np.maximum(believed[:, classes], _LEAST)) + np.log(share[classes])
        applies = asked & ((labels[head] < 0) | known[np.maximum(labels[head], 0)])
        prepared[head] = Lesson(
            torch.log_softmax(torch.from_numpy(scores).float(), dim=1),
            torch.from_numpy(classes.astype(np.int64)),
            torch.from_numpy(np.log(share[classes] / implied[classes]).astype(np.float32)),
            torch.from_numpy(applies.astype(np.float32)),
        )
    return prepared


def teacher_loss(logits: Mapping[str, Tensor], taught: Mapping[str, Lesson]) -> Tensor:
    """Mean Kullback-Leibler divergence of the network's logits (n, k) from the teacher, summed over the heads."""
    terms = []
    for head, lesson in taught.items():
        said = functional.log_softmax(logits[head].float().index_select(1, lesson.classes) + lesson.shift, dim=1)
        each = functional.kl_div(said, lesson.log_target, reduction="none", log_target=True).sum(dim=1)
        terms.append((each * lesson.applies).sum() / lesson.applies.sum().clamp(min=1))
    return torch.stack(terms).sum()
