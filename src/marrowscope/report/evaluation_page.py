"""The page of an evaluation: read the folder's tables, draw the figures, write figures/*.svg and index.html.

The page stands alone: style and figures are inside it, it has no script, and its security policy forbids every
request. All text from the tables is escaped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup

from marrowscope.disk import write_text
from marrowscope.errors import InputError
from marrowscope.report.environment import asset, template_environment
from marrowscope.report.evaluation_call_figures import CALL_FIGURES
from marrowscope.report.evaluation_figures import ALL_EXPERT, FEW_PATIENTS, FIGURES, MATCHED, CenterTables
from marrowscope.report.html import RESEARCH_USE
from marrowscope.report.plot import STYLE, Drawing
from marrowscope.runs.tables import CALLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import jinja2

SCHEMA_VERSION = 1
ALL_CENTERS = "all centers"
CORRECTED_MAE = "patient ratio MAE, corrected ratio"
HEADLINES = (
    ("CBLC weighted F1", "CBLC weighted F1, all expert"),
    ("CBLC F1", "CBLC positive-class F1, all expert"),
    ("Category weighted F1", "category weighted F1, all expert"),
    ("Detection recall", "detection recall"),
    ("AP50", "AP50"),
    ("Ratio MAE", "patient ratio MAE"),
    ("Corrected MAE", CORRECTED_MAE),
    ("AML AUC", "AML AUC, predicted ratio"),
)
"""Title and name of the figures in the table over the centers; the corrected one only where a run has it."""

_SAME = "no such cell: the same figure"
"""What the note of a figure with N0 and M0 counted ends with where a centre has none."""

_ERRORS = ("MAE", "calibration error", "Brier score")
_DIFFERENCE = "corrected - predicted"
_ERROR_END = 0.25
"""End of the scale of a figure that should be small; above it a mark stands at the end."""

_STRING, _INT, _FLOAT = pl.String(), pl.Int64(), pl.Float64()


def _limits(*names: str) -> dict[str, pl.DataType]:
    return {name + end: _FLOAT for name in names for end in ("", "_lower", "_upper")}


_TABLES: dict[str, dict[str, pl.DataType]] = {
    "confusion.csv": {"center": _STRING, "over": _STRING, "true": _STRING, "called": _STRING, "n": _INT},
    "per_class.csv": {
        "center": _STRING,
        "over": _STRING,
        "category": _STRING,
        "n": _INT,
        "n_called": _INT,
        "n_patients": _INT,
        **_limits("precision", "recall", "f1"),
    },
    "recall_by_class.csv": {
        "center": _STRING,
        "kind": _STRING,
        "label": _STRING,
        "n": _INT,
        "n_patients": _INT,
        **_limits("before_rules", "after_rules"),
    },
    "reliability.csv": {
        "center": _STRING,
        "head": _STRING,
        "n": _INT,
        "mean_probability": _FLOAT,
        **_limits("share"),
    },
    "roc.csv": {"center": _STRING, "curve": _STRING, "false_positive_rate": _FLOAT, "true_positive_rate": _FLOAT},
    "patients.csv": {
        "patient_id": _STRING,
        "center": _STRING,
        "diagnosis": _STRING,
        "n_true_countable": _INT,
        "n_true_cblc": _INT,
        "n_true_normal_blasts": _INT,
        "true_ratio": _FLOAT,
        "true_ratio_with_normal": _FLOAT,
        "n_predicted_countable": _INT,
        "n_predicted_cblc": _INT,
        "predicted_ratio": _FLOAT,
        "run_ratio": _FLOAT,
        "corrected_ratio": _FLOAT,
        "corrected_lower": _FLOAT,
        "corrected_upper": _FLOAT,
        "annotated_inside": pl.Boolean(),
        "confidence_above": _FLOAT,
        "call": _STRING,
    },
    "calls.csv": {
        "center": _STRING,
        "group": _STRING,
        "diagnosis": _STRING,
        "n_patients": _INT,
        **{f"n_{call}": _INT for call in CALLS},
        "measure": _STRING,
        "n_decided": _INT,
        "n_right": _INT,
        **_limits("right"),
    },
    "risk_coverage.csv": {
        "center": _STRING,
        "n": _INT,
        "n_patients": _INT,
        "coverage": _FLOAT,
        "certainty": _FLOAT,
        "n_wrong": _INT,
        **_limits("error"),
    },
}


@dataclass(frozen=True, slots=True)
class CenterPage:
    """One centre as printed: its figures by group, its drawings, its tables as rows.

    A group is its name, its figures, and whether those with N0 and M0 counted were left out as equal.
    """

    anchor: str
    center: str
    n_patients: int
    n_fields: int
    groups: tuple[tuple[str, tuple[Mapping[str, Any], ...], bool], ...]
    headlines: tuple[Mapping[str, Any], ...]
    drawings: tuple[tuple[str, str, Drawing], ...]
    not_drawn: tuple[str, ...]
    classes: tuple[Mapping[str, Any], ...]
    recalls: tuple[Mapping[str, Any], ...]
    patients: tuple[Mapping[str, Any], ...]
    calls: tuple[Mapping[str, Any], ...]


def write_evaluation_page(folder: Path) -> Path:
    """Draw what ``marrowscope evaluate`` wrote into ``folder``; gives the path of its index.html.

    Raises InputError when ``folder`` holds no evaluation, or one of another version.
    """
    document = _read_document(folder)
    tables = {name: _read_table(folder / name, columns) for name, columns in _TABLES.items()}
    normal_blasts = _read_normal_blasts(folder / "normal_blasts.csv")
    headlines = _headlines(document)
    pages = [_center_page(center, document, tables, headlines) for center in document["centers"]]
    for page in pages:
        place = folder / "figures" / page.anchor
        place.mkdir(parents=True, exist_ok=True)
        for name, _, drawing in page.drawings:
            write_text(place / f"{name}.svg", drawing.standalone())
    # The figures of all centers stand first: they are the ones to open with.
    ordered = sorted(pages, key=lambda page: page.center != ALL_CENTERS)
    text = (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            document=document,
            pages=ordered,
            rows=pages,
            columns=_columns(pages, headlines),
            normal_blasts=normal_blasts,
            warnings=_warnings(document),
        )
    )
    write_text(folder / "index.html", text.lstrip())
    return folder / "index.html"


def _warnings(document: Mapping[str, Any]) -> list[str]:
    """Give every warning of a figure once, in order."""
    figures = [figure for center in document["centers"] for figure in center["figures"]]
    return list(dict.fromkeys(figure["warning"] for figure in figures if figure["warning"]))


def _headlines(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Leave out the column of the corrected ratio where no center has one: every figure below says why."""
    values = [f["value"] for center in document["centers"] for f in center["figures"] if f["name"] == CORRECTED_MAE]
    has_corrected = any(value is not None for value in values)
    return [item for item in HEADLINES if has_corrected or item[1] != CORRECTED_MAE]


