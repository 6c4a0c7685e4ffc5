"""Cells of patients a classifier never saw: the expert's call and the classifier's call.

One table for both sources: the out-of-fold predictions of a cross-fit, read as the exported bundle will read them,
and a bundle's run over a held-out annotated cohort. One row per expert cell, missed cells included, with the columns
``quantify.fit_quantification`` requires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.cells.calls import decode_calls
from marrowscope.errors import RunError
from marrowscope.records import UNKNOWN, Patient
from marrowscope.runs.parquet import read_columns
from marrowscope.statistics.temperature import apply_temperature
from marrowscope.train.checkpoint import CLASSIFIER_NAME
from marrowscope.train.config import HEADS
from marrowscope.train.crop_set import MISSED_SCHEMA
from marrowscope.train.out_of_fold import read_priors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from marrowscope.cells.calls import Calls
    from marrowscope.statistics.joint import JointRule
    from marrowscope.statistics.temperature import Calibration
    from marrowscope.train.out_of_fold import HeadPriors
    from marrowscope.vocabulary import Vocabulary

OOF_NAME, MISSED_NAME = "oof.parquet", "missed.parquet"
_SCHEMA: dict[str, pl.DataType] = {
    "patient_id": pl.String(),
    "field_id": pl.String(),
    "code": pl.String(),
    "counted": pl.Boolean(),
    "called_category": pl.String(),
    "called_cblc": pl.Boolean(),
    "group": pl.Int64(),
}


_LEFT_OUT: dict[str, pl.DataType] = {
    **{name: pl.String() for name in ("field_id", "patient_id", "center", "diagnosis", "source", "expert_code")},
    "fold": pl.Int64(),
    **{f"label_{head}": pl.Int64() for head in HEADS},
    **{f"logp_{head}": pl.List(pl.Float32()) for head in HEADS},
}
_NEEDED_MISSED = ("field_id", "expert_code")


def read_left_out(path: Path) -> pl.DataFrame:
    """Read the predictions of cells that a fold, or each of all, left out; RunError for another kind of table."""
    columns = _LEFT_OUT | {"specimen": pl.String(), "cut": pl.Boolean()}
    advice = "remove it and train its fold again with --resume"
    return read_columns(path, columns, tuple(_LEFT_OUT), nullable=("expert_code",), error=RunError, advice=advice)


def read_missed(path: Path, needed: Collection[str] = _NEEDED_MISSED) -> pl.DataFrame:
    """Read the expert cells that no contour matched; RunError for another kind of table."""
    columns = MISSED_SCHEMA | {"patient_id": pl.String()}
    advice = "make the crop set again with `marrowscope prepare`, or copy the file again"
    return read_columns(path, columns, needed, error=RunError, advice=advice)


def fold_folder(crossfit: Path, fold: int) -> Path:
    """Folder of one fold's training inside a cross-fit folder."""
    return crossfit / f"fold-{fold}"


def crossfit_cells(
    folder: Path,
    calibration: Calibration | None,
    decision_tau: float | None,
    vocabulary: Vocabulary,
    rule: JointRule | None = None,
) -> tuple[pl.DataFrame, dict[str, Patient]]:
    """Read a finished cross-fit: its cells, each called by the member that never saw the patient, and its patients.

    Probabilities are those of the exported graphs: temperatures of ``calibration``, class shares of ``decision_tau``;
    ``rule`` is the bundle's, so that cells are called as a prediction calls them.
    One member represents the ensemble, whose error is slightly smaller. Cells that no contour matched are in the
    folder's ``missed.parquet``; without that file every cell counts as found. Cells cut by the image edge are left out
    of the count, found or missed. The specimen is unknown where the crop set is of a version that kept none.
    """
    cells = _whole(read_left_out(folder / OOF_NAME))
    labeled = cells.filter(pl.col("expert_code").is_not_null())
    temperatures = calibration.temperatures() if calibration else {}
    parts = [
        _called(
            part,
            read_priors(fold_folder(folder, int(fold)) / CLASSIFIER_NAME, decision_tau)[1],
            temperatures,
            vocabulary,
            rule,
        )
        for (fold,), part in labeled.group_by("fold", maintain_order=True)
    ]
    missed = folder / MISSED_NAME
    if missed.is_file():
        fold_of = dict(labeled.select("patient_id", "fold").unique().iter_rows())
        table = _whole(read_missed(missed, (*_NEEDED_MISSED, "patient_id"))).filter(
            pl.col("patient_id").is_in(list(fold_of))
        )
        parts.append(
            table.select(
                "patient_id",
                "field_id",
                pl.col("expert_code").alias("code"),
                pl.lit(value=False).alias("counted"),
                pl.lit(None, pl.String()).alias("called_category"),
                pl.lit(None, pl.Boolean()).alias("called_cblc"),
                pl.col("patient_id").replace_strict(fold_of, return_dtype=pl.Int64()).alias("group"),
            )
        )
    specimen = pl.col("specimen") if "specimen" in labeled.columns else pl.lit(UNKNOWN).alias("specimen")
    stated = labeled.select("patient_id", "center", "diagnosis", specimen)
    people = {
        name: Patient(name, center, diagnosis or UNKNOWN, specimen or UNKNOWN)
        for name, center, diagnosis, specimen in stated.unique().iter_rows()
    }
    return pl.concat([part.cast(_SCHEMA) for part in parts]), people  # type: ignore[arg-type]


def _whole(cells: pl.DataFrame) -> pl.DataFrame:
    """Leave out the cells cut by an edge; tables of earlier versions do not mark them."""
    return cells.filter(~pl.col("cut")) if "cut" in cells.columns else cells


def left_out_calls(
    part: pl.DataFrame,
    priors: Mapping[str, HeadPriors],
    temperatures: Mapping[str, float],
    vocabulary: Vocabulary,
    rule: JointRule | None = None,
) -> Calls:
    """Call the cells ``part`` of one fold, rows of ``oof.parquet``, as the graph of the fold's member would."""

    def probabilities(head: str) -> NDArray[np.float64]:
        logits = part[f"logp_{head}"].to_numpy().astype(np.float64)
        return apply_temperature(logits, priors[head].implied, priors[head].wanted, temperatures.get(head, 1.0))

    return decode_calls(
        probabilities("category"), probabilities("cblc")[:, 1], probabilities("countable")[:, 1], vocabulary, rule
    )


def _called(
    part: pl.DataFrame,
    priors: Mapping[str, HeadPriors],
    temperatures: Mapping[str, float],
    vocabulary: Vocabulary,
    rule: JointRule | None,
) -> pl.DataFrame:
    """Return the calls of one fold's member on the cells it left out."""
    calls = left_out_calls(part, priors, temperatures, vocabulary, rule)
    return pl.DataFrame(
        {
            "patient_id": part["patient_id"],
            "field_id": part["field_id"],
            "code": part["expert_code"],
            "counted": calls.is_countable,
            "called_category": [vocabulary.categories[index] for index in calls.category_index],
            "called_cblc": calls.is_cblc,
            "group": part["fold"],
        }
    )
