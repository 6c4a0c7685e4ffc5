"""``marrowscope train classifier``: the two-stage fit, once or once per fold, with progress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from marrowscope.cli.options import DEFAULT, MAX_SEED, SEGMENTER_HELP, MappingsOption
from marrowscope.cli.paths import require_path
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.fit import FitResult
    from marrowscope.studies.crossfit import CrossFit
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.stage import Progress
    from marrowscope.train.training_record import EpochRow


def classifier(
    source: Annotated[
        Path, typer.Argument(metavar="CROPS", help="Crop set written by `prepare`, or a cohort to prepare first.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for checkpoints, learning curves and classifier.safetensors.")
    ],
    config: Annotated[
        Path | None, typer.Option(show_default="none", help="TOML file with settings of ClassifierConfig.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option(show_default="drawn", help="CSV with patient_id and role (train, validation, test).")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="<file>|<n>",
            show_default="none",
            help="Cross-fit, one training per held-out fold: a folds.csv, or how many folds to draw.",
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, show_default="all", help="Train only this fold of --folds.")
    ] = None,
    segmenter: Annotated[
        Path | None,
        typer.Option(show_default=DEFAULT, help=f"{SEGMENTER_HELP}; cuts the predicted crops of a cohort."),
    ] = None,
    epochs_stage1: Annotated[
        int | None, typer.Option(min=0, show_default="4, or as in --config", help="Epochs on crops of expert contours.")
    ] = None,
    epochs_stage2: Annotated[
        int | None,
        typer.Option(min=0, show_default="3, or as in --config", help="Epochs on crops of predicted contours."),
    ] = None,
    mapping: MappingsOption = None,
    init: Annotated[
        str | None,
        typer.Option(
            show_default="auto, or as in --config",
            help="Initial weights: auto, scratch, lite0, hub or a .safetensors file.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_SEED,
            show_default="0, or as in --config",
            help="Random seed for split, order, augmentation and heads.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default="2, or as in --config", help="CPU threads to use.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train the cell classifier in two stages: on expert contours, then on predicted contours.

    A cohort is first prepared into OUT/crops. With --folds, one classifier is trained per fold; OUT also gets the
    out-of-fold predictions and the temperatures fitted on them.

    Example: marrowscope train classifier crops/ --out runs/classifier --epochs-stage1 4 --epochs-stage2 3
    """
    from marrowscope.bundle.shipped import segmenter_path
    from marrowscope.config import load_config
    from marrowscope.fit import check_start
    from marrowscope.train.config import ClassifierConfig

    _check_division(split, folds, fold)
    if folds is not None and not folds.isdecimal():
        require_path(Path(folds))
    overrides: dict[str, Any] = {"init": init, "seed": seed, "threads": threads}
    settings = load_config(ClassifierConfig, config, overrides)
    settings = _with_epochs(settings, (epochs_stage1, epochs_stage2))
    # Check everything that could stop the training before a cohort's crops are cut.
    check_start(out, settings, in_folds=folds is not None)
    if segmenter is None and _is_cohort(source) and _uses_predicted_crops(settings):
        segmenter = Path(DEFAULT)
        typer.echo(f"Cutting predicted crops with the default segmenter, {segmenter_path(segmenter)}", err=True)
    crops = _prepared(source, out, segmenter, mapping=mapping or (), resume=resume or fold is not None)
    if settings.teacher is not None:
        typer.echo(f"The teacher, {settings.teacher}, sees every training crop once before each stage", err=True)
    with _ProgressLines(out) as lines:
        if folds is None:
            from marrowscope.fit import fit_classifier

            result = fit_classifier(crops, out, settings, split=split, resume=resume, on_progress=lines.update)
        else:
            from marrowscope.studies.crossfit import fit_folds

            drawn = _folds(folds, crops, settings.seed)
            fitted = fit_folds(
                crops, out, settings, drawn, only_fold=fold, resume=resume, on_progress=lines.update_fold
            )
    if folds is None:
        _print_training(result, as_json=as_json)
    else:
        _print_crossfit(fitted, as_json=as_json)


