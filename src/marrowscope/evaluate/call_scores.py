"""The calls of a run compared with the diagnoses: the calls made, how often they are wrong, the benefit of abstaining.

A patient is decided when called above or below; correct is above for AML and below for every other diagnosis. The
calls and their confidence refer to the threshold that the run was made with. The forced decision ignores confidence:
for every patient, the ratio is either above the threshold of the evaluation or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import BY_PREDICTED, CORRECTED, CORRECTED_LESS_PREDICTED
from marrowscope.evaluate.frames import AML, CALL_COLUMNS, NOT_STATED, OTHER, RISK_COLUMNS
from marrowscope.evaluate.patient_scores import NO_THRESHOLD, confounding, diagnosed
from marrowscope.evaluate.ratio_scores import not_corrected
from marrowscope.evaluate.scorer import Scorer
from marrowscope.runs.schemas import CALLS
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.evaluate.link import EvaluateConfig
    from marrowscope.evaluate.scorer import Figure

NO_CALLS = "the run has no calls, because its bundle states no threshold, or no error rates that hold here"
_DECIDED = ("above", "below")
_TIE = 1e-9
"""Certainties closer than this count as equal, since they are shares of several thousand draws."""


def call_table(ratios: pl.DataFrame, center: str, config: EvaluateConfig) -> pl.DataFrame:
    """Count the calls by diagnosis (columns ``frames.CALL_COLUMNS``); no rows for a run without calls."""
    called = _with_group(ratios.filter(pl.col("call").is_not_null()), config)
    rows = []
    for group in (AML, OTHER, NOT_STATED):
        of_group = called.filter(pl.col("group") == group)
        names = of_group["diagnosis"].unique().sort().to_list() if group != NOT_STATED else []
        parts = [(name, of_group.filter(pl.col("diagnosis") == name)) for name in names]
        if len(of_group):
            rows += [_call_row(frame, center, group, name) for name, frame in [*parts, (None, of_group)]]
    return pl.DataFrame(rows, schema=CALL_COLUMNS)


def call_figures(ratios: pl.DataFrame, config: EvaluateConfig) -> list[Figure]:
    """Measure how often the run abstains, and how often it is wrong when it decides, each with a Wilson interval."""
    called = _with_group(ratios.filter(pl.col("call").is_not_null()), config)
    known = called.filter(pl.col("group") != NOT_STATED)
    decided = known.filter(pl.col("call").is_in(_DECIDED))
    missing = NO_CALLS if called.is_empty() else ""
    threshold = "" if missing else _stated(called, config)
    right = decided["call"] == pl.Series(np.where(decided["group"] == AML, *_DECIDED), dtype=pl.String())
    aml, other = (decided["group"] == group for group in (AML, OTHER))
    one_sided = _one_sided(decided["group"] == AML)
    warning = confounding(known.with_columns(is_aml=pl.col("group") == AML))
    figures = []
    for key, frame, counted, words, undefined, remark in (
        ("calls_share_indeterminate", called, called["call"] == "indeterminate", "indeterminate", "", None),
        (
            "calls_share_without_a_call",
            called,
            called["call"].is_in(["no_call", "withheld"]),
            "too few cells or fields, or a call below withheld because of lymphoid cells",
            "",
            None,
        ),
        (
            "calls_error_among_decided",
            decided,
            ~right,
            "wrong",
            one_sided or "no patient with a diagnosis is called above or below",
            warning,
        ),
        (
            "calls_sensitivity_among_decided",
            decided.filter(aml),
            right.filter(aml),
            "with AML called above",
            "no patient with AML is called above or below",
            warning,
        ),
        (
            "calls_specificity_among_decided",
            decided.filter(other),
            right.filter(other),
            "without AML called below",
            "no patient with another diagnosis is called above or below",
            warning,
        ),
    ):
        x, n = int(counted.sum()), len(frame)
        is_error = key == "calls_error_among_decided"
        figures.append(
            Scorer(frame["patient_id"].to_list(), 0, config.seed).figure(
                key,
                wilson_interval(0, 0) if is_error and one_sided else wilson_interval(x, n),
                frame,
                note="" if missing or (is_error and one_sided) else f"{x} of {n}, {words}; {threshold}",
                warning=remark,
                undefined=missing or undefined,
            )
        )
    return figures


def forced_figures(ratios: pl.DataFrame, config: EvaluateConfig) -> list[Figure]:
    """Measure the error of "above the threshold is AML" for the counted and the corrected ratio, and the difference."""
    known = diagnosed(ratios, config)
    figures = []
    missing = not_corrected(ratios)
    for column, variant in (("run_ratio", BY_PREDICTED), ("corrected_ratio", CORRECTED)):
        reason = missing if variant is CORRECTED else ""
        frame = known.filter(pl.col(column).is_not_null())
        wrong = _wrong(frame, column, config.threshold)
        missed = int((wrong & frame["is_aml"]).sum())
        x = int(wrong.sum())
        undefined = reason or (NO_THRESHOLD if config.threshold is None else _one_sided(frame["is_aml"]))
        figures.append(
            Scorer(frame["patient_id"].to_list(), 0, config.seed).figure(
                f"forced_decision_error{variant.key}",
                wilson_interval(0, 0) if undefined else wilson_interval(x, len(frame)),
                frame,
                note=""
                if undefined
                else f"{x} of {len(frame)}: {missed} with AML not above {config.threshold:.3f}, "
                f"{count_of(x - missed, 'other')} above",
                warning=confounding(frame),
                undefined=undefined,
            )
        )
    return [*figures, _forced_difference(known, config, missing)]


def risk_coverage(ratios: pl.DataFrame, center: str, config: EvaluateConfig) -> pl.DataFrame:
    """Compute the error of the forced decision among the most certain patients (columns ``frames.RISK_COLUMNS``).

    Patients are ordered by how far the confidence of being above the run's threshold is from 0.5; equally certain
    patients enter together, so that the curve does not depend on their order (El-Yaniv, Wiener, J Mach Learn Res
    2010;11:1605). The forced decision is whether the corrected ratio is above the run's threshold. Empty without
    confidences.
    """
    known = diagnosed(ratios, config).filter(
        pl.col("confidence_above").is_not_null() & pl.col("corrected_ratio").is_not_null()
    )
    known = known.with_columns(certainty=0.5 + (pl.col("confidence_above") - 0.5).abs())
    known = known.sort("certainty", "patient_id", descending=[True, False])
    certainty = known["certainty"].to_numpy()
    wrong = np.cumsum((known["corrected_ratio"] > known["run_threshold"]).to_numpy() != known["is_aml"].to_numpy())
    rows = []
    for index in range(len(known)):
        if index + 1 < len(known) and certainty[index] - certainty[index + 1] <= _TIE:
            continue
        n, x = index + 1, int(wrong[index])
        error = wilson_interval(x, n)
        rows.append(
            {
                "center": center,
                "n": n,
                "n_patients": len(known),
                "coverage": n / len(known),
                "certainty": float(certainty[index]),
                "n_wrong": x,
                "error": error.estimate,
                "error_lower": error.lower,
                "error_upper": error.upper,
            }
        )
    return pl.DataFrame(rows, schema=RISK_COLUMNS)


def _stated(called: pl.DataFrame, config: EvaluateConfig) -> str:
    """Name the threshold the calls were made with, and the evaluation's threshold if it differs."""
    (used,) = called["run_threshold"].unique().to_list()[:1]
    other = config.threshold is not None and abs(config.threshold - used) > _TIE
    return f"called at the run's threshold {used:.3f}" + (f", not at {config.threshold:.3f}" if other else "")


