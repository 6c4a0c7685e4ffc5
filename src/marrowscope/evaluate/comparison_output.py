"""Write a comparison as files: comparison.json, comparison.md to read; figures, decisions and patients as CSV."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import polars as pl
from pydantic import ConfigDict, Field

from marrowscope import __version__
from marrowscope.config import FrozenModel
from marrowscope.disk import write_text, written_whole
from marrowscope.evaluate.catalog import CATALOG
from marrowscope.evaluate.document import finite
from marrowscope.evaluate.link import EvaluateConfig
from marrowscope.evaluate.markdown import table_cell
from marrowscope.evaluate.ratio_scores import threshold_sentence
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.evaluate.comparison import Comparison
    from marrowscope.evaluate.paired_scores import PairedDecisions, PairedFigure

COMPARISON_KIND, COMPARISON_NAME = "comparison", "comparison.json"
COMPARISON_NATURE = (
    "A - B with a 95% interval. Each resample draws whole patients and uses them on both sides, so that what makes a "
    "patient hard cancels; DeLong's rows have his interval and test, decisions McNemar's exact test. No p is corrected "
    "for the number of figures: fix the one that decides before looking. Cell figures are over all expert cells, a "
    "missed cell counts as wrong."
)


class PairedFigureRecord(FrozenModel):
    """A figure of A and of B, and A - B with its interval; ``p`` only where a test was made; None if not defined."""

    model_config = ConfigDict(allow_inf_nan=False)

    key: str
    figure: str
    a: float | None
    b: float | None
    difference: float | None
    lower: float | None
    upper: float | None
    p: float | None
    interval: str
    n_patients: int
    undefined: str


class PairedDecisionsRecord(FrozenModel):
    """Decisions on the same patients: both right, only one, both wrong; ``p`` of McNemar's exact test."""

    model_config = ConfigDict(allow_inf_nan=False)

    key: str
    figure: str
    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    p: float | None
    undefined: str


class ComparedCenterRecord(FrozenModel):
    """One center, or all together."""

    center: str
    n_patients: int
    n_fields: int
    figures: tuple[PairedFigureRecord, ...]
    decisions: tuple[PairedDecisionsRecord, ...]


class ComparisonDocument(FrozenModel):
    """comparison.json."""

    schema_version: Literal[1] = 1
    marrowscope_version: str = __version__
    a: str
    b: str
    threshold_a: float | None
    threshold_b: float | None
    threshold_from_a: str = Field(default="", description="whose threshold it is, and on whom it was learned")
    threshold_from_b: str = ""
    config: EvaluateConfig
    nature: str
    n_fields: int
    n_fields_left_out: int
    centers: tuple[ComparedCenterRecord, ...]


