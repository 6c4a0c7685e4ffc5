"""An evaluation as files: metrics.json (figures and settings), one CSV a table, metrics.md to read.

The files are written beside their place and moved there; metrics.json, which says that an evaluation is whole, last.
Only a folder that is empty, or that holds an earlier evaluation and nothing else, is written into.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from marrowscope.disk import write_text
from marrowscope.errors import InputError
from marrowscope.evaluate.document import METRICS_NAME, CenterRecord, EvaluationDocument, figure_record
from marrowscope.evaluate.frames import WRITTEN_TABLES
from marrowscope.evaluate.markdown import as_markdown
from marrowscope.evaluate.scorer import INTERVAL_NATURE
from marrowscope.evaluate.written_tables import tables
from marrowscope.runs.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.evaluate.evaluation import Evaluation

RUN_NAME = "run"
"""The run of an evaluated bundle, inside the evaluation's folder."""

_OWN = frozenset({METRICS_NAME, "metrics.md", "index.html", "figures", RUN_NAME, *WRITTEN_TABLES})


def check_evaluation_folder(out: Path, *, overwrite: bool) -> None:
    """Raise InputError when ``out`` holds anything but an earlier evaluation, or one that may not be replaced."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if not out.exists():
        return
    foreign = sorted(path.name for path in out.iterdir() if path.name not in _OWN) if out.is_dir() else [out.name]
    is_earlier = not foreign and ((out / METRICS_NAME).is_file() or (out / RUN_NAME / MANIFEST_NAME).is_file())
    if is_earlier and overwrite:
        return
    found = "an earlier evaluation" if is_earlier else f"something that is no evaluation ({', '.join(foreign[:3])})"
    action = "add --overwrite or choose another folder" if is_earlier else "choose another folder"
    message = f"{out}: found {found}, expected a new or empty folder; {action}"
    raise InputError(message)


@contextmanager
def evaluation_folder(out: Path, *, overwrite: bool = False, keep_run: bool = False) -> Iterator[Path]:
    """Give a folder to write an evaluation into; its files move to ``out`` when all went well.

    What an earlier evaluation left in ``out`` is removed then. ``keep_run``: the folder ``run`` in ``out`` belongs to
    this evaluation (a bundle predicted it a moment ago) and stays.
    """
    check_evaluation_folder(out, overwrite=overwrite or keep_run)
    staging = out.with_name(out.name + ".part")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    try:
        yield staging
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(_OWN - ({RUN_NAME} if keep_run else frozenset())):
            old = out / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        for path in sorted(staging.iterdir(), key=lambda path: path.name == METRICS_NAME):
            path.replace(out / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, the tables and metrics.md into ``folder``, which is made where it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables(evaluation).items():
        table.write_csv(folder / name)
    write_text(folder / "metrics.md", as_markdown(evaluation))
    text = json.dumps(_document(evaluation).model_dump(mode="json"), indent=2, allow_nan=False)
    write_text(folder / METRICS_NAME, text + "\n")


def _document(evaluation: Evaluation) -> EvaluationDocument:
    """Give what was measured, on what and how, as metrics.json holds it; the tables stand beside it."""
    linked = evaluation.linked
    return EvaluationDocument(
        run=evaluation.run,
        config=evaluation.config,
        interval=INTERVAL_NATURE,
        categories=evaluation.categories,
        n_fields_only_in_run=linked.n_fields_only_in_run,
        n_fields_only_in_cohort=linked.n_fields_only_in_cohort,
        centers=tuple(
            CenterRecord(
                center=scores.center,
                n_patients=scores.n_patients,
                n_fields=scores.n_fields,
                figures=tuple(figure_record(figure) for figure in scores.figures),
            )
            for scores in evaluation.centers
        ),
    )