def _forced_difference(known: pl.DataFrame, config: EvaluateConfig, missing: str) -> Figure:
    """Compute the error with the corrected ratio minus the error with the counted ratio, paired by patient."""
    both = known.filter(pl.col("run_ratio").is_not_null() & pl.col("corrected_ratio").is_not_null())
    corrected, counted = (_wrong(both, column, config.threshold) for column in ("corrected_ratio", "run_ratio"))
    scorer = Scorer(both["patient_id"].to_list(), config.n_resamples, config.seed)
    change = np.stack([np.ones(len(both)), corrected.to_numpy().astype(float) - counted.to_numpy()], axis=1)
    if config.threshold is None:
        change[:, 0] = 0
    (value,) = scorer.of_columns(change, lambda total: metrics.shares(total[:, 1], total[:, 0])[:, None])
    undefined = missing or (NO_THRESHOLD if config.threshold is None else "")
    mended, spoilt = int((counted & ~corrected).sum()), int((corrected & ~counted).sum())
    return scorer.figure(
        f"forced_decision_error{CORRECTED_LESS_PREDICTED.key}",
        value,
        both,
        note=""
        if undefined
        else f"the correction fixes {mended} and spoils {count_of(spoilt, 'decision')}; below 0 it helps",
        undefined=undefined,
    )


def _one_sided(is_aml: pl.Series) -> str:
    """Say that all patients lie on one side, where an error rate is no figure; empty where both are there."""
    sides = is_aml.unique().to_list()
    if len(sides) != 1:
        return ""
    who, call = ("AML", "above") if sides[0] else ("another diagnosis", "below")
    return f"every such patient has {who}: calling all of them {call} would never be wrong"


def _wrong(known: pl.DataFrame, column: str, threshold: float | None) -> pl.Series:
    """Tell whether the ratio is on the wrong side of the threshold; all False without a threshold."""
    if threshold is None:
        return pl.Series([False] * len(known), dtype=pl.Boolean())
    return (known[column] > threshold) != known["is_aml"]


def _with_group(ratios: pl.DataFrame, config: EvaluateConfig) -> pl.DataFrame:
    """Add ``group``: AML, other, or not stated; strip surrounding blanks from the diagnoses."""
    known = diagnosed(ratios, config).select("patient_id", "is_aml")
    joined = ratios.join(known, on="patient_id", how="left", maintain_order="left")
    group = (
        pl.when("is_aml").then(pl.lit(AML)).when(~pl.col("is_aml")).then(pl.lit(OTHER)).otherwise(pl.lit(NOT_STATED))
    )
    return joined.with_columns(group=group, diagnosis=pl.col("diagnosis").str.strip_chars())


def _call_row(frame: pl.DataFrame, center: str, group: str, diagnosis: str | None) -> dict[str, Any]:
    n_of = {call: int((frame["call"] == call).sum()) for call in CALLS}
    row: dict[str, Any] = {"center": center, "group": group, "diagnosis": diagnosis, "n_patients": len(frame)}
    row |= {f"n_{call}": n for call, n in n_of.items()}
    n_decided = sum(n_of[call] for call in _DECIDED)
    if group == NOT_STATED:
        return row | {"n_decided": n_decided}
    right = n_of["above" if group == AML else "below"]
    share = wilson_interval(right, n_decided)
    row |= {"measure": "sensitivity" if group == AML else "specificity", "n_decided": n_decided, "n_right": right}
    if n_decided:
        row |= {"right": share.estimate, "right_lower": share.lower, "right_upper": share.upper}
    return row