def _center_page(
    center: Mapping[str, Any],
    document: Mapping[str, Any],
    tables: Mapping[str, pl.DataFrame],
    headlines: Sequence[tuple[str, str]],
) -> CenterPage:
    name = center["center"]
    measured = center["figures"]
    figures = {figure["name"]: figure for figure in measured}
    here = {
        table: frame if table == "patients.csv" and name == ALL_CENTERS else frame.filter(pl.col("center") == name)
        for table, frame in tables.items()
    }
    cut = CenterTables(
        center=name,
        figures=figures,
        confusion=here["confusion.csv"],
        per_class=here["per_class.csv"],
        reliability=here["reliability.csv"],
        roc=here["roc.csv"],
        patients=here["patients.csv"],
        risk_coverage=here["risk_coverage.csv"],
        categories=document["categories"],
        aml_diagnoses=document["config"]["aml_diagnoses"],
        threshold=document["config"]["threshold"],
    )
    drawn = [(key, title, draw(cut)) for key, (title, draw) in (FIGURES | CALL_FIGURES).items()]
    off = (pl.col("predicted_ratio") - pl.col("true_ratio")).alias("difference")
    patients = here["patients.csv"].with_columns(off).sort(pl.col("difference").abs(), descending=True, nulls_last=True)
    return CenterPage(
        anchor=anchor(name),
        center=name,
        n_patients=center["n_patients"],
        n_fields=center["n_fields"],
        groups=tuple(
            _group(name, list(rows)) for name, rows in groupby(measured, key=lambda figure: str(figure["group"]))
        ),
        headlines=tuple(figures[key] for _, key in headlines),
        drawings=tuple((key, title, drawing) for key, title, drawing in drawn if drawing is not None),
        not_drawn=tuple(title for _, title, drawing in drawn if drawing is None),
        classes=_class_rows(here["per_class.csv"]),
        recalls=tuple(here["recall_by_class.csv"].to_dicts()),
        patients=tuple(patients.to_dicts()),
        calls=tuple(here["calls.csv"].to_dicts()),
    )


