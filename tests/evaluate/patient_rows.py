"""Rows of the patient table that figures are measured on, made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.evaluate import EvaluateConfig
from marrowscope.evaluate.frames import RATIO_COLUMNS

if TYPE_CHECKING:
    from marrowscope.evaluate import Figure

CONFIG = EvaluateConfig(n_resamples=200, seed=3)


def patient(
    name: str,
    diagnosis: str | None,
    truth: float | None,
    predicted: float | None,
    **other: Any,  # noqa: ANN401
) -> dict[str, Any]:
    row: dict[str, Any] = {"patient_id": name, "center": "A", "diagnosis": diagnosis, "true_ratio": truth}
    row |= {"predicted_ratio": predicted, "run_ratio": predicted}
    return row | {"true_ratio_with_normal": truth, "n_true_normal_blasts": 0} | other


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=RATIO_COLUMNS)


def by_key(figures: list[Figure]) -> dict[str, Figure]:
    assert len({figure.key for figure in figures}) == len(figures)
    return {figure.key: figure for figure in figures}


def random_patients(n: int = 14) -> pl.DataFrame:
    generator = np.random.default_rng(8)
    truth = generator.random(n)
    predicted = np.clip(truth + generator.normal(0, 0.15, n), 0, 1)
    return frame(
        *(
            patient(
                f"P{k:02d}", "AML" if truth[k] + generator.normal(0, 0.2) > 0.5 else "control", truth[k], predicted[k]
            )
            | {"center": "AB"[k % 2]}
            for k in range(n)
        )
    )
