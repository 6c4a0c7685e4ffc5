"""Write an evaluation as files: metrics.json (figures and settings), one CSV per table, metrics.md to read.

The files are written to a temporary folder and then moved into place; metrics.json comes last, but for the marker of
the complete folder. Until then another marker names what is moved, and the same call moves all of it again. Only an
empty folder, or one whose marker names every file in it, is written to.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from marrowscope.disk import (
    MARKER_NAME,
    begin_filling,
    begin_folder,
    mark_folder,
    name_files,
    refuse_foreign_folder,
    refuse_working_folder,
    result_of,
    this_call,
    write_text,
    written_whole,
)
from marrowscope.errors import InputError
from marrowscope.evaluate.checklists import checklists_markdown
from marrowscope.evaluate.document import (
    METRICS_NAME,
    CenterRecord,
    EvaluationDocument,
    across_record,
    characteristic_record,
    decision_record,
    figure_record,
    flow_record,
    subgroup_record,
)
from marrowscope.evaluate.frames import WRITTEN_TABLES
from marrowscope.evaluate.markdown import as_markdown
from marrowscope.evaluate.participants import characteristics
from marrowscope.evaluate.scorer import INTERVAL_NATURE
from marrowscope.evaluate.written_tables import tables
from marrowscope.runs.folder import MADE_FROM_A_RUN, RUN_KIND, refuse_run_folder, staging_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.evaluate.evaluation import Evaluation

_EVALUATION_KIND = "evaluation"
CHECKLISTS_NAME = "checklists.md"
RUN_NAME = "run"
"""The run of an evaluated bundle, inside the evaluation folder."""

_OWN = frozenset({METRICS_NAME, CHECKLISTS_NAME, "metrics.md", "index.html", "figures", RUN_NAME, *WRITTEN_TABLES})


def check_evaluation_folder(out: Path, *, overwrite: bool) -> None:
    """Raise InputError if ``out`` contains anything but an earlier evaluation, or one that must not be replaced.

    A folder that contains only a bundle's run counts as an interrupted evaluation; a complete run must be of this call.
    """
    refuse_working_folder(out, _EVALUATION_KIND, error=InputError)
    names_of_a_run = {RUN_NAME, staging_folder(out / RUN_NAME).name}
    if out.is_dir() and set() < {path.name for path in out.iterdir()} <= names_of_a_run:
        if result_of(out / RUN_NAME, this_call()) is None:
            refuse_run_folder(out / RUN_NAME, overwrite=overwrite)
        return
    within = (RUN_KIND, *MADE_FROM_A_RUN)
    refuse_foreign_folder(out, _EVALUATION_KIND, overwrite=overwrite, error=InputError, within=within)


@contextmanager
def evaluation_folder(out: Path, *, overwrite: bool = False, keep_run: bool = False) -> Iterator[Path]:
    """Yield a folder to write an evaluation to; its files are moved to ``out`` on success.

    Files of an earlier evaluation in ``out`` are then removed. ``keep_run``: the folder ``run`` in ``out`` belongs to
    this evaluation (a bundle has just predicted it) and is kept. Raises InputError like ``check_evaluation_folder``,
    at the start and again before anything is removed.
    """
    check_evaluation_folder(out, overwrite=overwrite or keep_run)
    staging = out.with_name(out.name + ".part")
    begin_folder(staging, _EVALUATION_KIND, error=InputError)
    try:
        yield staging
        mark_folder(staging, _EVALUATION_KIND)
        check_evaluation_folder(out, overwrite=overwrite or keep_run)
        begin_filling(out, staging, _EVALUATION_KIND)
        for name in sorted(_OWN - ({RUN_NAME} if keep_run else frozenset())):
            old = out / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        order = {METRICS_NAME: 1, MARKER_NAME: 2}
        for path in sorted(staging.iterdir(), key=lambda path: order.get(path.name, 0)):
            path.replace(out / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, the tables, metrics.md and checklists.md to ``folder``, creating it if needed."""
    name_files(folder, _EVALUATION_KIND, [METRICS_NAME, CHECKLISTS_NAME, "metrics.md", *WRITTEN_TABLES])
    for name, table in tables(evaluation).items():
        with written_whole(folder / name) as temporary:
            table.write_csv(temporary)
    write_text(folder / "metrics.md", as_markdown(evaluation))
    document = _document(evaluation)
    write_text(folder / CHECKLISTS_NAME, checklists_markdown(document))
    text = json.dumps(document.model_dump(mode="json"), indent=2, allow_nan=False)
    write_text(folder / METRICS_NAME, text + "\n")


def _document(evaluation: Evaluation) -> EvaluationDocument:
    """Return the content of metrics.json: what was measured, on what and how, without the tables."""
    linked = evaluation.linked
    return EvaluationDocument(
        run=evaluation.run,
        config=evaluation.config,
        interval=INTERVAL_NATURE,
        categories=evaluation.categories,
        n_fields_only_in_run=linked.n_fields_only_in_run,
        n_fields_only_in_cohort=linked.n_fields_only_in_cohort,
        n_cells_outside_regions=linked.n_cells_outside_regions,
        own_rates=evaluation.own_rates,
        centers=tuple(
            CenterRecord(
                center=scores.center,
                n_patients=scores.n_patients,
                n_fields=scores.n_fields,
                figures=tuple(figure_record(figure) for figure in scores.figures),
                subgroups=tuple(subgroup_record(item) for item in scores.subgroups),
                decision_curve=tuple(decision_record(item) for item in scores.decision_curve),
            )
            for scores in evaluation.centers
        ),
        across_centers=tuple(across_record(item) for item in evaluation.across_centers),
        characteristics=tuple(characteristic_record(item) for item in characteristics(linked)),
        flows=tuple(flow_record(flow) for flow in evaluation.flows),
    )
