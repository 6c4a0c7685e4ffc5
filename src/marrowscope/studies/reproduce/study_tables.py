"""The result as table.md, table.csv and summary.json: in the paper's layout, beside the paper's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from marrowscope.disk import name_files, write_text, written_whole
from marrowscope.evaluate import FEW_PATIENTS
from marrowscope.evaluate.catalog import CATALOG
from marrowscope.runs.manifest import installed_versions
from marrowscope.studies.reproduce.journal import write_json
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from marrowscope.records import JsonDict
    from marrowscope.studies.reproduce.compare import CenterComparison, Comparison, Score
    from marrowscope.studies.reproduce.plan import Plan
    from marrowscope.studies.reproduce.presets import Preset

_TABLE_NAME, _CSV_NAME, SUMMARY_NAME = "table.md", "table.csv", "summary.json"
NOT_COMPARABLE = (
    "The patients are simulated: their cells are drawn, differ from real ones and are easier to tell apart. The "
    "paper's figures, on real patients of other centers, are shown only for the layout; the two are not comparable. "
    "The paper's abstract does not say whether its weighted F1 is of two classes or of 16 categories, or whether "
    "missed cells count."
)
_MATCHED_CELLS = (
    "CBLC weighted F1 on matched cells (expert cells wholly inside the field that the segmenter found), 95% interval "
    "from a bootstrap over patients; below five patients (*) it is too narrow. Probe: logistic regression on color "
    "and shape of the same cells."
)
_DASH = "-"


def write_tables(
    out: Path,
    preset: Preset,
    comparison: Comparison,
    plan: Plan,
    *,
    seconds: Mapping[str, float],
    provenance: JsonDict,
) -> None:
    """Write the three files into ``out``."""
    name_files(out, "reproduction", [_TABLE_NAME, _CSV_NAME, SUMMARY_NAME])
    write_text(out / _TABLE_NAME, as_markdown(preset, comparison))
    with written_whole(out / _CSV_NAME) as temporary:
        as_table(comparison).write_csv(temporary)
    summary = {
        "preset": preset.name,
        "not_comparable": NOT_COMPARABLE,
        "beats_probe_on_every_external_center": comparison.beats_probe,
        "seconds": dict(seconds),
        "seconds_in_all": round(sum(seconds.values()), 1),
        "seconds_expected": {step.title: round(step.seconds, 1) for step in plan.steps},
        "comparison": comparison.model_dump(mode="json"),
        "steps": provenance,
        "versions": installed_versions(),
    }
    write_json(out / SUMMARY_NAME, summary)


def as_markdown(preset: Preset, comparison: Comparison) -> str:
    """Return the tables as Markdown."""
    inside, outside = sum(preset.internal), sum(preset.external)
    design = (
        f"{count_of(inside, 'patient')} of the centers {', '.join(preset.internal_centers)} train by "
        f"{count_of(preset.n_folds, 'fold')} in two "
        f"stages, {outside} of the centers {', '.join(preset.external_centers)} test. {_MATCHED_CELLS}"
    )
    columns = ("center", "patients", "fields", "cells", "CBLC", "CBLC weighted F1", "probe", "ensemble - probe",
               "all negative", "paper")  # fmt: skip
    lines = [
        f"# Reproduction on simulated patients, preset {preset.name}",
        "",
        NOT_COMPARABLE,
        "",
        design,
        "",
        "## External centers, ensemble",
        "",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
    ]
    for row in comparison.centers:
        published = _DASH if row.published is None else f"{row.published:.4f}"
        lines.append(
            f"| {row.center} | {row.n_patients} | {row.n_fields} | {row.n_cells} | {row.n_cblc} "
            f"| {_text(row.ensemble, row)} | {_text(row.probe, row)} | {_text(row.difference, row, signed=True)} "
            f"| {row.all_negative:.4f} | {published} |"
        )
    names = [row.center for row in comparison.centers]
    lines += ["", "## Each fold's network, and the ensemble", "", f"| model | {' | '.join(names)} |"]
    lines.append("|---|" + "---|" * len(names))
    for member in comparison.centers[0].members:
        values = " | ".join(_text(row.members[member], row) for row in comparison.centers)
        lines.append(f"| {member} | {values} |")
    ensemble, probe = (
        " | ".join(_text(getattr(row, name), row) for row in comparison.centers) for name in ("ensemble", "probe")
    )
    lines += [f"| ensemble of {comparison.n_members} | {ensemble} |", f"| probe | {probe} |"]
    published = " | ".join(_DASH if row.published is None else f"{row.published:.4f}" for row in comparison.centers)
    lines += [f"| paper, ensemble of 5 | {published} |", "", "## Further figures of the ensemble", ""]
    lines += [f"| figure | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for key in comparison.centers[0].further:
        values = " | ".join(_text(row.further[key], row) for row in comparison.centers)
        lines.append(f"| {CATALOG[key].title} | {values} |")
    lines += ["", "For research use; it does not diagnose. Everything else that was measured: evaluation/metrics.md."]
    return "\n".join(lines) + "\n"


def as_table(comparison: Comparison) -> pl.DataFrame:
    """Return one row per model and center; the paper's rows have no count, since it published none by center."""
    rows = []
    for row in comparison.centers:
        models = {**row.members, "ensemble": row.ensemble, "probe": row.probe, "ensemble - probe": row.difference}
        counts = {"n_patients": row.n_patients, "n_fields": row.n_fields, "n_cells": row.n_cells, "n_cblc": row.n_cblc}
        rows += [
            {"center": row.center, "model": name, **score.model_dump(), **counts} for name, score in models.items()
        ]
        rows.append({"center": row.center, "model": "all negative", "value": row.all_negative, **counts})
        if row.published is not None:
            rows.append({"center": row.center, "model": "paper, ensemble", "value": row.published})
    names = ("center", "model", "value", "lower", "upper", "n_patients", "n_fields", "n_cells", "n_cblc")
    kinds = [pl.String(), pl.String(), *[pl.Float64()] * 3, *[pl.Int64()] * 4]
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)))


def _text(score: Score, row: CenterComparison, *, signed: bool = False) -> str:
    """Format as ``0.9100 [0.8800, 0.9300]``, marked where the patients are few."""
    if score.value is None:
        return "not defined"
    style = "+.4f" if signed else ".4f"
    if score.lower is None or score.upper is None:
        return f"{score.value:{style}} [no interval]"
    mark = " *" if row.n_patients < FEW_PATIENTS else ""
    return f"{score.value:{style}} [{score.lower:{style}}, {score.upper:{style}}]{mark}"
