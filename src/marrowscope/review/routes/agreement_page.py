"""The agreement of blinded readers as a page with figures, and its tables as CSV, for signers and auditors.

What a reader said of a patient is not told to another of its blinded readers before the patient is signed, so such
patients are left out of what that reader is shown, and the page says how many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from marrowscope.errors import ReviewError
from marrowscope.report.strings import load_strings
from marrowscope.review.agreement_figures import (
    bland_altman_figure,
    confusion_figure,
    in_order,
    kappa_figure,
    limits_of,
    name_of,
    two,
)
from marrowscope.review.guard import COMPARE, RefusedError, station_of
from marrowscope.review.reader_comparison import ReaderComparison, compare_opinions, comparison_tables
from marrowscope.review.routes.review_pages import language_of, station_page
from marrowscope.review.sessions import Session
from marrowscope.statistics.intervals import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from marrowscope.report.plot import Drawing
    from marrowscope.report.strings import Strings
    from marrowscope.review.reader_comparison import KappaRow
    from marrowscope.review.station import Station

router = APIRouter()
_PAIR = 2


@dataclass(frozen=True, slots=True)
class _Compared:
    """A comparison, or why there is none; ``n_left_out`` are the cells of each patient that not all readers named."""

    found: ReaderComparison
    problem: str | None
    n_left_out: Mapping[str, int]


@router.get("/agreement")
def agreement_page(request: Request, session: Annotated[Session, Depends(COMPARE)]) -> HTMLResponse:
    """Show how far blinded readers agree."""
    compared, n_withheld = _compared(request, session)
    t, found = load_strings(language_of(request)), compared.found
    order = station_of(request).vocabulary.categories
    groups = sorted(dict.fromkeys(row.readers for row in found.kappas), key=lambda names: -names.count(", "))
    return station_page(
        request,
        "agreement.html.j2",
        session,
        groups=[_group(found, names, order, t) for names in groups],
        ratios=_ratio_lines(compared),
        n_patients=len(compared.n_left_out),
        n_withheld=n_withheld,
        problem=compared.problem,
        tables=list(comparison_tables(found)),
    )


@router.get("/agreement/{table}")
def agreement_table(request: Request, table: str, session: Annotated[Session, Depends(COMPARE)]) -> Response:
    """Return one of the tables that `marrowscope review agreement` writes."""
    tables = comparison_tables(_compared(request, session)[0].found)
    if table not in tables:
        raise RefusedError(404, f"found no table {table!r}, expected one of {', '.join(tables)}")
    headers = {"Content-Disposition": f'attachment; filename="{table}"'}
    return Response(tables[table], media_type="text/csv; charset=utf-8", headers=headers)


def _compared(request: Request, session: Session) -> tuple[_Compared, int]:
    """Compare the patients that ``session`` may see compared; the other number is of those withheld from it.

    The result is kept under the last event of each patient: it takes a fold of each, and resamples whole patients.
    """
    station = station_of(request)
    known = {name: of for name, of in station.progress.patients().items() if name in station.cells.rows}
    assigned = {name: of for name, of in known.items() if of.was_assigned}
    shown = {name: of for name, of in assigned.items() if session.reader not in of.blinded or of.is_locked}
    key = tuple((name, of.sequence) for name, of in shown.items())
    return station.comparisons.get(key, lambda: _compare(station, shown)), len(assigned) - len(shown)


def _compare(station: Station, patients: Iterable[str]) -> _Compared:
    opinions = {name: station.state(name).opinions for name in patients}
    n_left_out = {name: _n_left_out(said) for name, said in opinions.items()}
    try:
        return _Compared(compare_opinions(opinions, station.vocabulary), None, n_left_out)
    except ReviewError as error:
        return _Compared(ReaderComparison((), (), (), ()), str(error), n_left_out)


def _n_left_out(opinions: Mapping[str, Mapping[str, str]]) -> int:
    readers = {reader for said in opinions.values() for reader in said}
    return sum(len(said) < len(readers) for said in opinions.values())


def _group(found: ReaderComparison, names: str, order: Sequence[str], t: Strings) -> dict[str, Any]:
    """Return what the page shows of one pair of readers, or of all together."""
    rows = in_order(row for row in found.kappas if row.readers == names)
    measured = [row for row in found.ratio_agreement if row.readers == names]
    icc = next((row for row in measured if row.measure == "icc"), None)
    readers = tuple(names.split(", "))
    figures: list[tuple[str, Drawing]] = [("kappa", kappa_figure(rows, t))]
    if len(readers) == _PAIR:
        pair = (readers[0], readers[1])
        figures.append(
            (
                "confusion",
                confusion_figure([row for row in found.confusions if (row.first, row.second) == pair], order, t),
            )
        )
        drawn = bland_altman_figure(pair, found.ratios, measured, t)
        figures += [("bland_altman", drawn)] if drawn is not None else []
    return {
        "names": names,
        "is_pair": len(readers) == _PAIR,
        "overall": [_kappa_line(row, t) for row in rows if not row.name],
        "lines": [_kappa_line(row, t) for row in rows],
        "icc": None if icc is None or math.isnan(icc.value) else f"{icc.value:.2f} ({icc.lower:.2f} - {icc.upper:.2f})",
        "icc_patients": None if icc is None else icc.n_patients,
        "figures": [(key, Markup(drawing.inline())) for key, drawing in figures],  # noqa: S704  Drawing escapes
    }


def _kappa_line(row: KappaRow, t: Strings) -> dict[str, Any]:
    lower, upper = limits_of(row)
    return {
        "name": name_of(row, t),
        "level": row.level,
        "is_all": not row.name,
        "kappa": "" if math.isnan(row.kappa) else two(row.kappa),
        "interval": "" if math.isnan(lower) else f"{two(lower)} - {two(upper)}",
        "agreement": "" if math.isnan(row.agreement) else f"{100 * row.agreement:.1f}%",
        "n_cells": row.n_cells,
        "n_patients": row.n_patients,
    }


def _ratio_lines(compared: _Compared) -> list[dict[str, Any]]:
    """Return each reader's x of n of each patient with its interval, and the cells that not all readers named."""
    lines = []
    for row in compared.found.ratios:
        limits = wilson_interval(row.n_cblc, row.n_countable) if row.n_countable else None
        lines.append(
            {
                "patient_id": row.patient_id,
                "reader": row.reader,
                "x": row.n_cblc,
                "n": row.n_countable,
                "ratio": f"{100 * row.cblc_ratio:.1f}%" if limits else "",
                "interval": f"{100 * limits.lower:.1f} - {100 * limits.upper:.1f}%" if limits else "",
                "left_out": compared.n_left_out[row.patient_id],
            }
        )
    return lines
