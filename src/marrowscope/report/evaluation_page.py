"""Write the page of an evaluation: read the tables, draw the figures, write figures/*.svg and index.html.

The page is self-contained: style and figures are inside it, it has no script, and its security policy forbids every
request. All text from the tables is escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup

from marrowscope.disk import write_text
from marrowscope.evaluate.across_centers import ACROSS_NATURE
from marrowscope.evaluate.catalog import CATALOG, CONFOUNDED_BY_CENTER, HEADLINES, PAGE_FIGURES, Better, Method
from marrowscope.evaluate.document import read_document
from marrowscope.evaluate.frames import ALL_CENTERS, ALL_EXPERT, MATCHED
from marrowscope.evaluate.ratio_scores import own_rates_sentence, threshold_sentence
from marrowscope.evaluate.scorer import FEW_PATIENTS
from marrowscope.evaluate.written_tables import normal_codes, read_tables
from marrowscope.imaging.names import file_names
from marrowscope.report.environment import asset, page_style, template_environment
from marrowscope.report.evaluation_call_figures import CALL_FIGURES
from marrowscope.report.evaluation_cell_figures import CELL_FIGURES
from marrowscope.report.evaluation_center import CenterTables
from marrowscope.report.evaluation_ratio_figures import RATIO_FIGURES
from marrowscope.report.flow_figures import FLOW_TITLES, flow_diagram
from marrowscope.report.html import RESEARCH_USE
from marrowscope.report.plot import STYLE, Drawing
from marrowscope.runs.schemas import CALLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import jinja2

    from marrowscope.evaluate.document import CenterRecord, CharacteristicRecord, EvaluationDocument, FigureRecord

_DRAWINGS = CELL_FIGURES | RATIO_FIGURES | CALL_FIGURES
_WARNING_SENTENCES = {CONFOUNDED_BY_CENTER: "AML against other diagnoses is {}."}
"""The sentence in the notice at the top for each warning, by key."""

_RAISED_LOW = 0.5
"""Start of a column's scale if more is better and no value is lower."""


@dataclass(frozen=True, slots=True)
class FigureGroup:
    """Figures under one heading; ``has_repetitions`` if those with N0 and M0 counted are left out because equal."""

    title: str
    figures: tuple[FigureRecord, ...]
    has_repetitions: bool


@dataclass(frozen=True, slots=True)
class HeadlineColumn:
    """A column of the table of centers: a figure's key and short title, and the scale of its marks."""

    key: str
    title: str
    low: float
    high: float
    scale_words: str


@dataclass(frozen=True, slots=True)
class NormalBlastTable:
    """normal_blasts.csv: the counted codes, one row per center and diagnosis, and the total number of such cells."""

    codes: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    n: int


@dataclass(frozen=True, slots=True)
class CenterPage:
    """One center as printed: its figures by group, its drawings, its tables as rows."""

    anchor: str
    center: str
    n_patients: int
    n_fields: int
    groups: tuple[FigureGroup, ...]
    headlines: tuple[FigureRecord, ...]
    drawings: tuple[tuple[str, str, Drawing], ...]
    not_drawn: tuple[str, ...]
    classes: tuple[Mapping[str, Any], ...]
    recalls: tuple[Mapping[str, Any], ...]
    patients: tuple[Mapping[str, Any], ...]
    calls: tuple[Mapping[str, Any], ...]
    subgroups: tuple[Mapping[str, Any], ...]