def comparison_document(comparison: Comparison) -> ComparisonDocument:
    """Convert a comparison to the content of comparison.json; NaN becomes None."""
    own = comparison.config.threshold
    thresholds = [side.threshold if own is None else own for side in (comparison.a, comparison.b)]
    return ComparisonDocument(
        a=comparison.a.described,
        b=comparison.b.described,
        threshold_a=thresholds[0],
        threshold_b=thresholds[1],
        threshold_from_a=threshold_sentence(thresholds[0], comparison.a.bundle),
        threshold_from_b=threshold_sentence(thresholds[1], comparison.b.bundle),
        config=comparison.config,
        nature=COMPARISON_NATURE,
        n_fields=comparison.n_fields,
        n_fields_left_out=comparison.n_fields_left_out,
        centers=tuple(
            ComparedCenterRecord(
                center=center.center,
                n_patients=center.n_patients,
                n_fields=center.n_fields,
                figures=tuple(_figure_record(figure) for figure in center.figures),
                decisions=tuple(_decisions_record(decisions) for decisions in center.decisions),
            )
            for center in comparison.centers
        ),
    )


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.json, comparison.md, figures.csv, decisions.csv and patients.csv to ``folder``."""
    document = comparison_document(comparison)
    for name, frame in _tables(comparison, document).items():
        with written_whole(folder / name) as temporary:
            frame.write_csv(temporary)
    write_text(folder / "comparison.md", comparison_markdown(document))
    text = json.dumps(document.model_dump(mode="json"), indent=2, allow_nan=False)
    write_text(folder / COMPARISON_NAME, text + "\n")


def comparison_markdown(document: ComparisonDocument) -> str:
    """Return the comparison as tables to read."""
    fields = f"{count_of(document.n_fields, 'annotated field')} that both have"
    if document.n_fields_left_out:
        fields += f"; {document.n_fields_left_out} left out because one side or both lack them"
    lines = [
        "# Comparison",
        "",
        f"A: {document.a}. B: {document.b}. {fields[0].upper() + fields[1:]}.",
        "",
        document.nature,
        "",
        *(part for line in threshold_lines(document) for part in (table_cell(line), "")),
        "For research use only; it does not diagnose.",
    ]
    for center in document.centers:
        lines += ["", f"## {table_cell(center.center)}: {count_of(center.n_patients, 'patient')}", ""]
        lines += ["| figure | A | B | A - B | p | patients |", "|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(_figure_cells(figure))} |" for figure in center.figures]
        lines += ["", "| decisions | both right | only A | only B | both wrong | McNemar's exact p |"]
        lines.append("|---|---|---|---|---|---|")
        for row in center.decisions:
            counts = [row.both_right, row.only_a_right, row.only_b_right, row.both_wrong]
            cells = [str(n) for n in counts] if not row.undefined else ["", "", "", ""]
            lines.append(f"| {row.figure} | {' | '.join(cells)} | {p_text(row.p, row.undefined)} |")
    return "\n".join(lines) + "\n"


def threshold_lines(document: ComparisonDocument) -> list[str]:
    """Say by which threshold each side decides and on whom it was learned, once where both have the same."""
    a, b = document.threshold_from_a, document.threshold_from_b
    return [a] if a and a == b else [f"{name}: {said}" for name, said in (("A", a), ("B", b)) if said]


def p_text(p: float | None, undefined: str = "") -> str:
    """Return a p to three decimals, ``< 0.001``, why there is none, or nothing where no test was made."""
    if p is None:
        return f"not defined: {undefined}" if undefined else ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004  three decimals


def _figure_cells(figure: PairedFigureRecord) -> list[str]:
    if figure.undefined:
        return [figure.figure, "", "", f"not defined: {figure.undefined}", "", str(figure.n_patients)]
    a, b = ("not defined" if value is None else f"{value:.3f}" for value in (figure.a, figure.b))
    return [figure.figure, a, b, difference_text(figure), p_text(figure.p), str(figure.n_patients)]


def difference_text(figure: PairedFigureRecord) -> str:
    """Return ``+0.012 [-0.003, +0.027]``, or why there is no difference."""
    if figure.difference is None:
        return f"not defined: {figure.undefined}"
    if figure.lower is None or figure.upper is None:
        return f"{figure.difference:+.3f} [no interval]"
    return f"{figure.difference:+.3f} [{figure.lower:+.3f}, {figure.upper:+.3f}]"


def _figure_record(figure: PairedFigure) -> PairedFigureRecord:
    kind = CATALOG[figure.key]
    return PairedFigureRecord(
        key=figure.key,
        figure=kind.title,
        a=finite(figure.a),
        b=finite(figure.b),
        difference=finite(figure.difference.estimate),
        lower=finite(figure.difference.lower),
        upper=finite(figure.difference.upper),
        p=finite(figure.p),
        interval=kind.method.value,
        n_patients=figure.n_patients,
        undefined=figure.undefined,
    )


def _decisions_record(row: PairedDecisions) -> PairedDecisionsRecord:
    return PairedDecisionsRecord(
        key=row.key,
        figure=CATALOG[row.key].title,
        both_right=row.both_right,
        only_a_right=row.only_a_right,
        only_b_right=row.only_b_right,
        both_wrong=row.both_wrong,
        p=finite(row.p),
        undefined=row.undefined,
    )


def _tables(comparison: Comparison, document: ComparisonDocument) -> dict[str, pl.DataFrame]:
    figures, decisions = (
        [{"center": center.center} | row.model_dump() for center in document.centers for row in getattr(center, part)]
        for part in ("figures", "decisions")
    )
    shown = ["run_ratio", "corrected_ratio", "call"]
    own = ["patient_id", "center", "diagnosis", "true_ratio"]
    patients = comparison.ratios_a.select(*own, *shown).rename({name: f"{name}_a" for name in shown})
    other = comparison.ratios_b.select("patient_id", *shown).rename({name: f"{name}_b" for name in shown})
    return {
        "figures.csv": pl.DataFrame(figures, infer_schema_length=None),
        "decisions.csv": pl.DataFrame(decisions, infer_schema_length=None),
        "patients.csv": patients.join(other, on="patient_id", how="left", maintain_order="left"),
    }
