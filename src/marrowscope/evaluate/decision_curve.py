"""Net benefit of acting on the ratio at the threshold, or on the call, against acting on everyone and on no one.

The ratio is no risk, so the decision is a fixed rule ("ratio above the threshold"), and only the risk from which one
would act varies (``statistics.net_benefit``). The net benefit depends on the share of AML, which is that of the cohort
and not of a clinic. Acting on no one has 0 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.evaluate.patient_scores import diagnosed
from marrowscope.evaluate.scorer import Scorer
from marrowscope.statistics.net_benefit import net_benefit

if TYPE_CHECKING:
    import polars as pl

    from marrowscope.evaluate.link import EvaluateConfig
    from marrowscope.records import Interval

RISKS = np.arange(5, 100, 5) / 100
"""The risks of AML from which one would act."""

EVERYONE = "everyone"
_RULES = (
    ("predicted ratio above the threshold", "run_ratio"),
    ("corrected ratio above the threshold", "corrected_ratio"),
    ("annotated ratio above the threshold", "true_ratio"),
)
_CALLED = "called above"


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """Net benefit of ``rule`` at one ``risk``, of ``n`` patients with ``n_aml`` AML, ``n_acted`` of them acted on."""

    rule: str
    risk: float
    n: int
    n_aml: int
    n_acted: int
    net_benefit: Interval


def decision_curve(ratios: pl.DataFrame, config: EvaluateConfig) -> tuple[DecisionPoint, ...]:
    """Compute the curve of every rule that the data define; none without patients of both kinds.

    Each rule is measured on the patients to whom it applies, "everyone" on those with a counted ratio.
    """
    known = diagnosed(ratios, config)
    rules = []
    if config.threshold is not None:
        for name, column in _RULES:
            frame = known.drop_nulls(column)
            rules.append((name, frame, (frame[column] > config.threshold).to_numpy()))
    called = known.drop_nulls("call")
    rules.append((_CALLED, called, (called["call"] == "above").to_numpy()))
    frame = known.drop_nulls("run_ratio")
    rules.append((EVERYONE, frame, np.ones(len(frame), dtype=bool)))
    points: list[DecisionPoint] = []
    for name, frame, acted in rules:
        aml = frame["is_aml"].to_numpy()
        if not aml.any() or aml.all():
            continue
        scorer = Scorer(frame["patient_id"].to_list(), config.n_resamples, config.seed)
        sums = np.stack([acted & aml, acted & ~aml, np.ones(len(aml), dtype=bool)], axis=1).astype(np.float64)
        values = scorer.of_columns(sums, lambda total: net_benefit(total[:, 0], total[:, 1], total[:, 2], RISKS))
        points += [
            DecisionPoint(name, float(risk), len(aml), int(aml.sum()), int(acted.sum()), value)
            for risk, value in zip(RISKS, values, strict=True)
        ]
    return tuple(points)
