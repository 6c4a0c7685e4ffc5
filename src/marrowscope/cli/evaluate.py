"""`marrowscope evaluate`."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.options import AmlOption, BootstrapSeedOption, MappingsOption, ReaderOption, ScaleOption, check_aml
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.cohort import Cohort
    from marrowscope.evaluate import EvaluateConfig, Evaluation
    from marrowscope.vocabulary import CenterMappings, Vocabulary


def evaluate(
    run_or_bundle: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_BUNDLE",
            help=(
                "A run written by `marrowscope predict`, or a bundle, default or demo, which then predicts the cohort "
                "first."
            ),
        ),
    ],
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="The annotated cohort that the run predicted.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page, its figures and the tables.")],
    *,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            show_default="the bundle's threshold, if any",
            help="CBLC ratio (0-1) above which a patient counts as AML.",
        ),
    ] = None,
    aml_diagnosis: AmlOption = None,
    um_per_px: ScaleOption = None,
    tile_grid: Annotated[
        str | None,
        typer.Option(
            metavar="<columns>x<rows>",
            show_default="1x1",
            help="Fields are mosaics of tiles (such as 4x3); unmatched detections at a seam are not counted.",
        ),
    ] = None,
    edge_margin: Annotated[
        float, typer.Option(min=0, help="Distance in pixels that counts as being at an edge or seam.")
    ] = 4.0,
    min_iou: Annotated[
        float, typer.Option(min=0, max=1, help="Lowest contour IoU at which a cell counts as found; above 0.")
    ] = 0.5,
    mapping: MappingsOption = None,
    reader: ReaderOption = "",
    vocabulary: Annotated[
        Path | None,
        typer.Option(show_default="the built-in one", help="Vocabulary of the run's bundle, if it has its own (TOML)."),
    ] = None,
    seed: BootstrapSeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json instead of the table.")] = False,
) -> None:
    """Compare RUN_OR_BUNDLE with the expert polygons of COHORT, per center, with n and 95% confidence intervals.

    Writes index.html (one self-contained page), figures/*.svg, metrics.json, metrics.md and the tables as CSV. The run
    of a bundle is kept in the subfolder `run`. Where several readers annotated the same images, each gets a folder with
    all of this, and `agreement` compares the readers with each other.

    Example: marrowscope evaluate runs/first my-cohort --out runs/first-metrics
    """
    from marrowscope.bundle import SPEC_NAME, load_bundle
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.cli.evaluate_readers import SUMMARY_NAME, refuse_evaluated
    from marrowscope.config import validate_config
    from marrowscope.evaluate import RUN_NAME, EvaluateConfig, check_evaluation_folder
    from marrowscope.runs.older import older_run_remarks
    from marrowscope.vocabulary import load_mappings, load_vocabulary

    columns, rows = _parse_grid(tile_grid)
    values = {
        "edge_margin_px": edge_margin,
        "min_iou": min_iou,
        "seed": seed,
        "threshold": threshold,
        "aml_diagnoses": aml_diagnosis or None,
    }
    config = validate_config(
        EvaluateConfig,
        {"tile_columns": columns, "tile_rows": rows}
        | {key: value for key, value in values.items() if value is not None},
        where="marrowscope evaluate",
    )
    # Check everything cheap before the cohort's images are read.
    refuse_evaluated(out, overwrite=overwrite)
    if not (out / SUMMARY_NAME).is_file():
        check_evaluation_folder(out, overwrite=overwrite)
    run_or_bundle = bundle_path(run_or_bundle)
    bundle = load_bundle(run_or_bundle) if (run_or_bundle / SPEC_NAME).is_file() else None
    if bundle is None:
        _refuse_training(run_or_bundle)
        for remark in older_run_remarks(run_or_bundle):
            typer.echo(f"Older run: {remark}", err=True)
        words = load_vocabulary(vocabulary)
    else:
        words = bundle.vocabulary
        if config.threshold is None:
            config = config.model_copy(update={"threshold": bundle.spec.threshold})
    run = run_or_bundle if bundle is None else out / RUN_NAME
    work = _Work(cohort, run, words, load_mappings(mapping or ()), config, overwrite=overwrite, quiet=as_json)
    truth = work.read(reader)
    check_aml("--aml-diagnosis", aml_diagnosis, cohort, {patient.diagnosis for patient in truth.patients})
    if work.labels:
        work.labels.check_centers({patient.center for patient in truth.patients})
    if bundle is not None:
        _predict(bundle, cohort, run, um_per_px=um_per_px, overwrite=overwrite, quiet=as_json)
    if truth.readers and not reader:
        _report_readers(work, truth.readers, out)
    else:
        _report(work, truth, out)


@dataclass(frozen=True)
class _Work:
    """What an evaluation is made of: the cohort, read as anybody annotated it, and the run to measure."""

    cohort: Path
    run: Path
    words: Vocabulary
    labels: CenterMappings | None
    config: EvaluateConfig
    overwrite: bool
    quiet: bool

    def read(self, reader: str) -> Cohort:
        """Read the cohort; the pixels are not needed: the hashes prove that these are the predicted images."""
        from marrowscope.cli.progress import progress_bar
        from marrowscope.cohort import read_cohort

        with progress_bar("Reading annotations", enabled=not self.quiet) as advance:
            return read_cohort(
                self.cohort,
                vocabulary=self.words,
                mapping=self.labels,
                reader=reader,
                decode=False,
                progress=advance,
            )

    def measure(self, truth: Cohort, out: Path) -> Evaluation:
        """Evaluate the run against one reading of the cohort, into the folder ``out``."""
        from marrowscope.cli.progress import progress_bar
        from marrowscope.evaluate import RUN_NAME, evaluate_run, evaluation_folder, write_evaluation
        from marrowscope.report.evaluation_page import write_evaluation_page

        keep_run = self.run.resolve() == (out / RUN_NAME).resolve()
        with evaluation_folder(out, overwrite=self.overwrite, keep_run=keep_run) as folder:
            with progress_bar("Measuring centers", enabled=not self.quiet) as advance:
                evaluation = evaluate_run(
                    self.run,
                    truth.patients,
                    (*truth.fields, *truth.slides),
                    self.words,
                    config=self.config,
                    rejected_patients=truth.counts.patients.rejected,
                    progress=advance,
                )
            write_evaluation(evaluation, folder)
            write_evaluation_page(folder)
        return evaluation


def _report(work: _Work, truth: Cohort, out: Path) -> None:
    """Evaluate against the one reading of a cohort, and print the main figures."""
    from marrowscope.cli.addresses import shown
    from marrowscope.evaluate.document import METRICS_NAME

    evaluation = work.measure(truth, out)
    if work.quiet:
        typer.echo((out / METRICS_NAME).read_text(encoding="utf-8"))
        return
    _print_main_figures(evaluation)
    _print_calls(evaluation)
    _print_origins(evaluation)
    _print_not_compared(evaluation)
    typer.echo(f"Page: {shown(out / 'index.html')}")
    typer.echo(f"Every figure: {shown(out / 'metrics.md')}; tables and figures/*.svg beside it.")
    lost = [fault for fault in truth.faults if fault.loses_data]
    if lost:
        typer.echo(
            f"{count_of(len(lost), 'fault')} in the cohort would lose data; see `marrowscope cohort check "
            f"{shown(work.cohort)}`",
            err=True,
        )


def _report_readers(work: _Work, readers: Sequence[str], out: Path) -> None:
    """Evaluate against each reader of a cohort, compare the readers, and print the main figures of each."""
    from marrowscope.cli.addresses import shown
    from marrowscope.cli.evaluate_readers import (
        AGREEMENT_FOLDER,
        SUMMARY_NAME,
        evaluate_each_reader,
        folder_names,
        metrics_of,
    )
    from marrowscope.evaluate import check_evaluation_folder

    places = dict(zip(readers, folder_names(readers), strict=True))
    for name in places.values():
        check_evaluation_folder(out / name, overwrite=work.overwrite)
    found = evaluate_each_reader(readers, work.read, work.measure, out, work.words, overwrite=work.overwrite)
    if work.quiet:
        typer.echo(metrics_of(out, readers))
        return
    for name, evaluation in found.items():
        typer.echo(f"\nAgainst the annotations of {name}: {shown(out / places[name] / 'index.html')}")
        _print_main_figures(evaluation)
    typer.echo(
        f"All readers: {shown(out / SUMMARY_NAME)}; the readers against each other: {shown(out / AGREEMENT_FOLDER)}"
    )


def _refuse_training(folder: Path) -> None:
    """Refuse a folder of `train classifier`, naming what it needs before it can be evaluated."""
    from marrowscope.errors import RunError
    from marrowscope.train.crossfit_record import CROSSFIT_NAME

    if (folder / CROSSFIT_NAME).is_file() or any(folder.glob("*.safetensors")):
        message = (
            f"{folder}: found a training, expected a run or a bundle; make a bundle with `marrowscope export {folder} "
            "--segmenter SEGMENTER --out BUNDLE` and evaluate that"
        )
        raise RunError(message)


def _predict(bundle: Bundle, cohort: Path, run: Path, *, um_per_px: float | None, overwrite: bool, quiet: bool) -> None:
    """Predict the cohort with the bundle into ``run``, but where this call, when it was killed later, had done so."""
    from marrowscope.cli.addresses import mirror
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort.stated import NOTHING_STATED
    from marrowscope.config import validate_config
    from marrowscope.disk import result_of, this_call
    from marrowscope.predict import PredictConfig, predict

    if not overwrite and result_of(run, this_call()):
        return
    config = validate_config(PredictConfig, {"um_per_px": um_per_px}, where="marrowscope evaluate")
    run.parent.mkdir(parents=True, exist_ok=True)
    store = mirror()
    with progress_bar("Predicting images", enabled=not quiet) as advance:
        predict(
            [cohort] if store is None else store.inputs([cohort], stated=NOTHING_STATED),
            bundle.folder,
            run,
            config=config,
            overwrite=overwrite,
            command=["marrowscope", *sys.argv[1:]],
            progress=advance,
        )


def _print_main_figures(evaluation: Evaluation) -> None:
    """Print one table: one row per center, each main figure as value, interval and n."""
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.evaluate import FEW_PATIENTS
    from marrowscope.evaluate.catalog import SUMMARY_FIGURES

    table = new_table("center", *SUMMARY_FIGURES.values(), title="Evaluation: value, 95% interval, n")
    for scores in evaluation.centers:
        cells = []
        for key in SUMMARY_FIGURES:
            figure = scores.figure(key)
            if figure.undefined:
                cells.append(f"not defined: {figure.undefined}")
                continue
            mark = figure.marks + ("!" if figure.warning else "")
            low, high = figure.value.lower, figure.value.upper
            limits = "no interval" if math.isnan(low) else f"{low:.3f}-{high:.3f}"
            cells.append(f"{figure.value.estimate:.3f}{mark}\n{limits}\nn {figure.n}")
        table.add_row(
            *(escape(cell) for cell in (f"{scores.center}\n{count_of(scores.n_patients, 'patient')}", *cells))
        )
        table.add_section()
    print_table(table)
    marks = [mark for scores in evaluation.centers for key in SUMMARY_FIGURES for mark in scores.figure(key).marks]
    typer.echo(
        "Cell figures are over all expert cells; a missed cell counts as wrong. Intervals: bootstrap over patients."
    )
    if "*" in marks:
        typer.echo(f"* fewer than {FEW_PATIENTS} patients: the interval is too narrow.")
    if "=" in marks:
        typer.echo(
            "= every resample gives the same value: the interval has zero width and says nothing about the error."
        )
    warnings = [item.warning.text for scores in evaluation.centers for item in scores.figures if item.warning]
    for text in dict.fromkeys(warnings):
        typer.echo(f"! {text}")


def _print_not_compared(evaluation: Evaluation) -> None:
    """Say how many annotated fields the run does not have, since their cells count nowhere."""
    linked = evaluation.linked
    if linked.n_fields_only_in_cohort:
        n_compared = linked.ratios.height
        typer.echo(
            f"! {count_of(linked.n_fields_only_in_cohort, 'annotated field')} of the cohort not in the run and not "
            f"compared; the figures are of {count_of(n_compared, 'patient')}.",
            err=True,
        )


def _print_origins(evaluation: Evaluation) -> None:
    """Name the centers whose ratios were corrected with their own rates, and the patients of the threshold.

    The patients of those centers may be those of the rates.
    """
    from marrowscope.evaluate.ratio_scores import own_rates_sentence, threshold_sentence

    if evaluation.own_rates:
        typer.echo(f"! {own_rates_sentence(evaluation.own_rates)}")
    if learned := threshold_sentence(evaluation.config.threshold, evaluation.run.bundle):
        typer.echo(learned)


def _print_calls(evaluation: Evaluation) -> None:
    """Print three lines on the accuracy of the corrected ratio and of the calls, over all centers."""
    scores = evaluation.centers[-1]
    for title, figures in _CALL_LINES:
        parts, reasons = [], set()
        for words, key in figures:
            figure = scores.figure(key)
            low, high = figure.value.lower, figure.value.upper
            limits = "no interval" if math.isnan(low) else f"{low:.3f}-{high:.3f}"
            told = f"{figure.value.estimate:.3f}{figure.marks} ({limits}, n {figure.n})"
            parts.append(f"{words} {f'not defined ({figure.undefined})' if figure.undefined else told}")
            reasons.add(figure.undefined)
        if len(reasons) == 1 and "" not in reasons:
            parts = [f"not defined: {reasons.pop()}"]
        typer.echo(f"{title}, {scores.center}: {'; '.join(parts)}.")


_CALL_LINES = (
    (
        "Corrected ratio",
        (
            ("MAE", "patient_ratio_mae_corrected_ratio"),
            ("annotated ratio inside the 95% interval", "annotated_ratio_inside_the_interval"),
        ),
    ),
    (
        "Calls",
        (
            ("error among decided", "calls_error_among_decided"),
            ("indeterminate", "calls_share_indeterminate"),
            ("without a call", "calls_share_without_a_call"),
        ),
    ),
    (
        "Forced decision",
        (
            ("error by the predicted ratio", "forced_decision_error_predicted_ratio"),
            ("by the corrected ratio", "forced_decision_error_corrected_ratio"),
        ),
    ),
)
"""Each line printed under the table: its title, then the words and the key of each figure."""


def _parse_grid(text: str | None) -> tuple[int, int]:
    """Read ``4x3`` as (columns, rows); None is (1, 1)."""
    from marrowscope.errors import ConfigError

    if text is None:
        return 1, 1
    found = re.fullmatch(r"([1-9]\d*)\s*[xX]\s*([1-9]\d*)", text.strip())
    if not found:
        message = f"--tile-grid: found {text!r}, expected columns x rows such as 4x3; correct the option"
        raise ConfigError(message)
    return int(found[1]), int(found[2])
