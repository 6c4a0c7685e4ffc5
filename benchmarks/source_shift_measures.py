"""What ``source_shift.py`` measures: calls on cells of another source, flips under another stain, the source in view.

Plain functions on arrays. A panel is a set of cells that a network never trained on, with their stored crops and masks,
of one or several sources (centers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from marrowscope.statistics import metrics
from marrowscope.train.augment import center_crop
from marrowscope.train.config import HEADS
from marrowscope.train.stain import measure_stains, restain
from marrowscope.train.validation import normalize, probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.records import ImageArray, MaskArray
    from marrowscope.train.crop_set import CropSet
    from marrowscope.train.model import CellClassifier, ClassifierInfo

IntArray = NDArray[np.int64]
_BATCH = 64
_FOLDS = 5
_FEWEST = 20
"""Cells of a source that a class needs for a probe."""


@dataclass(frozen=True)
class Panel:
    """Cells to judge: stored crops (n, s, s, 3), masks (n, s, s), labels (n,) by head, and where each comes from."""

    crops: ImageArray
    masks: MaskArray
    labels: Mapping[str, IntArray]
    patients: Sequence[str]
    centers: Sequence[str]

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.crops)

    def chosen(self, rows: IntArray) -> Panel:
        """Return some of the cells."""
        return Panel(
            self.crops[rows],
            self.masks[rows],
            {head: values[rows] for head, values in self.labels.items()},
            [self.patients[row] for row in rows],
            [self.centers[row] for row in rows],
        )


@dataclass(frozen=True)
class Seen:
    """What a network gives for n cells: probabilities (n, k) by head, and embeddings (n, c)."""

    p: Mapping[str, NDArray[np.float32]]
    embeddings: NDArray[np.float32]

    @property
    def category(self) -> IntArray:
        """The most probable category (n,)."""
        return np.asarray(self.p["category"].argmax(axis=1), dtype=np.int64)

    @property
    def cblc(self) -> IntArray:
        """The call of the CBLC head (n,), 0 or 1."""
        return np.asarray(self.p["cblc"].argmax(axis=1), dtype=np.int64)


def take_panel(crop_set: CropSet, rows: IntArray, *, per_category: int, seed: int = 0) -> Panel:
    """Take at most ``per_category`` cells of each category from ``rows``, drawn with ``seed``, in table order."""
    if crop_set.masks is None:
        message = f"{crop_set.folder}: found no masks, expected them to measure stains; make the crop set again"
        raise SystemExit(message)
    random = np.random.default_rng(seed)
    category = crop_set.labels["category"][rows]
    kept = [random.permutation(rows[category == k])[:per_category] for k in np.unique(category)]
    drawn = np.sort(np.concatenate(kept)) if kept else rows[:0]
    cells = crop_set.cells[drawn]
    return Panel(
        np.asarray(crop_set.crops[drawn]),
        np.asarray(crop_set.masks[drawn]),
        {head: values[drawn] for head, values in crop_set.labels.items()},
        cells["patient_id"].to_list(),
        cells["center"].to_list(),
    )


def joined(panels: Sequence[Panel]) -> Panel:
    """Join panels, one after another."""
    return Panel(
        np.concatenate([panel.crops for panel in panels]),
        np.concatenate([panel.masks for panel in panels]),
        {head: np.concatenate([panel.labels[head] for panel in panels]) for head in HEADS},
        [patient for panel in panels for patient in panel.patients],
        [center for panel in panels for center in panel.centers],
    )


@torch.inference_mode()
def look(
    model: CellClassifier, info: ClassifierInfo, crops: ImageArray, decision_tau: float, views: Sequence[int] = (1,)
) -> dict[int, Seen]:
    """Run the network on stored crops (n, s, s, 3), once a view; return what it gives by number of averaged views.

    Views: the crop; 2: and its left-right mirror; 4: both upside down too. Logits are averaged; embeddings are those of
    the crop alone.
    """
    model.eval()
    parts: dict[int, dict[str, list[torch.Tensor]]] = {n: {head: [] for head in HEADS} for n in views}
    embeddings = []
    for start in range(0, len(crops), _BATCH):
        batch = np.stack([center_crop(crop, info.crop_px) for crop in crops[start : start + _BATCH]])
        pixels = normalize(batch, info, torch.device("cpu"))
        seen = [pixels, pixels.flip(3), pixels.flip(2), pixels.flip((2, 3))][: max(views)]
        outputs = [model(view) for view in seen]
        logits = [output.logits() for output in outputs]
        for n in views:
            for head in HEADS:
                parts[n][head].append(torch.stack([each[head] for each in logits[:n]]).mean(dim=0))
        embeddings.append(model.trunk.forward_head(outputs[0].evidence, pre_logits=True))
    of_crop = torch.cat(embeddings).float().numpy()
    offsets = {head: torch.tensor(info.decision_offset(head, decision_tau)) for head in HEADS}
    found = {}
    for n, heads in parts.items():
        shifted = {head: torch.cat(values) + offsets[head] for head, values in heads.items()}
        found[n] = Seen(probabilities(shifted, info), of_crop)
    return found


def call_figures(panel: Panel, seen: Seen, blast: int | None) -> dict[str, Callable[[IntArray], float]]:
    """Return the figures of a panel by name, each a function of rows.

    Category accuracy, macro F1 over the categories present, AUC and F1 of CBLC; with ``blast``, the index of the blast
    category, also its recall and F1.
    """
    truth, called = panel.labels["category"], seen.category
    n_categories = seen.p["category"].shape[1]
    cblc = panel.labels["cblc"]
    score = seen.p["cblc"][:, 1].astype(np.float64)

    def confusion(rows: IntArray) -> IntArray:
        return metrics.confusion_matrix(truth[rows], called[rows], n_categories)

    figures: dict[str, Callable[[IntArray], float]] = {
        "accuracy": lambda rows: float((truth[rows] == called[rows]).mean()),
        "macro F1": lambda rows: metrics.macro_f1(confusion(rows)),
        "CBLC AUC": lambda rows: metrics.roc_auc(cblc[rows] == 1, score[rows]),
        "CBLC F1": lambda rows: metrics.positive_f1(metrics.confusion_matrix(cblc[rows], seen.cblc[rows], 2)),
    }
    if blast is not None:
        figures["blast recall"] = lambda rows: metrics.class_scores(confusion(rows))[blast].recall
        figures["blast F1"] = lambda rows: metrics.class_scores(confusion(rows))[blast].f1
    return figures


def swapped_stains(panel: Panel, seed: int = 0) -> ImageArray:
    """Give each crop the background of a crop of another source, and its source's contrast; (n, s, s, 3).

    With more than one other source, each is as likely. The panel needs two sources at least.
    """
    stains = measure_stains(panel.crops, panel.masks, np.arange(len(panel)), panel.centers)
    random = np.random.default_rng(seed)
    return np.stack(
        [restain(crop, stains.draw(row, np.array([1.0, *random.random(2)]))) for row, crop in enumerate(panel.crops)]
    )


def flips(before: Seen, after: Seen) -> dict[str, NDArray[np.bool_]]:
    """Tell for each cell (n,) whether its category and its CBLC call changed."""
    return {"category": before.category != after.category, "CBLC": before.cblc != after.cblc}


def source_accuracy(panel: Panel, embeddings: NDArray[np.float32], categories: Sequence[int]) -> dict[int, float]:
    """Predict the source of cells of one class from their embeddings: balanced accuracy by category.

    Logistic regression on standardized embeddings, out of five folds that keep a patient together; equal numbers of
    cells of each source. A half (of two sources) means that the class looks alike. Categories with fewer than 20
    cells of a source, or one source, are left out.
    """
    centers, patients = np.asarray(panel.centers), np.asarray(panel.patients)
    found = {}
    for category in categories:
        inside = np.flatnonzero(panel.labels["category"] == category)
        names, counts = np.unique(centers[inside], return_counts=True)
        if len(names) < 2 or counts.min() < _FEWEST:  # noqa: PLR2004  sources to tell apart
            continue
        random = np.random.default_rng(category)
        rows = np.concatenate([random.permutation(inside[centers[inside] == name])[: counts.min()] for name in names])
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        called = cross_val_predict(probe, embeddings[rows], centers[rows], groups=patients[rows], cv=GroupKFold(_FOLDS))
        found[category] = float(balanced_accuracy_score(centers[rows], called))
    return found
