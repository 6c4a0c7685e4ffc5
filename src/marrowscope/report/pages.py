"""What the pages say, as records made from a run's tables; no pixels and no HTML here.

A page is a plain record that a template prints. Everything a reader needs to check the ratio is on it: the
numerator, the denominator, what was left out and why, and each cell with its probabilities.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.report.palette import OTHER, category_color, lineage_color
from marrowscope.report.pictures import svg_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars as pl

    from marrowscope.records import ContourArray

UNCERTAIN_BELOW = 0.7
"""A cell called CBLC with less than this probability is marked as uncertain."""

MAX_MOST_CERTAIN, MAX_LEAST_CERTAIN = 180, 60
N_NEAR_MISSES = 27
REASONS = {
    "too_small": "smaller than a nucleated cell",
    "too_large": "larger than one cell",
    "not_round": "outline not round enough",
    "edge": "cut by the edge of the image",
}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


@dataclass(frozen=True, slots=True)
class CellMark:
    """One contour of a field as drawn: SVG path, label, colour, and what was called."""

    cell_id: str
    field_number: int
    contour_xy: ContourArray
    path: str
    label_x: float
    label_y: float
    category: str
    color: str
    p_category: float
    p_cblc: float
    is_cblc: bool
    is_countable: bool
    contradiction: bool
    reject_reason: str | None

    @property
    def uncertain(self) -> bool:
        """Whether the call needs a second look: a low probability, or heads that contradict each other."""
        return self.contradiction or (self.is_cblc and self.p_cblc < UNCERTAIN_BELOW)

    @property
    def sentence(self) -> str:
        """What was called, for tooltips and screen readers."""
        if self.reject_reason is not None:
            return f"Contour left out: {reason_words(self.reject_reason)}"
        parts = [f"{self.category} ({self.p_category:.2f})", f"CBLC {self.p_cblc:.2f}"]
        parts.append("called CBLC" if self.is_cblc else "not CBLC" if self.is_countable else "not countable")
        if self.contradiction:
            parts.append("heads contradict each other")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class FieldPage:
    """One field of a patient; without a picture ``problem`` says why (a failed image has no size either)."""

    number: int
    name: str
    path: str
    sha256: str
    um_per_px: float | None
    width_px: int
    height_px: int
    failed: str | None
    kept: tuple[CellMark, ...]
    rejected: tuple[CellMark, ...]

    @property
    def n_cblc(self) -> int:
        """Cells called CBLC in this field."""
        return sum(mark.is_cblc for mark in self.kept)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a differential: counts, share of the countable cells (None without any), bar length 0-1.

    ``group_order`` is the position of the line's lineage, so that a template keeps lineages together.
    """

    key: str
    name: str
    color: str
    n: int
    share: float | None
    length: float
    n_cblc: int = 0
    group_order: int = 0


@dataclass(frozen=True, slots=True)
class PatientPage:
    """One patient; ``row`` is the row of the patients table."""

    row: Mapping[str, Any]
    file_name: str
    fields: tuple[FieldPage, ...]
    rejected: tuple[tuple[str, int], ...]
    by_lineage: tuple[Bar, ...]
    by_category: tuple[Bar, ...]
    n_other_apart: int
    most_certain: tuple[CellMark, ...]
    least_certain: tuple[CellMark, ...]
    near_misses: tuple[CellMark, ...]
    n_gallery_left_out: int

    @property
    def failures(self) -> tuple[FieldPage, ...]:
        """Fields that could not be read."""
        return tuple(page for page in self.fields if page.failed is not None)

    @property
    def gallery(self) -> tuple[CellMark, ...]:
        """Every cell of the galleries."""
        return (*self.most_certain, *self.least_certain, *self.near_misses)


def patient_page(
    row: Mapping[str, Any], file_name: str, fields: pl.DataFrame, cells: pl.DataFrame, names: Mapping[str, str]
) -> PatientPage:
    """Make one patient's page from the run's tables cut to the patient; ``names`` gives each category's name."""
    lineage_of = {line["category"]: line["lineage"] for line in row["differential"]}
    pages = field_pages(fields, cells, lineage_of)
    kept = [mark for page in pages for mark in page.kept]
    # Ties are broken by the cell's id, so that a report is the same each time it is written.
    called = sorted((mark for mark in kept if mark.is_cblc), key=lambda mark: (-mark.p_cblc, mark.cell_id))
    others = sorted((mark for mark in kept if not mark.is_cblc), key=lambda mark: (-mark.p_cblc, mark.cell_id))
    n_shown = MAX_MOST_CERTAIN + MAX_LEAST_CERTAIN
    fits = len(called) <= n_shown
    by_lineage, by_category, n_other_apart = differential_bars(
        row["differential"], names, Counter(mark.category for mark in called)
    )
    return PatientPage(
        row=row,
        file_name=file_name,
        fields=pages,
        rejected=tuple((reason_words(item["reason"]), item["n"]) for item in row["rejected"] or ()),
        by_lineage=by_lineage,
        by_category=by_category,
        n_other_apart=n_other_apart,
        most_certain=tuple(called if fits else called[:MAX_MOST_CERTAIN]),
        least_certain=() if fits else tuple(called[-MAX_LEAST_CERTAIN:]),
        near_misses=tuple(others[:N_NEAR_MISSES]),
        n_gallery_left_out=max(0, len(called) - n_shown),
    )