def _check_division(split: Path | None, folds: str | None, fold: int | None) -> None:
    """Refuse options that divide the patients twice, and --fold without --folds."""
    from marrowscope.errors import ConfigError

    if folds is not None and split is not None:
        message = (
            "found both --split and --folds, expected one, because folds already give every patient a role; remove one"
        )
        raise ConfigError(message)
    if fold is not None and folds is None:
        message = f"found --fold {fold} without --folds, expected the file that defines the folds; add --folds"
        raise ConfigError(message)


def _folds(given: str, crops: Path, seed: int) -> Path | dict[str, int | None]:
    """Return the fold file, or draw the requested number of folds from the patients of the crop set."""
    if not given.isdecimal():
        return Path(given)
    from marrowscope.cohort.folds import make_folds
    from marrowscope.train.crop_set import open_crop_set
    from marrowscope.vocabulary import load_vocabulary

    cells = open_crop_set(crops, load_vocabulary()).cells
    n_centers = cells["center"].n_unique()
    typer.echo(
        f"Folds drawn over the patients of {count_of(n_centers, 'center')}, none of them external; for external "
        "centers, write a "
        "fold file with `marrowscope cohort folds --external` and pass it here.",
        err=True,
    )
    return make_folds(cells.select("patient_id", "center", "diagnosis").unique(), int(given), seed)


def _print_training(result: FitResult, *, as_json: bool) -> None:
    if as_json:
        figures = result.best.model_dump(mode="json")
        typer.echo(json.dumps({"weights": str(result.weights_path), "sha256": result.weights_sha256, "best": figures}))
        return
    typer.echo(f"{result.weights_path}: epoch {result.best.epoch}{_on_validation(result.best)}")
    if result.info.categories_not_trained:
        typer.echo(f"Not trained and never predicted: {', '.join(result.info.categories_not_trained)}")


def _on_validation(row: EpochRow) -> str:
    """Return an epoch's figures on the validation patients; nothing where a training has none."""
    if row.validation_loss is None or row.cblc_weighted_f1 is None or row.category_macro_f1 is None:
        return ""
    return (
        f", on the validation patients loss {row.validation_loss:.3f}, CBLC weighted F1 {row.cblc_weighted_f1:.3f}, "
        f"category macro F1 {row.category_macro_f1:.3f}"
    )


def _print_crossfit(fitted: CrossFit, *, as_json: bool) -> None:
    """Print which folds are finished; once all are, plot and print the calibration of their predictions."""
    calibration = fitted.calibration
    if calibration is not None:
        from marrowscope.report.calibration_figures import draw_reliability
        from marrowscope.studies.crossfit import RELIABILITY_TABLE

        table = fitted.folder / RELIABILITY_TABLE
        draw_reliability(table, table.with_suffix(".svg"))
    if as_json:
        described = None if calibration is None else calibration.model_dump(mode="json")
        state = {"folder": str(fitted.folder), "finished": fitted.finished, "missing": fitted.missing}
        typer.echo(json.dumps(state | {"calibration": described}))
        return
    if calibration is None:
        missing = ", ".join(map(str, fitted.missing))
        typer.echo(
            f"{fitted.folder}: finished fold {', '.join(map(str, fitted.finished))}; still missing: {missing}. "
            "Train them with --fold, here or on other machines; then copy all into one folder and join with --resume."
        )
        return
    typer.echo(
        f"{fitted.folder}: {count_of(len(fitted.finished), 'fold')}, out-of-fold predictions of "
        f"{count_of(calibration.n_patients, 'patient')}"
    )
    for head, found in calibration.heads.items():
        errors = [f"{value:.3f}" if value is not None else "-" for value in (found.ece_before, found.ece_after)]
        why = f" ({found.reason})" if found.reason else ""
        typer.echo(
            f"{head}: temperature {found.temperature:.2f}{why}, calibration error {errors[0]} before, {errors[1]} after"
        )


