"""Figures of the CBLC ratio per patient: counted and corrected ratio against the annotated ratio.

The counted ("predicted") ratio covers the annotated fields; the corrected ratio comes from the run and covers all its
fields, with a 95% interval. Every figure is repeated with N0 and M0 ("normal" blasts) counted as CBLC.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import (
    CORRECTED,
    CORRECTED_LESS_PREDICTED,
    CORRECTED_WITH_NORMAL,
    COUNTED,
    COUNTED_WITH_NORMAL,
    NO_SEAMS,
)
from marrowscope.evaluate.scorer import Scorer
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.evaluate.link import EvaluateConfig
    from marrowscope.evaluate.scorer import Figure

NOT_CORRECTED = (
    "no corrected ratio: the run's bundle has no error rates that hold here, or they are too poor for a correction"
)

_AGREEMENTS = (
    ("patient_ratio_mae", ""),
    ("patient_ratio_bias", ""),
    ("patient_ratio_concordance", "needs two patients whose ratios differ"),
)
"""Key of each agreement figure, and what it needs to be defined."""

_PAIRS = (
    ("true_ratio", "predicted_ratio", COUNTED),
    ("true_ratio", "corrected_ratio", CORRECTED),
    ("true_ratio", "predicted_ratio_no_seams", NO_SEAMS),
    ("true_ratio_with_normal", "predicted_ratio", COUNTED_WITH_NORMAL),
    ("true_ratio_with_normal", "corrected_ratio", CORRECTED_WITH_NORMAL),
)
_NO_SPREAD = 1e-12
"""Differences of squared ratios below this are rounding errors."""


def with_assessment(ratios: pl.DataFrame, run_patients: pl.DataFrame) -> pl.DataFrame:
    """Fill the columns of ``ratios`` that come from the run's patients table: corrected ratio, threshold, call."""
    own = run_patients.select(
        "patient_id",
        "corrected_ratio",
        "corrected_lower",
        "corrected_upper",
        "confidence_above",
        "call",
        "call_reason",
        run_threshold="threshold",
    )
    inside = pl.col("true_ratio").is_between("corrected_lower", "corrected_upper")
    known = [name for name in own.columns if name != "patient_id"]
    joined = ratios.drop(known).join(own, on="patient_id", how="left", maintain_order="left")
    return joined.with_columns(annotated_inside=inside).select(ratios.columns)


def centers_with_own_rates(run_patients: pl.DataFrame, compared: pl.Series) -> tuple[str, ...]:
    """Name the centers of the ``compared`` patients that were corrected with rates measured in the center itself."""
    own = pl.col("corrected_ratio").is_not_null() & (pl.col("state_reason") == "center_measured")
    of_these = run_patients.filter(own & pl.col("patient_id").is_in(compared.implode()))
    return tuple(of_these["center"].unique().sort())


def own_rates_sentence(centers: Sequence[str]) -> str:
    """Warn that the patients of ``centers`` may be those whose ratios their rates were measured on."""
    return (
        f"Corrected with error rates measured in the center itself: {', '.join(centers)}. Ratio, coverage and calls are"
        " a test only if the rates were measured on other patients."
    )


def threshold_sentence(threshold: float | None, bundle: Mapping[str, Any]) -> str:
    """Say where a threshold is from and on whom it was learned; empty without one.

    ``bundle`` is what a run's manifest states of its bundle: ``error_rates`` names the patients, simulated ones so.
    """
    if threshold is None:
        return ""
    if bundle.get("threshold") != threshold:
        return f"Threshold {threshold:.3f}: given, not learned."
    learned = bundle.get("error_rates") or "The run does not state on whom it was learned."
    return f"Threshold {threshold:.3f}: that of the run's bundle. {learned}"


def ratio_figures(ratios: pl.DataFrame, config: EvaluateConfig) -> list[Figure]:
    """Compute MAE, bias and concordance of counted and corrected ratio, and the effect of the correction."""
    by_family: dict[str, list[Figure]] = {key: [] for key, _ in _AGREEMENTS}
    for truth_column, column, variant in _PAIRS:
        both = ratios.filter(pl.col(truth_column).is_not_null() & pl.col(column).is_not_null())
        if column == "predicted_ratio_no_seams" and both.is_empty():
            continue
        truth, estimate = both[truth_column].to_numpy(), both[column].to_numpy()
        scorer = Scorer(both["patient_id"].to_list(), config.n_resamples, config.seed)
        values = scorer.of_columns(_moments(truth, estimate), _agreements)
        missing = not_corrected(ratios) if column == "corrected_ratio" else ""
        with_normal = variant.repeats is not None
        notes = _notes(ratios, both, column, with_normal=with_normal)
        for (family, undefined), value in zip(_AGREEMENTS, values, strict=True):
            by_family[family].append(
                scorer.figure(
                    family + variant.key,
                    value,
                    both,
                    note=notes,
                    undefined=missing or undefined,
                    is_repetition=with_normal and not count_normal(ratios),
                )
            )
    return [*(figure for figures in by_family.values() for figure in figures), _change(ratios, config)]