def field_pages(fields: pl.DataFrame, cells: pl.DataFrame, lineage_of: Mapping[str, str]) -> tuple[FieldPage, ...]:
    """Give the patient's fields in table order, numbered from 1, each with its marks."""
    by_field = {str(key[0]): frame for key, frame in cells.group_by("field_id", maintain_order=True)}
    pages: list[FieldPage] = []
    for number, row in enumerate(fields.iter_rows(named=True), start=1):
        frame = by_field.get(row["field_id"])
        width, height = row["width_px"] or 0, row["height_px"] or 0
        marks = (
            [cell_mark(cell, number, width, lineage_of) for cell in frame.iter_rows(named=True)]
            if frame is not None
            else []
        )
        pages.append(
            FieldPage(
                number=number,
                name=row["field_id"].removeprefix(f"{row['patient_id']}/"),
                path=row["path"],
                sha256=row["sha256"] or "",
                um_per_px=row["um_per_px"],
                width_px=width,
                height_px=height,
                failed=None if row["status"] == "ok" else row["error"] or "could not be read",
                kept=tuple(mark for mark in marks if mark.reject_reason is None),
                rejected=tuple(mark for mark in marks if mark.reject_reason is not None),
            )
        )
    return tuple(pages)


def cell_mark(cell: Mapping[str, Any], field_number: int, width_px: int, lineage_of: Mapping[str, str]) -> CellMark:
    """Make one row of the cells table a mark; the label stands above the contour, inside the image."""
    contour = np.asarray(cell["contour_xy"], dtype=np.float64).reshape(-1, 2)
    category = cell["category"] or ""
    label_size = width_px / 75
    left, top = contour.min(axis=0) if len(contour) else (0.0, 0.0)
    right = contour[:, 0].max() if len(contour) else 0.0
    return CellMark(
        cell_id=cell["cell_id"],
        field_number=field_number,
        contour_xy=contour,
        path=svg_path(contour),
        label_x=round(float((left + right) / 2), 1),
        label_y=round(max(float(top) - label_size * 0.35, label_size), 1),
        category=category,
        color=category_color(category, lineage_of.get(category, "other")),
        p_category=max(cell["p_category"] or (0.0,)),
        p_cblc=cell["p_cblc"] or 0.0,
        is_cblc=bool(cell["is_cblc"]),
        is_countable=bool(cell["is_countable"]),
        contradiction=bool(cell["contradiction"]),
        reject_reason=cell["reject_reason"],
    )


def differential_bars(
    differential: Sequence[Mapping[str, Any]], names: Mapping[str, str], n_cblc: Mapping[str, int]
) -> tuple[tuple[Bar, ...], tuple[Bar, ...], int]:
    """Give the bars by lineage and by category, and how many ``Other`` cells stand outside of the count.

    Bars of categories are scaled to the largest category, bars of lineages to the whole.
    """
    longest = max((line["share"] or 0.0 for line in differential), default=0.0) or 1.0
    by_category: list[Bar] = []
    lineages: dict[str, int] = {}
    n_apart = 0
    for line in differential:
        lineage = line["lineage"]
        n_apart += line["n"] - line["n_countable"]
        lineages[lineage] = lineages.get(lineage, 0) + line["n_countable"]
        name = names.get(line["category"], "")
        if line["category"] == OTHER:
            name = f"{name} that count"
        color = category_color(line["category"], lineage)
        share = line["share"]
        by_category.append(
            Bar(
                key=line["category"],
                name=name,
                color=color,
                n=line["n_countable"],
                share=share,
                length=(share or 0.0) / longest,
                n_cblc=n_cblc.get(line["category"], 0),
                group_order=list(lineages).index(lineage),
            )
        )
    total = sum(lineages.values())
    by_lineage = tuple(
        Bar(name, name, lineage_color(name), n, n / total if total else None, n / total if total else 0.0)
        for name, n in lineages.items()
    )
    return by_lineage, tuple(by_category), n_apart


def reason_words(reason: str) -> str:
    """Give a reject reason in words; an unknown one as it is."""
    return REASONS.get(reason, reason.replace("_", " "))


def file_names(patient_ids: Iterable[str]) -> dict[str, str]:
    """Give each patient a file name that every system can hold and no other patient shares.

    An id of plain letters, digits, ``-`` and ``_`` keeps its name; any other gets a part of its hash, and so does an
    id that differs from another one only in letter case.
    """
    patient_ids = list(patient_ids)
    folded = [patient_id.casefold() for patient_id in patient_ids]
    names: dict[str, str] = {}
    for patient_id, plain in zip(patient_ids, folded, strict=True):
        if _SAFE_NAME.fullmatch(patient_id) and folded.count(plain) == 1:
            names[patient_id] = f"{patient_id}.html"
        else:
            stem = re.sub(r"[^A-Za-z0-9_-]+", "-", patient_id).strip("-")[:40] or "patient"
            names[patient_id] = f"{stem}-{sha256(patient_id.encode()).hexdigest()[:10]}.html"
    return names