def write_evaluation_page(folder: Path) -> Path:
    """Draw what ``marrowscope evaluate`` wrote to ``folder`` and return the path of its index.html.

    Raises InputError if ``folder`` contains no evaluation, or one of another version.
    """
    document = read_document(folder)
    tables = read_tables(folder)
    columns = _columns(document)
    anchor_of = anchors(center.center for center in document.centers)
    pages = [_center_page(center, anchor_of[center.center], document, tables, columns) for center in document.centers]
    for page in pages:
        place = folder / "figures" / page.anchor
        place.mkdir(parents=True, exist_ok=True)
        for name, _, drawing in page.drawings:
            write_text(place / f"{name}.svg", drawing.standalone())
    flows = [(FLOW_TITLES[flow.key], flow_diagram(flow)) for flow in document.flows]
    for flow, (_, drawing) in zip(document.flows, flows, strict=True):
        write_text(folder / "figures" / f"flow_{flow.key}.svg", drawing.standalone())
    # The figures of all centers come first.
    ordered = sorted(pages, key=lambda page: page.center != ALL_CENTERS)
    text = (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            document=document,
            settings=document.config.model_dump(mode="json"),
            pages=ordered,
            rows=pages,
            columns=columns,
            flows=flows,
            table_1=_table_1(document.characteristics),
            normal_blasts=_normal_blasts(tables["normal_blasts.csv"]),
            warnings=_warnings(document),
        )
    )
    write_text(folder / "index.html", text.lstrip())
    return folder / "index.html"


def _warnings(document: EvaluationDocument) -> list[str]:
    """List one sentence per distinct warning of the figures, then those on a center's own rates and the threshold."""
    found = [figure.warning for center in document.centers for figure in center.figures if figure.warning]
    said = dict.fromkeys(_WARNING_SENTENCES[warning.key].format(warning.text) for warning in found)
    own = own_rates_sentence(document.own_rates) if document.own_rates else ""
    learned = threshold_sentence(document.config.threshold, document.run.bundle)
    return [*said, *(sentence for sentence in (own, learned) if sentence)]


def _center_page(
    center: CenterRecord,
    anchor: str,
    document: EvaluationDocument,
    tables: Mapping[str, pl.DataFrame],
    columns: Sequence[HeadlineColumn],
) -> CenterPage:
    name = center.center
    figures = {figure.key: figure for figure in center.figures}
    here = {
        table: frame if table == "patients.csv" and name == ALL_CENTERS else frame.filter(pl.col("center") == name)
        for table, frame in tables.items()
        if "center" in frame.columns
    }
    cut = CenterTables(
        record=center,
        confusion=here["confusion.csv"],
        per_class=here["per_class.csv"],
        reliability=here["reliability.csv"],
        roc=here["roc.csv"],
        patients=here["patients.csv"],
        risk_coverage=here["risk_coverage.csv"],
        decision_curve=here["decision_curve.csv"],
        categories=document.categories,
        aml_diagnoses=document.config.aml_diagnoses,
        threshold=document.config.threshold,
    )
    drawn = [(key, title, draw(cut)) for key, (title, draw) in _DRAWINGS.items()]
    off = (pl.col("predicted_ratio") - pl.col("true_ratio")).alias("difference")
    patients = here["patients.csv"].with_columns(off).sort(pl.col("difference").abs(), descending=True, nulls_last=True)
    return CenterPage(
        anchor=anchor,
        center=name,
        n_patients=center.n_patients,
        n_fields=center.n_fields,
        groups=_groups(center.figures),
        headlines=tuple(figures[column.key] for column in columns),
        drawings=tuple((key, title, drawing) for key, title, drawing in drawn if drawing is not None),
        not_drawn=tuple(title for _, title, drawing in drawn if drawing is None),
        classes=_class_rows(here["per_class.csv"]),
        recalls=tuple(here["recall_by_class.csv"].to_dicts()),
        patients=tuple(patients.to_dicts()),
        calls=tuple(here["calls.csv"].to_dicts()),
        subgroups=tuple(here["subgroups.csv"].to_dicts()),
    )


def _groups(figures: Sequence[FigureRecord]) -> tuple[FigureGroup, ...]:
    """Group figures under their headings, leaving out those that repeat another; one line mentions them instead."""
    groups = []
    for title, of_group in groupby(figures, key=lambda figure: CATALOG[figure.key].group):
        measured = tuple(of_group)
        kept = tuple(figure for figure in measured if not figure.same_as)
        groups.append(FigureGroup(title, kept, has_repetitions=len(kept) < len(measured)))
    return tuple(groups)