def _prepared(source: Path, out: Path, segmenter: Path | None, *, mapping: Sequence[str] = (), resume: bool) -> Path:
    """Return the crop set to train on: ``source`` itself, or ``out``/crops cut from the cohort ``source``."""
    from marrowscope.cli import prepare
    from marrowscope.errors import ConfigError, RunError
    from marrowscope.train.crop_set import SUMMARY_NAME
    from marrowscope.train.crossfit_record import CROSSFIT_NAME
    from marrowscope.train.training_record import FIT_NAME

    if not _is_cohort(source):
        if segmenter is not None:
            message = f"--segmenter: {source} is not a cohort, expected a folder with patients.csv; remove the option"
            raise ConfigError(message)
        if mapping:
            message = f"--mapping: {source} is not a cohort, expected a folder with patients.csv; give it to `prepare`"
            raise ConfigError(message)
        return source
    if not resume and any((out / name).exists() for name in (FIT_NAME, CROSSFIT_NAME)):
        message = f"{out}: found an earlier training, expected a new folder; add --resume or choose another folder"
        raise RunError(message)
    crops = out / "crops"
    if not (resume and (crops / SUMMARY_NAME).is_file()):  # written last, so the crop set is complete
        # To standard error: with --json, only the result goes to standard output.
        prepare.cut_crops([source], crops, segmenter=segmenter, mapping=mapping, overwrite=True, to_stderr=True)
    return crops


def _is_cohort(source: Path) -> bool:
    return (source / "patients.csv").is_file()


def _uses_predicted_crops(settings: ClassifierConfig) -> bool:
    """Tell whether a stage with epochs trains or selects on predicted contours."""
    return any("predicted" in (plan.train_on, plan.select_on) for plan in settings.stages if plan.epochs)


def _with_epochs(settings: Any, epochs: tuple[int | None, ...]) -> Any:  # noqa: ANN401  the model is imported late
    """Set the epochs of the stages from the options, in order."""
    from marrowscope.config import validate_config
    from marrowscope.errors import ConfigError

    stages = [stage.model_dump() for stage in settings.stages]
    for number, wanted in enumerate(epochs):
        if wanted is None:
            continue
        if number >= len(stages):
            message = (
                f"--epochs-stage{number + 1}: the configuration has {count_of(len(stages), 'stage')}; remove the option"
            )
            raise ConfigError(message)
        stages[number]["epochs"] = wanted
    return validate_config(type(settings), settings.model_dump() | {"stages": stages}, where="command line")


class _ProgressLines:
    """A rich bar for the current epoch; each finished epoch prints a line and redraws the learning curve."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._bars.start()
        self._task = self._bars.add_task("starting", total=None, figures="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update_fold(self, fold: int, now: Progress) -> None:
        """Call ``update`` for the training of one fold."""
        self.update(now, f"fold {fold}, ", f"fold-{fold}/")

    def update(self, now: Progress, prefix: str = "", folder: str = "") -> None:
        """Move the bar; print and plot the figures of a finished epoch."""
        from marrowscope.report.learning_curve import learning_curve

        left_min, left_s = divmod(round(now.seconds_left), 60)
        figures = f"loss {now.loss:.3f}, {now.crops_per_second:.0f} crops/s, stage done in {left_min}:{left_s:02d}"
        title = f"{prefix}stage {now.stage}, epoch {now.epoch} of {now.n_epochs}"
        self._bars.update(self._task, description=title, completed=now.step, total=now.n_steps, figures=figures)
        row = now.finished_epoch
        if row is not None:
            self._bars.console.print(
                f"{title}: loss {row.train_loss:.3f}{_on_validation(row)}, {row.crops_per_second:.0f} crops/s"
            )
            for table in self._out.glob(f"{folder}*/metrics.csv"):
                learning_curve(table, table.with_name("learning_curve.svg"))
