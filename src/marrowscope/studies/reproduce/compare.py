"""The study's metrics: ensemble, each member and the probe on the same cells, by external center.

All use matched cells: expert cells entirely inside their field that a kept contour found. The paper's abstract does not
say whether its weighted F1 is of CBLC or of the 16 categories, or on matched or all cells; CBLC on matched cells is one
reading. Intervals are bootstraps over patients; the difference of ensemble and probe is paired.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.config import StageConfig
from marrowscope.evaluate import ALL_CENTERS, link_cells
from marrowscope.evaluate.scorer import Scorer
from marrowscope.runs.parquet import read_table
from marrowscope.statistics.metrics import IntArray, confusion_matrix, weighted_f1
from marrowscope.studies.reproduce.presets import PUBLISHED_WEIGHTED_F1
from marrowscope.studies.reproduce.probe import fit_probe, load_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.evaluate import EvaluateConfig, Evaluation
    from marrowscope.records import Field, Interval, Patient
    from marrowscope.vocabulary import Vocabulary

FURTHER_FIGURES = (
    "cblc_positive_class_f1_matched",
    "cblc_auc_matched",
    "category_weighted_f1_matched",
    "category_macro_f1_matched",
    "cblc_weighted_f1_all_expert",
    "detection_recall",
    "detection_precision",
    "patient_ratio_mae",
)
"""Metrics shown beside the CBLC weighted F1 on matched cells, by the keys of ``evaluate.catalog``."""
_CBLC, _OTHER = "CBLC", "other"


class Score(StageConfig):
    """A value with its 95% interval; None where it is undefined."""

    value: float | None
    lower: float | None
    upper: float | None


class CenterComparison(StageConfig):
    """One external center, or all of them together; ``difference`` is ensemble minus probe, on ``n_probe_cells``.

    ``further`` has the values of ``FURTHER_FIGURES`` by their keys.
    """

    center: str
    published: float | None
    n_patients: int
    n_fields: int
    n_cells: int
    n_cblc: int
    ensemble: Score
    members: dict[str, Score]
    probe: Score
    n_probe_cells: int
    difference: Score
    all_negative: float
    further: dict[str, Score]


class Comparison(StageConfig):
    """Every external center, then all of them together."""

    centers: tuple[CenterComparison, ...]
    n_members: int

    @property
    def beats_probe(self) -> bool:
        """Tell whether the ensemble scores above the probe on every external center."""
        return all((row.difference.value or 0.0) > 0 for row in self.centers)


def compare_models(
    evaluation: Evaluation,
    member_runs: Sequence[Path],
    crops: tuple[Path, Path],
    truth: tuple[Sequence[Patient], Sequence[Field]],
    vocabulary: Vocabulary,
) -> Comparison:
    """Compare the evaluated ensemble with its members' runs and the probe.

    ``crops`` are the crop sets of the internal patients, on which the probe is fitted, and of the external ones;
    ``truth`` the external patients and their fields.
    """
    config = evaluation.config
    ensemble = _matched(evaluation.linked.expert)
    members = {run.name: _matched(_linked(run, truth, vocabulary, config)) for run in member_runs}
    probed = ensemble.join(_probe_calls(*crops, vocabulary), on=["field_id", "shape_index"], how="inner")
    names = [scores.center for scores in evaluation.centers if scores.center != ALL_CENTERS]
    published = dict(zip(names, PUBLISHED_WEIGHTED_F1, strict=False))
    rows = []
    for scores in evaluation.centers:
        chosen = pl.lit(value=True) if scores.center == ALL_CENTERS else pl.col("center") == scores.center
        cells, pairs = ensemble.filter(chosen), probed.filter(chosen)
        truth_cblc = cells["cblc"].cast(pl.Int64).to_numpy()
        rows.append(
            CenterComparison(
                center=scores.center,
                published=published.get(scores.center),
                n_patients=scores.n_patients,
                n_fields=scores.n_fields,
                n_cells=cells.height,
                n_cblc=int(truth_cblc.sum()),
                ensemble=_score(_weighted_f1(cells, ("predicted_cblc",), config)),
                members={
                    name: _score(_weighted_f1(frame.filter(chosen), ("predicted_cblc",), config))
                    for name, frame in members.items()
                },
                probe=_score(_weighted_f1(pairs, ("probe_cblc",), config)),
                n_probe_cells=pairs.height,
                difference=_score(_weighted_f1(pairs, ("predicted_cblc", "probe_cblc"), config)),
                all_negative=weighted_f1(confusion_matrix(truth_cblc, np.zeros_like(truth_cblc), 2)),
                further={key: _score(scores.figure(key).value) for key in FURTHER_FIGURES},
            )
        )
    return Comparison(centers=tuple(rows), n_members=len(members))


def _linked(
    run: Path, truth: tuple[Sequence[Patient], Sequence[Field]], vocabulary: Vocabulary, config: EvaluateConfig
) -> pl.DataFrame:
    fields, cells = (read_table(run / f"{kind}.parquet", kind) for kind in ("fields", "cells"))
    return link_cells(fields, cells, *truth, vocabulary, config=config).expert


def _matched(expert: pl.DataFrame) -> pl.DataFrame:
    return expert.filter(pl.col("found") & ~pl.col("cut"))


def _probe_calls(internal: Path, external: Path, vocabulary: Vocabulary) -> pl.DataFrame:
    """Fit the probe on the internal predicted crops; returns its calls of the external ones."""
    features, cells = load_features(internal, "predicted")
    labels = [_CBLC if vocabulary.codes[code].cblc else _OTHER for code in cells["expert_code"]]
    probe = fit_probe(features, labels)
    features, cells = load_features(external, "predicted")
    called = np.array([name == _CBLC for name in probe.predict(features)], dtype=np.int64)
    shape_index = pl.col("cell_id").str.extract(r"#(\d+)/predicted$").cast(pl.Int64).alias("shape_index")
    return cells.select("field_id", shape_index).with_columns(pl.Series("probe_cblc", called, dtype=pl.Int64()))


def _weighted_f1(cells: pl.DataFrame, columns: tuple[str, ...], config: EvaluateConfig) -> Interval:
    """Compute weighted F1 of the calls in one column, or of the first column minus the second's, by patient."""
    patients = cells["patient_id"].unique().sort().to_list()
    scorer = Scorer(patients, config.n_resamples, config.seed)
    positions = scorer.positions(cells)
    truth = cells["cblc"].cast(pl.Int64).to_numpy()
    calls = [cells[column].to_numpy() for column in columns]
    sums = np.array(
        [
            [confusion_matrix(truth[positions == index], called[positions == index], 2) for called in calls]
            for index in range(len(patients))
        ],
        dtype=np.int64,
    ).reshape(-1, len(columns), 2, 3)

    def statistic(total: IntArray) -> float:
        first, *rest = (weighted_f1(one) for one in total)
        return first - sum(rest)

    return scorer.of_sums(sums, statistic)


def _score(value: Interval) -> Score:
    parts = (value.estimate, value.lower, value.upper)
    estimate, lower, upper = (None if math.isnan(part) else float(part) for part in parts)
    return Score(value=estimate, lower=lower, upper=upper)
