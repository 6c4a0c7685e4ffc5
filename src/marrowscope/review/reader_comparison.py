"""Blinded readers compared over the patients of a station: kappas, confusions and ratios, as rows of tables.

1. A cell enters the comparison of some readers if all of them named it. *Not a cell*, a split, a merge, and a drawn
   cell that has no like in a reading are one name: there is no cell of that outline.
2. Codes are compared as categories and as lineages: Cohen's kappa for each pair of readers, Fleiss' for three or more.
3. A reader's ratio of a patient is x of n of the cells that all readers of the patient named, so that readers are not
   compared on different cells.

Pure but for ``write_comparison``.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from marrowscope.disk import new_folder, write_text
from marrowscope.errors import InputError, ReviewError
from marrowscope.review.agreement import (
    cohen_by_name,
    cohen_kappa,
    confuse_readers,
    count_ratings,
    fleiss_kappa,
    group_confusion,
    group_ratings,
    kappa_by_name,
    kappa_over_patients,
)
from marrowscope.review.audit import CBLC, NOT_COUNTABLE, side_of
from marrowscope.review.consensus import NO_NAME, NOT_A_CELL
from marrowscope.review.ratio_agreement import bland_altman, intraclass_correlation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from marrowscope.records import Interval
    from marrowscope.review.agreement import Kappa
    from marrowscope.review.patient_state import PatientState
    from marrowscope.vocabulary import Vocabulary

Level = Literal["category", "lineage"]
Measure = Literal["bias", "lower_limit", "upper_limit", "icc"]
Readings = dict[str, dict[str, dict[str, str]]]
"""Codes, or ``NOT_A_CELL``, by patient, cell and reader."""

_PAIR, _FEWEST_PATIENTS = 2, 3


@dataclass(frozen=True, slots=True)
class KappaRow:
    """One kappa: of all names together where ``name`` is empty, else of one name against all others.

    ``lower`` and ``upper`` take cells as independent; ``patients_lower`` and ``patients_upper`` resample whole
    patients, and are NaN but for a pair of readers on all names with two patients or more.
    """

    readers: str
    level: Level
    name: str
    kappa: float
    lower: float
    upper: float
    patients_lower: float
    patients_upper: float
    agreement: float
    n_cells: int
    n_patients: int


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """Cells of one pair of readers that the first named ``name_first`` and the second ``name_second``."""

    first: str
    second: str
    name_first: str
    name_second: str
    n_cells: int


@dataclass(frozen=True, slots=True)
class RatioRow:
    """A reader's x of n of a patient, of the cells that all its readers named; NaN without a countable one."""

    patient_id: str
    reader: str
    n_cblc: int
    n_countable: int
    cblc_ratio: float


@dataclass(frozen=True, slots=True)
class RatioAgreementRow:
    """Bland's and Altman's bias and limits of a pair (first minus second), or the ICC(2,1) of several readers."""

    readers: str
    measure: Measure
    value: float
    lower: float
    upper: float
    n_patients: int


_Row = KappaRow | ConfusionRow | RatioRow | RatioAgreementRow


@dataclass(frozen=True, slots=True)
class ReaderComparison:
    """What was compared: one table each."""

    kappas: tuple[KappaRow, ...]
    confusions: tuple[ConfusionRow, ...]
    ratios: tuple[RatioRow, ...]
    ratio_agreement: tuple[RatioAgreementRow, ...]


def compare_readers(states: Mapping[str, PatientState], vocabulary: Vocabulary) -> ReaderComparison:
    """Compare the readers of patients of a review, by what each says of each cell, as ``compare_opinions`` does."""
    return compare_opinions({patient: state.opinions for patient, state in states.items()}, vocabulary)


def compare_opinions(
    opinions: Mapping[str, Mapping[str, Mapping[str, str]]], vocabulary: Vocabulary
) -> ReaderComparison:
    """Compare readers by what each says, by patient, cell and reader: a code, else what ``consensus`` has instead.

    Raises ReviewError where no two readers named one cell.
    """
    readings: Readings = {patient: named for patient, said in opinions.items() if (named := _named(said, vocabulary))}
    readers = sorted({reader for cells in readings.values() for said in cells.values() for reader in said})
    pairs = [(a, b) for a, b in combinations(readers, _PAIR) if _common(readings, (a, b))]
    if not pairs:
        message = "found no cell that two blinded readers named, expected some; assign patients, and let them read"
        raise ReviewError(message)
    kappas: list[KappaRow] = []
    confusions: list[ConfusionRow] = []
    for pair in pairs:
        kappas += _pair_kappas(readings, pair, vocabulary)
        confusions += _confusion_rows(readings, pair, vocabulary)
    if len(readers) > _PAIR:
        kappas += _joint_kappas(readings, readers, vocabulary)
    ratios = tuple(_ratios(readings, vocabulary))
    return ReaderComparison(tuple(kappas), tuple(confusions), ratios, tuple(_ratio_agreement(ratios, readers)))


def comparison_tables(found: ReaderComparison) -> dict[str, str]:
    """Return the tables as CSV, by the name of their file; an empty table has its header."""
    tables: dict[str, tuple[type[_Row], Sequence[_Row]]] = {
        "kappa.csv": (KappaRow, found.kappas),
        "confusion.csv": (ConfusionRow, found.confusions),
        "ratios.csv": (RatioRow, found.ratios),
        "ratio-agreement.csv": (RatioAgreementRow, found.ratio_agreement),
    }
    texts = {}
    for name, (kind, rows) in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _plain(value) for key, value in asdict(row).items()} for row in rows)
        texts[name] = text.getvalue()
    return texts