def interval_figures(ratios: pl.DataFrame, config: EvaluateConfig) -> list[Figure]:
    """Compute how often the annotated ratio is inside the corrected ratio's interval, and the mean width."""
    figures = []
    for truth_column, variant in (("true_ratio", COUNTED), ("true_ratio_with_normal", COUNTED_WITH_NORMAL)):
        known = _corrected(ratios, truth_column)
        below = int((known[truth_column] < known["corrected_lower"]).sum())
        above = int((known[truth_column] > known["corrected_upper"]).sum())
        held = len(known) - below - above
        with_normal = variant.repeats is not None
        notes = _notes(ratios, known, "corrected_ratio", with_normal=with_normal)
        note = (
            f"{held} of {len(known)}; of the others, {below} below and {above} above the interval; the interval "
            "is for the patient's underlying share, the annotated ratio only for the cells photographed, so this "
            "figure need not be 95%"
        )
        figures.append(
            Scorer(known["patient_id"].to_list(), 0, config.seed).figure(
                f"annotated_ratio_inside_the_interval{variant.key}",
                wilson_interval(held, len(known)),
                known,
                note="; ".join(words for words in ("" if known.is_empty() else note, notes) if words),
                undefined=not_corrected(ratios),
                is_repetition=with_normal and not count_normal(ratios),
            )
        )
    known = _corrected(ratios, "corrected_ratio")
    scorer = Scorer(known["patient_id"].to_list(), config.n_resamples, config.seed)
    widths = (known["corrected_upper"] - known["corrected_lower"]).to_numpy()
    figures.append(
        scorer.figure(
            "mean_width_of_the_interval",
            scorer.of_columns(np.stack([np.ones(len(widths)), widths], axis=1), _mean)[0],
            known,
            note="upper minus lower limit, ratios 0-1",
            undefined=not_corrected(ratios),
        )
    )
    return figures


def count_normal(ratios: pl.DataFrame) -> int:
    """Count the expert cells labeled N0 or M0; if there are none, counting them as CBLC changes no figure."""
    return int(ratios["n_true_normal_blasts"].sum())


def normal_words(ratios: pl.DataFrame) -> str:
    """Describe whether counting N0 and M0 as CBLC makes a difference."""
    n_normal = count_normal(ratios)
    return count_of(n_normal, "such cell") if n_normal else "no such cell: the same figure"


def not_corrected(ratios: pl.DataFrame) -> str:
    """Explain why there is no corrected ratio, if no patient with a counted ratio has one; else return ""."""
    counted = ratios.filter(pl.col("run_ratio").is_not_null())
    return NOT_CORRECTED if len(counted) and counted["corrected_ratio"].is_null().all() else ""


def _change(ratios: pl.DataFrame, config: EvaluateConfig) -> Figure:
    """Compute the mean change of the absolute error by the correction, paired by patient; below 0 it helps."""
    both = _corrected(ratios, "true_ratio").filter(pl.col("predicted_ratio").is_not_null())
    truth, predicted, corrected = (
        both[name].to_numpy() for name in ("true_ratio", "predicted_ratio", "corrected_ratio")
    )
    change = np.abs(corrected - truth) - np.abs(predicted - truth)
    scorer = Scorer(both["patient_id"].to_list(), config.n_resamples, config.seed)
    return scorer.figure(
        f"patient_ratio_mae{CORRECTED_LESS_PREDICTED.key}",
        scorer.of_columns(np.stack([np.ones(len(change)), change], axis=1), _mean)[0],
        both,
        note="the same patients on both sides; below 0, the corrected ratio is closer to the annotated one",
        undefined=not_corrected(ratios),
    )


def _corrected(ratios: pl.DataFrame, truth_column: str) -> pl.DataFrame:
    return ratios.filter(pl.col("corrected_ratio").is_not_null() & pl.col(truth_column).is_not_null())


def _notes(ratios: pl.DataFrame, both: pl.DataFrame, column: str, *, with_normal: bool) -> str:
    """Describe who and what is left out, which fields only one side has, and last whether N0 and M0 matter."""
    left_out = len(ratios) - len(both)
    notes = (
        [f"{count_of(left_out, 'patient')} without a ratio on both sides left out"]
        if 0 < left_out < len(ratios)
        else []
    )
    unshared = both.filter(pl.col("n_fields_unshared") > 0)
    if column == "corrected_ratio" and len(unshared):
        n_fields = int(unshared["n_fields_unshared"].sum())
        notes.append(
            f"{count_of(n_fields, 'field')} of {count_of(len(unshared), 'patient')} used in only one of the two ratios"
        )
    undecided = both.filter(pl.col("n_true_undecided") > 0)
    if len(undecided):
        cells = count_of(int(undecided["n_true_undecided"].sum()), "cell")
        notes.append(f"{cells} of {count_of(len(undecided), 'patient')} left out: coarse labels do not decide them")
    if with_normal:
        notes.append(normal_words(ratios))
    return "; ".join(notes)


def _mean(totals: metrics.RealArray) -> metrics.RealArray:
    """Compute the mean from sums of ones and of values: (m, 2) in, (m, 1) out."""
    return metrics.shares(totals[:, 1], totals[:, 0])[:, None]


def _moments(truth: metrics.RealArray, estimate: metrics.RealArray) -> metrics.RealArray:
    """Compute what each patient adds to the sums behind MAE, bias and concordance: (patients, 8)."""
    difference = estimate - truth
    columns = (np.ones(len(truth)), np.abs(difference), difference, truth, estimate, truth**2, estimate**2)
    return np.stack([*columns, truth * estimate], axis=1)


def _agreements(totals: metrics.RealArray) -> metrics.RealArray:
    """Compute MAE, bias and Lin's concordance from sums of ``_moments``, (m, 3), as ``metrics`` does from the rows."""
    n = totals[:, 0]
    absolute, difference, truth, estimate, truth_squared, estimate_squared, product = (
        metrics.shares(column, n) for column in totals.T[1:]
    )
    variances = truth_squared - truth**2 + estimate_squared - estimate**2
    spread = variances + (truth - estimate) ** 2
    agreement = metrics.shares(2 * (product - truth * estimate), np.where(spread > _NO_SPREAD, spread, 0.0))
    return np.stack([absolute, difference, np.where(n > 1, agreement, math.nan)], axis=1)
