"""The data sets that a bundle's members learned from, with their training cells by code, counted in the crop sets.

A person states name, license and centers of a source; nobody types a count. What is simulated is known from the mark in
each photograph, which `prepare` notes for every crop; a statement that contradicts it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import Field

from marrowscope.bundle.description import TrainingSource
from marrowscope.cohort.folds import read_split
from marrowscope.config import StageConfig, load_record
from marrowscope.errors import InputError
from marrowscope.imaging import sha256_file
from marrowscope.runs.parquet import read_columns
from marrowscope.train.checkpoint import SPLIT_NAME
from marrowscope.train.crop_set import CELLS_NAME, CELLS_SCHEMA, SUMMARY_NAME, CropSetSummary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.train.training_record import FinishedTraining

_AGAIN = "make the crop set again with `marrowscope prepare`"
_COLUMNS = ("patient_id", "center", "source", "expert_code")
_NAMES = {True: "simulated cells", False: "cells of photographs"}
"""Names of the sources of a bundle whose description states none."""


class DescribedSource(StageConfig):
    """One data set as a person states it; its cells are counted by ``centers``."""

    name: str = Field(min_length=1, description="of the data set")
    license: str = Field(min_length=1, description="SPDX identifier, or the terms in words")
    attribution: str = Field(default="", description="the credit its license asks for")
    doi: str = Field(default="", description="of the data set or its paper, without https://doi.org/")
    simulated: bool = Field(description="its cells are drawn by a program")
    centers: tuple[str, ...] = Field(min_length=1, description="centers of the crop set that its patients belong to")


def count_sources(
    described: Sequence[DescribedSource],
    members: Sequence[tuple[Path, FinishedTraining]],
    crops: Path,
    license_name: str,
) -> tuple[TrainingSource, ...]:
    """Return the sources of ``members``, pairs of training folder and record, with their training cells by label.

    A member's crop set is looked for where its training used it, and in ``crops``. Without ``described`` sources, all
    simulated cells are one and all others another, under ``license_name``; there are none where a crop set does not
    say which are simulated, or is not there. Raises InputError for described sources that do not fit the cells.
    """
    table = _training_cells(members, crops)
    if table is None:
        if described:
            message = (
                f"{crops}: found no crop set of each member, expected it to count the cells of "
                f"{count_of(len(described), 'source')}; pass its current folder with --crops"
            )
            raise InputError(message)
        return ()
    if not described:
        if table["simulated"].null_count():
            return ()
        parts = table.partition_by("simulated", as_dict=True)
        return tuple(
            TrainingSource(name=_NAMES[flag], license=license_name, simulated=flag, n_cells=_by_label(parts[flag,]))
            for flag in (False, True)
            if (flag,) in parts
        )
    _check_centers(described, table["center"].unique().sort().to_list())
    return tuple(_counted(source, table.filter(pl.col("center").is_in(source.centers))) for source in described)


def _training_cells(members: Sequence[tuple[Path, FinishedTraining]], crops: Path) -> pl.DataFrame | None:
    """Return the annotated cells that some member was trained on, each once; None where a crop set is not there.

    ``simulated`` is null where nobody knows.
    """
    parts: dict[str, tuple[pl.DataFrame, set[str]]] = {}
    for folder, record in members:
        wanted = record.data_sha256[CELLS_NAME]
        if wanted not in parts:
            places = (Path(record.crops), crops)
            found = next((place for place in places if holds_cells(place, wanted)), None)
            if found is None:
                return None
            parts[wanted] = _annotated(found), set()
        parts[wanted][1].update(name for name, role in read_split(folder / SPLIT_NAME).items() if role == "train")
    return pl.concat([table.filter(pl.col("patient_id").is_in(sorted(names))) for table, names in parts.values()])


def _annotated(crops: Path) -> pl.DataFrame:
    """Return patient, center, label and ``simulated`` of the cells that an expert labeled.

    Each stands for its expert crop, and for its predicted one in a crop set that has no others.
    """
    table = read_columns(
        crops / CELLS_NAME, CELLS_SCHEMA, _COLUMNS, nullable=("expert_code",), error=InputError, advice=_AGAIN
    )
    if "simulated" not in table.columns:  # an earlier version, which noted it for the whole set alone
        summary = load_record(CropSetSummary, crops / SUMMARY_NAME, error=InputError, advice=_AGAIN)
        known = True if summary.simulated else None
        table = table.with_columns(pl.lit(known, pl.Boolean()).alias("simulated"))
    source = "expert" if (table["source"] == "expert").any() else "predicted"
    chosen = (pl.col("source") == source) & pl.col("expert_code").is_not_null()
    return table.filter(chosen).select("patient_id", "center", "expert_code", "simulated")


def holds_cells(crops: Path, cells_sha256: str) -> bool:
    """Tell whether a crop set is there and has the table with this hash."""
    table = crops / CELLS_NAME
    return table.is_file() and sha256_file(table) == cells_sha256


def _by_label(cells: pl.DataFrame) -> dict[str, int]:
    """Count the cells of each label, by name."""
    return dict(cells["expert_code"].value_counts().sort("expert_code").iter_rows())


def _counted(source: DescribedSource, cells: pl.DataFrame) -> TrainingSource:
    """Count a source's cells; refuse a statement on what is simulated that the photographs contradict."""
    wrong = int((cells["simulated"] != source.simulated).sum())
    if wrong:
        marked = "simulated" if not source.simulated else "not simulated"
        message = (
            f"sources, {source.name}: found {count_of(wrong, 'cell')} of photographs that are {marked}, expected none "
            f"beside simulated = {str(source.simulated).lower()}; correct the source or its centers"
        )
        raise InputError(message)
    return TrainingSource(**source.model_dump(exclude={"centers"}), n_cells=_by_label(cells))


def _check_centers(described: Sequence[DescribedSource], found: Sequence[str]) -> None:
    """Refuse a center of two sources, of none, or of no training cell."""
    stated = [center for source in described for center in source.centers]
    twice = sorted({center for center in stated if stated.count(center) > 1})
    unknown, absent = sorted(set(stated) - set(found)), sorted(set(found) - set(stated))
    faults = [
        f"center {', '.join(names)} {what}"
        for names, what in ((twice, "twice"), (unknown, "without a training cell"), (absent, "in no source"))
        if names
    ]
    if faults:
        message = (
            f"sources: found {' and '.join(faults)}, expected each of {', '.join(found)} in one source; correct the "
            "centers of [[sources]] in the description"
        )
        raise InputError(message)
