"""Cross-fit: one training per fold, and calibration on the out-of-fold predictions.

A cross-fit folder has
    folds.csv             the fold in which each patient is held out
    crossfit.json         everything needed to repeat the run: settings, hashes, versions, the result of each fold
    fold-<k>/             the training folder of fold k, and oof.parquet, its predictions of the held-out patients
    oof.parquet           the predictions of all folds: each patient by the only network that never saw it
    missed.parquet        expert cells of these patients that no predicted contour matched
    calibration.json      temperature of each head and weights of all together, for the listed members
    calibration.csv       negative log-likelihood and calibration error before and after, overall and by center
    reliability.csv       the bins behind them
Invariant: the patients of fold k are not used for training or validation in fold k; external patients are in no fold.
Folds may be trained one at a time, on several machines; the last one, or ``join_folds``, completes the cross-fit.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.cohort.folds import (
    check_folds,
    fold_numbers,
    fold_roles,
    read_folds,
    read_split,
    write_folds,
    write_split,
)
from marrowscope.disk import write_json, written_whole
from marrowscope.errors import CohortError, ConfigError, RunError
from marrowscope.fit import check_start, fit_classifier
from marrowscope.imaging import sha256_file
from marrowscope.statistics.temperature import CALIBRATION_NAME
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME
from marrowscope.train.crop_set import open_crop_set
from marrowscope.train.crossfit_record import (
    CROSSFIT_NAME,
    CrossFitRecord,
    differences,
    fold_result,
    hash_folds,
    read_crossfit,
    write_crossfit,
)
from marrowscope.train.fold_calibration import calibrate_folds
from marrowscope.train.left_out_cells import MISSED_NAME, OOF_NAME, fold_folder, read_left_out, read_missed
from marrowscope.train.out_of_fold import predict_table, read_priors
from marrowscope.train.training_record import FIT_NAME, FinishedTraining, describe_data, read_finished
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.cohort.folds import Role
    from marrowscope.statistics.temperature import Calibration
    from marrowscope.train.config import ClassifierConfig, Source
    from marrowscope.train.crop_set import CropSet
    from marrowscope.train.stage import Progress
    from marrowscope.vocabulary import Vocabulary

FOLDS_NAME, _CALIBRATION_TABLE, RELIABILITY_TABLE = "folds.csv", "calibration.csv", "reliability.csv"


@dataclass(frozen=True, slots=True)
class CrossFit:
    """State of a cross-fit folder: trained and missing folds; calibrated once none is missing."""

    folder: Path
    finished: tuple[int, ...]
    missing: tuple[int, ...]
    calibration: Calibration | None


def fit_folds(
    crops: Path,
    out: Path,
    config: ClassifierConfig,
    folds: Mapping[str, int | None] | Path,
    *,
    only_fold: int | None = None,
    vocabulary: Vocabulary | None = None,
    resume: bool = False,
    on_progress: Callable[[int, Progress], None] | None = None,
) -> CrossFit:
    """Train on the crop set ``crops`` once per fold, holding out each fold in turn, and calibrate at the end.

    ``folds`` maps patients to the fold that holds them out (None: external, in no fold), or is the path of a folds.csv.
    ``only_fold`` trains only that fold. With ``resume``, finished folds are kept and an interrupted one continues.
    ``on_progress`` gets the fold and the progress of its training. Raises CohortError for folds with leakage,
    ConfigError for a fold that does not exist, RunError if ``out`` has other folds or settings, or has a cross-fit and
    ``resume`` is off.
    """
    check_start(out, config, in_folds=True)
    vocabulary = vocabulary or load_vocabulary()
    crop_set = open_crop_set(crops, vocabulary)
    assigned = read_folds(folds) if isinstance(folds, Path) else dict(folds)
    check_folds(crop_set.cells, assigned)
    numbers = fold_numbers(assigned)
    chosen = numbers if only_fold is None else [only_fold]
    _check_fold_numbers(crop_set, assigned, chosen)
    record = _describe(crop_set, config, assigned, vocabulary)
    _check_earlier(out, record, resume=resume or only_fold is not None)
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(folds, Path) and not (out / FOLDS_NAME).exists():
        shutil.copyfile(folds, out / FOLDS_NAME)
    elif not isinstance(folds, Path):
        write_folds(out / FOLDS_NAME, assigned, _patients(crop_set.cells))
    if not (out / CROSSFIT_NAME).is_file():
        write_crossfit(out, record)
    _write_missed(crop_set, out, assigned)
    for fold in chosen:
        if not (resume and _is_finished(out, fold)):
            _fit_fold(
                crop_set, out, config, assigned, fold, vocabulary=vocabulary, resume=resume, on_progress=on_progress
            )
    missing = tuple(fold for fold in numbers if not _is_finished(out, fold))
    if missing:
        return CrossFit(out, tuple(fold for fold in numbers if fold not in missing), missing, None)
    return join_folds(out, vocabulary)


def join_folds(out: Path, vocabulary: Vocabulary | None = None) -> CrossFit:
    """Join the finished folds of ``out``: out-of-fold predictions, calibration, tables, manifest.

    Raises RunError with the folds that are missing or have other crops or settings, and CohortError for a fold that was
    trained on patients it should have held out.
    """
    record = read_crossfit(out)
    assigned = read_folds(out / FOLDS_NAME)
    numbers = fold_numbers(assigned)
    missing = [fold for fold in numbers if not _is_finished(out, fold)]
    if missing:
        message = (
            f"{out}: found no predictions of fold {', '.join(map(str, missing))}, expected those of every fold; train "
            "them with `marrowscope train classifier --folds ... --fold` or copy their folders here"
        )
        raise RunError(message)
    fits = {fold: read_finished(fold_folder(out, fold)) for fold in numbers}
    for fold, fit in fits.items():
        _check_member(fold_folder(out, fold), fit, record)
        _check_left_out(read_split(fold_folder(out, fold) / SPLIT_NAME), assigned, fold)
    cells = pl.concat([read_left_out(fold_folder(out, fold) / OOF_NAME) for fold in numbers])
    _check_cells(cells, assigned, out)
    cells.write_parquet(out / OOF_NAME)
    calibration = _calibrate(cells, out, numbers, vocabulary or load_vocabulary())
    results = {str(fold): fold_result(fit) for fold, fit in fits.items()}
    write_crossfit(out, record.model_copy(update={"folds": results, "oof_sha256": sha256_file(out / OOF_NAME)}))
    return CrossFit(out, tuple(numbers), (), calibration)


def _fit_fold(
    crop_set: CropSet,
    out: Path,
    config: ClassifierConfig,
    assigned: Mapping[str, int | None],
    fold: int,
    *,
    vocabulary: Vocabulary,
    resume: bool,
    on_progress: Callable[[int, Progress], None] | None,
) -> None:
    """Train one fold and predict its held-out patients; oof.parquet, written last, marks the fold as finished."""
    roles = fold_roles(assigned, fold, _patients(crop_set.cells), config.validation_fraction, config.seed)
    if config.select != "best":  # every patient of the other folds trains
        roles = {patient: "train" if role == "validation" else role for patient, role in roles.items()}
    _check_left_out(roles, assigned, fold)
    folder = fold_folder(out, fold)
    with tempfile.TemporaryDirectory(prefix="marrowscope-fold-") as scratch:
        split = Path(scratch) / SPLIT_NAME
        write_split(split, roles)
        result = fit_classifier(
            crop_set.folder,
            folder,
            config,
            split=split,
            vocabulary=vocabulary,
            resume=resume,
            on_progress=None if on_progress is None else lambda now: on_progress(fold, now),
        )
    rows = crop_set.rows(_members(assigned, fold), _source(crop_set))
    table = predict_table(result.weights_path, crop_set, rows, config)
    table = table.with_columns(pl.lit(fold, pl.Int64()).alias("fold"))
    with written_whole(folder / OOF_NAME) as temporary:
        table.write_parquet(temporary)


def _write_missed(crop_set: CropSet, out: Path, assigned: Mapping[str, int | None]) -> None:
    """Write the expert cells that no contour matched, which the bundle's corrected ratio needs."""
    path = crop_set.folder / MISSED_NAME
    if not path.is_file() or _source(crop_set) != "predicted":
        return
    patient_of = crop_set.cells.select("field_id", "patient_id").unique("field_id")
    tested = set(fold_numbers(assigned))
    inside = [patient for patient, fold in assigned.items() if fold in tested]
    missed = read_missed(path).join(patient_of, on="field_id").filter(pl.col("patient_id").is_in(inside))
    columns = [name for name in ("patient_id", "field_id", "expert_code", "cut") if name in missed.columns]
    missed.select(columns).sort("field_id").write_parquet(out / MISSED_NAME)


