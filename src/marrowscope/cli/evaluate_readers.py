"""`marrowscope evaluate` on a cohort of several readers: a run against each, and the readers against each other."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

import typer

from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from marrowscope.cohort import Cohort
    from marrowscope.evaluate import Evaluation
    from marrowscope.vocabulary import Vocabulary

SUMMARY_NAME = "readers.csv"
AGREEMENT_FOLDER = "agreement"
_COLUMNS = ("reader", "folder", "center", "figure", "value", "lower", "upper", "n", "n_patients")


def refuse_evaluated(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds an evaluation against several readers already, unless it may be replaced."""
    from marrowscope.errors import InputError

    if (out / SUMMARY_NAME).is_file() and not overwrite:
        message = f"{out}: found an evaluation, expected a new or empty folder; choose another --out or use --overwrite"
        raise InputError(message)


def evaluate_each_reader(
    readers: Sequence[str],
    read: Callable[[str], Cohort],
    measure: Callable[[Cohort, Path], Evaluation],
    out: Path,
    vocabulary: Vocabulary,
    *,
    overwrite: bool,
) -> dict[str, Evaluation]:
    """Write an evaluation per reader into a folder of its own, ``agreement`` beside them, and one table of all.

    ``read`` gives the cohort as one reader annotated it, ``measure`` evaluates it into a folder.
    """
    from marrowscope.errors import ReviewError
    from marrowscope.evaluate.catalog import SUMMARY_FIGURES
    from marrowscope.review.reader_comparison import write_comparison
    from marrowscope.studies.reader_study import compare_cohort_readers

    (out / SUMMARY_NAME).unlink(missing_ok=True)  # it marks a complete evaluation, and comes last
    cohorts = {reader: read(reader) for reader in readers}
    rows: list[dict[str, Any]] = []
    evaluations = {}
    for (reader, cohort), name in zip(cohorts.items(), folder_names(readers), strict=True):
        evaluation = evaluations[reader] = measure(cohort, out / name)
        for scores in evaluation.centers:
            for key in SUMMARY_FIGURES:
                figure = scores.figure(key)
                value = figure.value
                limits = ("", "", "") if figure.undefined else map(_number, (value.estimate, value.lower, value.upper))
                values = (reader, name, scores.center, key, *limits, figure.n, scores.n_patients)
                rows.append(dict(zip(_COLUMNS, values, strict=True)))
    try:
        found = compare_cohort_readers(cohorts, vocabulary)
    except ReviewError as error:
        typer.echo(f"Readers are not compared: {error}", err=True)
    else:
        write_comparison(found, out / AGREEMENT_FOLDER, overwrite=overwrite)
        for row in found.kappas:
            if not row.name:
                of = count_of(row.n_cells, "cell")
                typer.echo(f"{row.readers}, {row.level}: kappa {row.kappa:.3f} on {of}", err=True)
    _write_summary(out / SUMMARY_NAME, rows)
    return evaluations


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def folder_names(readers: Sequence[str]) -> list[str]:
    """Return a folder for each reader: the name without what a folder's may not have, numbered where two are alike."""
    names: list[str] = []
    for reader in readers:
        plain = re.sub(r"[^\w.-]+", "_", reader).strip("._") or "reader"
        taken = {name.casefold() for name in (*names, AGREEMENT_FOLDER, "run")}
        numbers = (f"{plain}-{k}" for k in range(2, len(readers) + 4))
        names.append(plain if plain.casefold() not in taken else next(n for n in numbers if n.casefold() not in taken))
    return names


def metrics_of(out: Path, readers: Sequence[str]) -> str:
    """Return the metrics of each reader's evaluation as one JSON object, by reader."""
    from marrowscope.evaluate.document import METRICS_NAME

    texts = {
        reader: json.loads((out / name / METRICS_NAME).read_text(encoding="utf-8"))
        for reader, name in zip(readers, folder_names(readers), strict=True)
    }
    return json.dumps({"readers": texts}, indent=2, ensure_ascii=False)


def _write_summary(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    from marrowscope.disk import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
