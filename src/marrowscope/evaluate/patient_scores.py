"""AML against all other diagnoses, by the counted, corrected and annotated ratio; and the "normal" blasts.

Every figure that uses an annotated ratio is repeated with N0 and M0 ("normal" blasts) counted as CBLC, since experts
may have chosen those codes with the diagnosis in mind. Counted and corrected ratio cover all fields of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import (
    BY_ANNOTATED,
    BY_ANNOTATED_WITH_NORMAL,
    BY_PREDICTED,
    CONFOUNDED_BY_CENTER,
    CORRECTED,
)
from marrowscope.evaluate.ratio_scores import count_normal, normal_words, not_corrected
from marrowscope.evaluate.scorer import Remark, Scorer
from marrowscope.records import UNKNOWN
from marrowscope.statistics import metrics
from marrowscope.statistics.delong import auc_interval
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.evaluate.link import EvaluateConfig
    from marrowscope.evaluate.scorer import Figure

NO_THRESHOLD = "no threshold: the bundle states none, and --threshold was not given"


@dataclass(frozen=True, slots=True)
class NormalBlasts:
    """N0 and M0 cells among the uncut expert cells of one center and diagnosis, and how many were called CBLC."""

    center: str
    diagnosis: str
    n_patients: int
    n_cells: int
    n_by_code: tuple[tuple[str, int], ...]
    n_found: int
    n_called_cblc: int


def aml_figures(ratios: pl.DataFrame, config: EvaluateConfig) -> list[Figure]:
    """Compute AUC, and sensitivity and specificity at the threshold, for each ratio."""
    figures: list[Figure] = []
    for variant, column in (
        (BY_PREDICTED, "run_ratio"),
        (CORRECTED, "corrected_ratio"),
        (BY_ANNOTATED, "true_ratio"),
        (BY_ANNOTATED_WITH_NORMAL, "true_ratio_with_normal"),
    ):
        known = diagnosed(ratios, config).filter(pl.col(column).is_not_null())
        known = known.with_columns(ratio=pl.col(column))
        missing = not_corrected(ratios) if variant is CORRECTED else ""
        with_normal = variant.repeats is not None
        sizes = _group_sizes(known, len(ratios) - len(known))
        common: dict[str, Any] = {
            "note": "" if missing else f"{sizes}; {normal_words(ratios)}" if with_normal else sizes,
            "missing": missing,
            "is_repetition": with_normal and not count_normal(ratios),
        }
        figures += _aucs(known, variant.key, config, **common)
        figures += [_at_threshold(known, variant.key, config, aml=aml, **common) for aml in (True, False)]
    return figures


def _aucs(
    known: pl.DataFrame, ending: str, config: EvaluateConfig, *, note: str, missing: str, is_repetition: bool
) -> list[Figure]:
    """Compute the AUC over all pairs, by two methods, and with several centers the AUC over pairs of one center."""
    truth, ratio, centers = (known[name].to_numpy() for name in ("is_aml", "ratio", "center"))
    scorer = Scorer(known["patient_id"].to_list(), config.n_resamples, config.seed)

    def columns(weight: metrics.RealArray, _: metrics.RealArray) -> metrics.RealArray:
        pooled = metrics.shares(*metrics.won_pairs(truth, ratio, weight))
        by_center = [
            metrics.won_pairs(truth[here], ratio[here], weight[:, here])
            for here in (centers == center for center in sorted(set(centers)))
        ]
        won, pairs = np.sum(by_center, axis=0) if by_center else np.zeros((2, len(weight)))
        return np.stack([pooled, metrics.shares(won, pairs)], axis=1)

    auc, within = scorer.of_weights(known, columns)
    figures = [
        scorer.figure(
            f"aml_auc{ending}",
            auc,
            known,
            reference=0.5,
            note=note,
            warning=confounding(known),
            undefined=missing or _one_class(known),
            is_repetition=is_repetition,
        ),
        scorer.figure(
            f"aml_auc_delong{ending}",
            auc_interval(truth, ratio),
            known,
            reference=0.5,
            note=note,
            warning=confounding(known),
            undefined=missing or _one_class(known),
            is_repetition=is_repetition,
        ),
    ]
    if known["center"].n_unique() > 1:
        figures.append(
            scorer.figure(
                f"aml_auc_within_centers{ending}",
                within,
                known,
                reference=0.5,
                note=f"only pairs of patients from the same center; {note}",
                undefined="no center has both patients with AML and patients without",
                is_repetition=is_repetition,
            )
        )
    return figures


def _at_threshold(
    known: pl.DataFrame,
    ending: str,
    config: EvaluateConfig,
    *,
    aml: bool,
    note: str,
    missing: str,
    is_repetition: bool,
) -> Figure:
    """Compute sensitivity (``aml``) or specificity of "ratio above the threshold", with a Wilson interval."""
    group = known.filter(pl.col("is_aml") == aml)
    key = f"aml_{'sensitivity' if aml else 'specificity'}_at_the_threshold{ending}"
    scorer = Scorer(group["patient_id"].to_list(), 0, config.seed)
    if config.threshold is None:
        return scorer.figure(
            key,
            wilson_interval(0, 0),
            group,
            note=note,
            undefined=missing or NO_THRESHOLD,
            is_repetition=is_repetition,
        )
    called = group["ratio"].to_numpy() > config.threshold
    x = int((called == aml).sum())
    said = "above" if aml else "not above"
    return scorer.figure(
        key,
        wilson_interval(x, len(group)),
        group,
        note="" if missing else f"{x} of {len(group)}, ratio {said} {config.threshold:.3f}; {note}",
        warning=confounding(known),
        undefined=missing or f"no patient with {'AML' if aml else 'another diagnosis'}",
        is_repetition=is_repetition,
    )


def diagnosed(ratios: pl.DataFrame, config: EvaluateConfig) -> pl.DataFrame:
    """Select the patients whose diagnosis is stated, and add ``is_aml``; ``unknown`` is not a diagnosis."""
    names = [name.strip().casefold() for name in config.aml_diagnoses]
    text = pl.col("diagnosis").str.strip_chars().str.to_lowercase()
    stated = ratios.filter(pl.col("diagnosis").is_not_null() & ~text.is_in(["", UNKNOWN]))
    is_aml = [diagnosis.strip().casefold() in names for diagnosis in stated["diagnosis"]]
    return stated.with_columns(is_aml=pl.Series(is_aml, dtype=pl.Boolean))


def confounding(known: pl.DataFrame) -> Remark | None:
    """Warn if a pooled AUC confounds the disease with the center: some center has only AML, or none."""
    by_center = known.group_by("center").agg(pl.col("is_aml").mean().alias("share")).sort("center")
    if len(by_center) < 2 or known["is_aml"].n_unique() < 2:  # noqa: PLR2004  one center or one group confounds nothing
        return None
    pure = [
        f"{center} ({'AML only' if share else 'no AML'})" for center, share in by_center.iter_rows() if share in {0, 1}
    ]
    if not pure:
        return None
    text = f"confounded by center: {', '.join(pure)}; a difference between centers alone could produce this figure"
    return Remark(CONFOUNDED_BY_CENTER, text)


def normal_blasts(expert: pl.DataFrame, ratios: pl.DataFrame) -> tuple[NormalBlasts, ...]:
    """Count the "normal" blasts by center and diagnosis; every center and diagnosis has a row."""
    whole = expert.filter(~pl.col("cut")).join(ratios.select("patient_id", "diagnosis"), on="patient_id", how="left")
    codes = sorted(set(whole.filter("normal_blast")["code"]) | {"M0", "N0"})
    rows = []
    for center, diagnosis in ratios.select("center", "diagnosis").unique().sort("center", "diagnosis").iter_rows():
        here = (pl.col("center") == center) & pl.col("diagnosis").eq_missing(pl.lit(diagnosis))
        cells = whole.filter(here)
        normal = cells.filter("normal_blast")
        found = normal.filter("found")
        rows.append(
            NormalBlasts(
                center=center,
                diagnosis=diagnosis or "",
                n_patients=len(ratios.filter(here)),
                n_cells=len(cells),
                n_by_code=tuple((code, int((normal["code"] == code).sum())) for code in codes),
                n_found=len(found),
                n_called_cblc=int(found["predicted_cblc"].sum()),
            )
        )
    return tuple(rows)


def _group_sizes(known: pl.DataFrame, n_unknown: int) -> str:
    """List the diagnoses on both sides with their numbers of patients."""
    sides = []
    for is_aml, title in ((True, "AML"), (False, "other")):
        counts = known.filter(pl.col("is_aml") == is_aml).group_by("diagnosis").len().sort("diagnosis")
        named = ", ".join(f"{diagnosis} {n}" for diagnosis, n in counts.iter_rows())
        sides.append(f"{title}: {named or 'none'}")
    if n_unknown:
        sides.append(f"{count_of(n_unknown, 'patient')} without a diagnosis or a ratio left out")
    return "; ".join(sides)


def _one_class(known: pl.DataFrame) -> str:
    n_aml = int(known["is_aml"].sum())
    if n_aml == 0:
        return f"no AML among {count_of(len(known), 'patient')}"
    return f"only AML among {count_of(len(known), 'patient')}" if n_aml == len(known) else ""