def _calibrate(cells: pl.DataFrame, out: Path, numbers: Sequence[int], vocabulary: Vocabulary) -> Calibration:
    """Fit the calibration on all out-of-fold cells, and write it with its nested metrics by center."""
    priors = {fold_folder(out, fold).name: read_priors(fold_folder(out, fold) / CLASSIFIER_NAME) for fold in numbers}
    calibration, figures, bins = calibrate_folds(cells, numbers, priors, vocabulary)
    figures.write_csv(out / _CALIBRATION_TABLE)
    bins.write_csv(out / RELIABILITY_TABLE)
    write_json(out / CALIBRATION_NAME, calibration.model_dump(mode="json"))
    return calibration


def _source(crop_set: CropSet) -> Source:
    """Source of the crops to predict: predicted contours, as in a real prediction, if the crop set has them."""
    labeled = crop_set.cells.filter(pl.col("expert_code").is_not_null())
    return "predicted" if (labeled["source"] == "predicted").any() else "expert"


def _patients(cells: pl.DataFrame) -> pl.DataFrame:
    return cells.select("patient_id", "center", "diagnosis").unique("patient_id").sort("patient_id")


def _members(assigned: Mapping[str, int | None], fold: int) -> set[str]:
    return {patient for patient, given in assigned.items() if given == fold}