def write_comparison(found: ReaderComparison, out: Path, *, overwrite: bool | None = None) -> None:
    """Write the tables as CSV into the new or empty folder ``out``; ``overwrite`` as of ``new_folder``."""
    with new_folder(out, "comparison of readers", overwrite=overwrite, error=InputError) as folder:
        for name, text in comparison_tables(found).items():
            write_text(folder / name, text)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4f}"
    return value


def _named(opinions: Mapping[str, Mapping[str, str]], vocabulary: Vocabulary) -> dict[str, dict[str, str]]:
    """Return the codes by cell and reader; a cell that was drawn without a name says nothing."""
    return {
        cell: {
            reader: code if code in vocabulary.codes else NOT_A_CELL for reader, code in said.items() if code != NO_NAME
        }
        for cell, said in opinions.items()
    }


def _common(readings: Readings, readers: Sequence[str]) -> dict[str, list[list[str]]]:
    """Return what each of ``readers`` said of the cells that all of them named, by patient."""
    found: dict[str, list[list[str]]] = {}
    for patient, cells in readings.items():
        both = [said for said in cells.values() if all(reader in said for reader in readers)]
        if both:
            found[patient] = [[said[reader] for said in both] for reader in readers]
    return found


def _groups(vocabulary: Vocabulary) -> dict[Level, dict[str, str]]:
    """Return the category and the lineage of each code; what is not a cell is a group of its own."""
    codes = vocabulary.codes.values()
    return {
        "category": {**{code.code: code.category for code in codes}, NOT_A_CELL: NOT_A_CELL},
        "lineage": {**{code.code: code.lineage for code in codes}, NOT_A_CELL: NOT_A_CELL},
    }


def _row(readers: Sequence[str], level: Level, name: str, found: Kappa, n_patients: int) -> KappaRow:
    of = found.kappa
    nan = float("nan")
    return KappaRow(
        ", ".join(readers),
        level,
        name,
        of.estimate,
        of.lower,
        of.upper,
        nan,
        nan,
        found.agreement,
        found.n_cells,
        n_patients,
    )


def _pair_kappas(readings: Readings, pair: tuple[str, str], vocabulary: Vocabulary) -> Iterator[KappaRow]:
    by_patient = list(_common(readings, pair).values())
    for level, group_of in _groups(vocabulary).items():
        tables = [
            group_confusion(confuse_readers(first, second, tuple(group_of)), group_of) for first, second in by_patient
        ]
        whole = replace(tables[0], counts=sum((table.counts for table in tables[1:]), tables[0].counts))
        over = kappa_over_patients([table.counts for table in tables])
        row = _row(pair, level, "", cohen_kappa(whole.counts), len(tables))
        yield replace(row, patients_lower=over.lower, patients_upper=over.upper)
        for name, found in cohen_by_name(whole).items():
            yield _row(pair, level, name, found, len(tables))


def _joint_kappas(readings: Readings, readers: Sequence[str], vocabulary: Vocabulary) -> Iterator[KappaRow]:
    common = _common(readings, readers)
    named = [[code for said in common.values() for code in said[k]] for k in range(len(readers))]
    for level, group_of in _groups(vocabulary).items():
        ratings, names = group_ratings(count_ratings(named, tuple(group_of)), tuple(group_of), group_of)
        yield _row(readers, level, "", fleiss_kappa(ratings), len(common))
        for name, found in kappa_by_name(ratings, names).items():
            yield _row(readers, level, name, found, len(common))


def _confusion_rows(readings: Readings, pair: tuple[str, str], vocabulary: Vocabulary) -> Iterator[ConfusionRow]:
    group_of = _groups(vocabulary)["category"]
    first, second = ([code for said in _common(readings, pair).values() for code in said[k]] for k in (0, 1))
    found = group_confusion(confuse_readers(first, second, tuple(group_of)), group_of)
    for i, j in np.argwhere(found.counts):
        yield ConfusionRow(*pair, found.names[i], found.names[j], int(found.counts[i, j]))


def _ratios(readings: Readings, vocabulary: Vocabulary) -> Iterator[RatioRow]:
    for patient, cells in readings.items():
        readers = sorted({reader for said in cells.values() for reader in said})
        common = _common({patient: cells}, readers)
        for reader, codes in zip(readers, common.get(patient, []), strict=False):
            sides = [side_of(None if code == NOT_A_CELL else code, vocabulary) for code in codes]
            x, n = sides.count(CBLC), len(sides) - sides.count(NOT_COUNTABLE)
            yield RatioRow(patient, reader, x, n, x / n if n else float("nan"))


def _ratio_agreement(ratios: Sequence[RatioRow], readers: Sequence[str]) -> Iterator[RatioAgreementRow]:
    """Compare ratios wherever three patients or more have one of each reader."""
    of: dict[str, dict[str, float]] = defaultdict(dict)
    for row in ratios:
        if row.n_countable:
            of[row.patient_id][row.reader] = row.cblc_ratio
    for group in (*combinations(readers, _PAIR), *([tuple(readers)] if len(readers) > _PAIR else [])):
        table = np.array([[own[name] for name in group] for own in of.values() if all(name in own for name in group)])
        if len(table) < _FEWEST_PATIENTS:
            continue
        who = ", ".join(group)
        if len(group) == _PAIR:
            found = bland_altman(table[:, 0].tolist(), table[:, 1].tolist())
            yield _measured(who, "bias", found.bias, len(table))
            yield _measured(who, "lower_limit", found.lower, len(table))
            yield _measured(who, "upper_limit", found.upper, len(table))
        yield _measured(who, "icc", intraclass_correlation(table), len(table))


def _measured(readers: str, measure: Measure, found: Interval, n_patients: int) -> RatioAgreementRow:
    return RatioAgreementRow(readers, measure, found.estimate, found.lower, found.upper, n_patients)