def _columns(document: EvaluationDocument) -> list[HeadlineColumn]:
    """Choose the main figures with their scales; if more is better and no value is below 0.5, the scale starts there.

    A figure that is a headline only where it was measured is left out if no center has it; the figures below the table
    say why.
    """
    columns = []
    for key, title in PAGE_FIGURES.items():
        figures = [figure for center in document.centers for figure in center.figures if figure.key == key]
        if HEADLINES[key].only_where_measured and all(figure.value is None for figure in figures):
            continue
        scale = CATALOG[key].scale
        ends = [end for figure in figures for end in (figure.value, figure.lower) if end is not None]
        raised = scale.better is Better.MORE and bool(ends) and min(ends) >= _RAISED_LOW
        low = _RAISED_LOW if raised else scale.low
        words = f"{low:g} to {scale.high:g}" + (", less is better" if scale.better is Better.LESS else "")
        columns.append(HeadlineColumn(key, title[0].upper() + title[1:], low, scale.high, words))
    return columns


def _class_rows(per_class: pl.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """Put the two ways of counting a category side by side, one row per category."""
    names = list(dict.fromkeys(per_class["category"]))
    found = {(row["category"], row["over"]): row for row in per_class.iter_rows(named=True)}
    return tuple(
        {"category": name, **{over: found.get((name, over)) for over in (ALL_EXPERT, MATCHED)}} for name in names
    )


def anchors(names: Iterable[str]) -> dict[str, str]:
    """Return a name per center that is safe as a folder and an anchor."""
    return {name: f"center-{anchor}" for name, anchor in file_names(names, plain=True).items()}


@dataclass(frozen=True, slots=True)
class Table1:
    """Table 1 as printed: the centers, and by row a name, a value and one cell of text per center."""

    centers: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


def _table_1(characteristics: Sequence[CharacteristicRecord]) -> Table1:
    """Put the characteristics into rows, with one column per center."""
    centers = tuple(dict.fromkeys(item.center for item in characteristics))
    cells = {(item.name, item.value, item.center): _characteristic_text(item) for item in characteristics}
    names = dict.fromkeys((item.name, item.value) for item in characteristics)
    return Table1(
        centers,
        tuple(
            (name, value, tuple(cells.get((name, value, center), "") for center in centers)) for name, value in names
        ),
    )


def _characteristic_text(item: CharacteristicRecord) -> str:
    """Return ``12 (40%)``, ``0.12 (0.05 to 0.30)`` or, if there is nothing to describe, a word that says so."""
    if item.n is not None:
        return f"{item.n:,}" + ("" if item.share is None else f" ({100 * item.share:.0f}%)")
    if item.median is None:
        return "not stated"
    return f"{item.median:.3g} ({item.lower_quartile:.3g} to {item.upper_quartile:.3g})"


def _normal_blasts(table: pl.DataFrame) -> NormalBlastTable:
    """Split the table of N0 and M0 into its codes and rows."""
    codes = normal_codes(table)
    return NormalBlastTable(tuple(codes), tuple(table.to_dicts()), int(sum(table[f"n_{code}"].sum() for code in codes)))


def _environment() -> jinja2.Environment:
    environment = template_environment()
    environment.filters["three"] = lambda value: "" if value is None else f"{value:.3f}"
    environment.filters["percent"] = lambda value, digits=1: "none" if value is None else f"{100 * value:.{digits}f}%"
    environment.filters["inline"] = lambda drawing: Markup(drawing.inline())  # noqa: S704  escaped while drawn
    environment.globals.update(
        research_use=RESEARCH_USE,
        style=page_style(),
        own_style=asset("evaluation.css"),
        plot_style=Markup(STYLE),  # noqa: S704  our own text
        catalog=CATALOG,
        method=Method,
        few_patients=FEW_PATIENTS,
        all_expert=ALL_EXPERT,
        matched=MATCHED,
        all_centers=ALL_CENTERS,
        calls=CALLS,
        across_nature=ACROSS_NATURE,
    )
    return environment