def _is_finished(out: Path, fold: int) -> bool:
    return (fold_folder(out, fold) / OOF_NAME).is_file()


def _describe(
    crop_set: CropSet, config: ClassifierConfig, assigned: Mapping[str, int | None], vocabulary: Vocabulary
) -> CrossFitRecord:
    """Return what determines the run; ``join_folds`` adds the result of each fold."""
    return CrossFitRecord(
        **dict(describe_data(crop_set, config, vocabulary)),
        seed=config.seed,
        segmenter_sha256=crop_set.summary.segmenter_sha256,
        assigned_sha256=hash_folds(assigned),
        n_folds=len(fold_numbers(assigned)),
        n_external_patients=sum(fold is None for fold in assigned.values()),
        predicted_crops=_source(crop_set),
    )


def _check_fold_numbers(crop_set: CropSet, assigned: Mapping[str, int | None], chosen: Sequence[int]) -> None:
    """Refuse a fold that does not exist, or that has nothing to predict."""
    numbers = fold_numbers(assigned)
    if not set(chosen) <= set(numbers):
        message = f"fold: found {chosen[0]}, expected one of {', '.join(map(str, numbers))}; choose one of the folds"
        raise ConfigError(message)
    source = _source(crop_set)
    empty = [str(fold) for fold in numbers if not len(crop_set.rows(_members(assigned, fold), source))]
    if empty:
        message = (
            f"{crop_set.folder}: found no labeled {source} crop of the patients of fold {', '.join(empty)}, expected "
            "some in every fold; draw the folds from this crop set"
        )
        raise CohortError(message)


def _check_earlier(out: Path, record: CrossFitRecord, *, resume: bool) -> None:
    """Refuse a folder with an earlier run that is not to be resumed, or that has other crops, folds or settings."""
    if not (out / CROSSFIT_NAME).is_file():
        if (out / FIT_NAME).is_file():
            message = f"{out}: found a training without folds, expected a new folder; choose another --out"
            raise RunError(message)
        return
    if not resume:
        message = f"{out}: found an earlier cross-fit, expected a new folder; add --resume or choose another folder"
        raise RunError(message)
    earlier = read_crossfit(out)
    different = differences(record, earlier)
    different += ["folds"] if earlier.assigned_sha256 != record.assigned_sha256 else []
    if different:
        message = (
            f"{out}: found a cross-fit with other {', '.join(different)}, expected the same; resume with the first "
            "call's arguments or choose another --out"
        )
        raise RunError(message)


def _check_member(folder: Path, fit: FinishedTraining, record: CrossFitRecord) -> None:
    """Refuse a fold, copied here, that was trained on other crops or with other settings."""
    different = differences(record, fit)
    if different:
        message = (
            f"{folder}: found other {', '.join(different)} than in {CROSSFIT_NAME}, expected the same; train again"
        )
        raise RunError(message)


def _check_left_out(roles: Mapping[str, Role], assigned: Mapping[str, int | None], fold: int) -> None:
    """Refuse roles that use a held-out or external patient for training or validation."""
    seen = sorted(
        patient for patient, role in roles.items() if role != "test" and assigned.get(patient, None) in {None, fold}
    )
    if seen:
        message = (
            f"fold {fold}: found patients {', '.join(seen[:5])} in training or validation, expected them held out; "
            "draw the folds again and train this fold again"
        )
        raise CohortError(message)


def _check_cells(cells: pl.DataFrame, assigned: Mapping[str, int | None], out: Path) -> None:
    """Refuse predictions by the wrong fold's network, or made twice."""
    strays = {
        patient
        for patient, fold in cells.select("patient_id", "fold").unique().iter_rows()
        if assigned.get(patient) != fold
    }
    if strays or cells["cell_id"].is_duplicated().any():
        message = (
            f"{out}: found predictions of {', '.join(sorted(strays)) or 'a cell'} by another fold or twice, expected "
            f"each cell once, by the fold of its patient in {FOLDS_NAME}; train these folds again"
        )
        raise RunError(message)