def _group(name: str, figures: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[Mapping[str, Any], ...], bool]:
    """Leave out the figures that say N0 and M0 again where there is no such cell: one line says so instead."""
    kept = tuple(figure for figure in figures if not figure["note"].endswith(_SAME))
    return name, kept, len(kept) < len(figures)


def scale_of(name: str) -> tuple[float, float]:
    """Give the ends of the scale on which a figure of this name is drawn."""
    if "bias" in name or name.endswith(_DIFFERENCE):
        return -_ERROR_END, _ERROR_END
    return 0.0, _ERROR_END if any(word in name for word in _ERRORS) else 1.0


def _columns(pages: Sequence[CenterPage], headlines: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Give title and scale of each headline; the scale starts at 0.5 where nothing lies below it."""
    columns = []
    for index, (title, name) in enumerate(headlines):
        low, high = scale_of(name)
        words = f"{low:g} to {high:g}, less is better"
        if high == 1:
            figures = [page.headlines[index] for page in pages]
            ends = [figure[key] for figure in figures for key in ("value", "lower") if figure[key] is not None]
            low = 0.5 if ends and min(ends) >= 0.5 else 0.0  # noqa: PLR2004
            words = f"{low:g} to {high:g}"
        columns.append({"title": title, "low": low, "high": high, "scale_words": words})
    return columns


def _class_rows(per_class: pl.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """Put the two ways of counting a category side by side: one row a category."""
    names = list(dict.fromkeys(per_class["category"]))
    found = {(row["category"], row["over"]): row for row in per_class.iter_rows(named=True)}
    return tuple(
        {"category": name, **{over: found.get((name, over)) for over in (ALL_EXPERT, MATCHED)}} for name in names
    )


def anchor(name: str) -> str:
    """Give a centre a name that is safe as a folder and an anchor; one with other signs gets a part of its hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40]
    return f"center-{plain}" if plain == name else f"center-{plain}-{sha256(name.encode()).hexdigest()[:8]}"


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.is_file():
        message = (
            f"{folder}: found no metrics.json, expected the folder of an evaluation; run `marrowscope evaluate` first"
        )
        raise InputError(message)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path}: not readable as JSON ({error}); run `marrowscope evaluate` again"
        raise InputError(message) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        message = f"{path}: found schema version {version}, expected {SCHEMA_VERSION}; run `marrowscope evaluate` again"
        raise InputError(message)
    return dict(document)


def _read_table(path: Path, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Read the named columns of a CSV; a patient called 001 stays 001."""
    try:
        return pl.read_csv(path, columns=list(columns), schema_overrides=dict(columns)).select(list(columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        message = (
            f"{path}: cannot be read as a table with {', '.join(columns)} ({error}); run `marrowscope evaluate` again"
        )
        raise InputError(message) from error


def _read_normal_blasts(path: Path) -> dict[str, Any]:
    """Give the table of N0 and M0 as its codes and rows."""
    try:
        frame = pl.read_csv(path, schema_overrides={"center": _STRING, "diagnosis": _STRING})
    except (OSError, pl.exceptions.PolarsError) as error:
        message = f"{path}: cannot be read as a table ({error}); run `marrowscope evaluate` again"
        raise InputError(message) from error
    own = {"center", "diagnosis", "n_patients", "n_cells", "n_found", "n_called_cblc"}
    codes = [name for name in frame.columns if name not in own]
    return {"codes": codes, "rows": frame.to_dicts(), "n": int(sum(frame[code].sum() for code in codes))}


def _environment() -> jinja2.Environment:
    environment = template_environment()
    environment.filters["three"] = lambda value: "" if value is None else f"{value:.3f}"
    environment.filters["percent"] = lambda value, digits=1: "none" if value is None else f"{100 * value:.{digits}f}%"
    environment.filters["inline"] = lambda drawing: Markup(drawing.inline())  # noqa: S704  escaped while drawn
    environment.globals.update(
        research_use=RESEARCH_USE,
        style=asset("report.css"),
        own_style=asset("evaluation.css"),
        plot_style=Markup(STYLE),  # noqa: S704  our own text
        scale_of=scale_of,
        few_patients=FEW_PATIENTS,
        all_expert=ALL_EXPERT,
        matched=MATCHED,
        all_centers=ALL_CENTERS,
        calls=CALLS,
    )
    return environment
