"""The accuracy gate of a precision: annotated patients predicted at float32 and at it, both compared with the experts.

Steps: predict the cohorts once at each precision, with the same backend and device; link both runs to the expert
polygons as `evaluate` does; compute, per center, the change of CBLC weighted F1 (a missed cell is a wrong call) and of
the mean absolute error of the CBLC ratio, with a bootstrap over patients that draws the same patients on both sides;
write the bundle again with the verdict.

Invariant: the two sides differ only in the arithmetic of the networks.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.bundle import load_bundle, refuse_bundle_folder, write_bundle
from marrowscope.bundle.precisions import (
    FASTEST_FIRST,
    FULL,
    MAX_CHANGE,
    CenterChange,
    PrecisionGate,
    check_precision,
    is_computable,
    networks_fingerprint,
)
from marrowscope.cohort import read_cohort, require_clean
from marrowscope.errors import ConfigError, InputError
from marrowscope.evaluate.cell_scores import confusions
from marrowscope.evaluate.frames import ALL_CENTERS
from marrowscope.evaluate.link import EvaluateConfig, link_cells
from marrowscope.evaluate.scorer import Scorer
from marrowscope.networks import capabilities
from marrowscope.predict import PredictConfig, predict
from marrowscope.statistics import metrics
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.evaluate.link import LinkedCells
    from marrowscope.predict import Prediction
    from marrowscope.records import Field, Interval, Patient
    from marrowscope.vocabulary import Vocabulary


def measure_precisions(
    bundle: Bundle | Path,
    cohorts: Sequence[Path],
    out: Path,
    *,
    precisions: Sequence[str] = (),
    config: PredictConfig | None = None,
    evaluation: EvaluateConfig | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Write ``bundle`` again to ``out`` with the gate of each of ``precisions``, measured on ``cohorts``.

    Without ``precisions``, all that the device has below f32. Gates of other precisions stay. With ``overwrite`` an
    earlier bundle of ours at ``out`` is replaced. ``progress`` gets (images done, total images) over all precisions.
    Raises InputError for cohorts without an annotated cell or an ``out`` that is the bundle itself, ConfigError for an
    unavailable precision.
    """
    config = config or PredictConfig()
    opened = load_bundle(bundle) if isinstance(bundle, Path) else bundle
    if out.resolve() == opened.folder.resolve():
        message = f"{out}: found the bundle itself, expected another folder; name a new one"
        raise InputError(message)
    refuse_bundle_folder(out, overwrite=overwrite)
    wanted = _wanted(precisions, capabilities(config.backend, config.device))
    patients, fields = _read_annotated(cohorts, opened.vocabulary)
    steps = [FULL, *wanted]
    linked: dict[str, LinkedCells] = {}
    gates = dict(opened.spec.precisions)
    with tempfile.TemporaryDirectory(prefix="marrowscope-precision-") as scratch:
        for done, precision in enumerate(steps):
            of_step = config.model_copy(update={"precision": precision, "morphology": False})
            run = predict(
                cohorts, opened, Path(scratch) / precision, config=of_step, progress=_part(progress, done, len(steps))
            )
            linked[precision] = link_cells(
                run.fields, run.cells, patients, fields, opened.vocabulary, config=evaluation
            )
            if precision != FULL:
                gates[precision] = _judge_precision(opened, linked[FULL], linked[precision], run, evaluation=evaluation)
    spec = opened.spec.model_copy(update={"precisions": gates})
    return write_bundle(out, spec, {name: opened.read_file(name) for name in opened.spec.files}, overwrite=overwrite)


def _judge_precision(
    bundle: Bundle,
    full: LinkedCells,
    lower: LinkedCells,
    run: Prediction,
    *,
    evaluation: EvaluateConfig | None = None,
) -> PrecisionGate:
    """Compute the gate of a precision from the linked cells of the run in f32 and of ``run``, the lower one."""
    centers = center_changes(full, lower, config=evaluation)
    whole = full.expert.filter(~pl.col("cut"))
    n_fields, n_patients = full.expert["field_id"].n_unique(), whole["patient_id"].n_unique()
    return PrecisionGate(
        passed=all(change.is_within(MAX_CHANGE) for change in centers.values()),
        backend=run.manifest.backend,
        device=run.manifest.device,
        processor=processor_name(),
        measured_on=(
            f"{count_of(len(whole), 'annotated cell')} in {count_of(n_fields, 'field')} of "
            f"{count_of(n_patients, 'patient')}"
        ),
        input_sha256=run.manifest.input_sha256,
        networks_sha256=networks_fingerprint(bundle.spec.files),
        centers=centers,
    )


def center_changes(
    full: LinkedCells, lower: LinkedCells, *, config: EvaluateConfig | None = None
) -> dict[str, CenterChange]:
    """Compute the changes by center, all centers together last where there are several.

    Both sides have the same fields and experts. A patient without a ratio on one side is left out of the ratios.
    """
    config = config or EvaluateConfig()
    names = sorted(set(full.expert["center"]))
    groups = [(name, pl.col("center") == name) for name in names]
    if len(names) > 1:
        groups.append((ALL_CENTERS, pl.lit(value=True)))
    changes = {}
    for name, of_center in groups:
        cells = of_center & ~pl.col("cut")
        errors = _errors(full.ratios.filter(of_center), lower.ratios.filter(of_center))
        changes[name] = _change(full.expert.filter(cells), lower.expert.filter(cells), errors, config)
    return changes


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the system's name for the processor; processors differ in instruction sets, and so may the results."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    # Asking the platform starts a process on Linux: only where the file does not say.
    return next(named, "") or platform.processor() or platform.machine()


def _change(full: pl.DataFrame, lower: pl.DataFrame, errors: pl.DataFrame, config: EvaluateConfig) -> CenterChange:
    """Measure one center: expert cells of both sides, and each patient's absolute ratio errors."""
    by_cell = Scorer(sorted(set(full["patient_id"])), config.n_resamples, config.seed)
    # (patients, side, true class, called class or missed); the sides of a patient are drawn together.
    counts = np.stack([confusions(by_cell, side, "cblc", 2) for side in (full, lower)], axis=1)
    f1 = by_cell.of_sums(counts, _f1_change)
    by_patient = Scorer(errors["patient_id"].to_list(), config.n_resamples, config.seed)
    change = errors["lower"].to_numpy() - errors["full"].to_numpy()
    mae = by_patient.of_columns(np.stack([np.ones(len(change)), change], axis=1), _mean)[0]
    return CenterChange(
        n_patients=len(by_cell.patients),
        n_cells=len(full),
        n_ratios=len(errors),
        cblc_weighted_f1=metrics.weighted_f1(counts[:, 0].sum(axis=0)),
        cblc_weighted_f1_change=f1.estimate,
        cblc_weighted_f1_interval=_limits(f1),
        ratio_mae=float(errors["full"].to_numpy().mean()) if len(errors) else float("nan"),
        ratio_mae_change=mae.estimate,
        ratio_mae_interval=_limits(mae),
    )


def _errors(full: pl.DataFrame, lower: pl.DataFrame) -> pl.DataFrame:
    """Compute each patient's absolute error of the CBLC ratio on both sides: columns patient_id, full, lower."""
    other = lower.select("patient_id", other_ratio="predicted_ratio")
    both = full.join(other, on="patient_id", how="inner").sort("patient_id")
    return both.select(
        "patient_id",
        full=(pl.col("predicted_ratio") - pl.col("true_ratio")).abs(),
        lower=(pl.col("other_ratio") - pl.col("true_ratio")).abs(),
    ).drop_nulls()


def _f1_change(totals: NDArray[np.int64]) -> float:
    return metrics.weighted_f1(totals[1]) - metrics.weighted_f1(totals[0])


def _mean(totals: metrics.RealArray) -> metrics.RealArray:
    return metrics.shares(totals[:, 1], totals[:, 0])[:, None]


def _limits(value: Interval) -> tuple[float, float] | None:
    return (value.lower, value.upper) if np.isfinite([value.lower, value.upper]).all() else None


def _wanted(precisions: Sequence[str], here: Sequence[str]) -> list[str]:
    """Return the precisions to measure, each checked against the device."""
    if FULL in precisions:
        message = "precision 'f32' is the reference for the others; name one below it, such as bf16"
        raise ConfigError(message)
    for precision in precisions:
        check_precision(precision, here)
    found = list(dict.fromkeys(precisions)) or [name for name in FASTEST_FIRST if is_computable(name, here)]
    if not found:
        message = (
            f"found no precision below f32 to measure, the device here computes in {', '.join(here)}; "
            "measure on a processor with bf16"
        )
        raise ConfigError(message)
    return found


def _read_annotated(cohorts: Sequence[Path], vocabulary: Vocabulary) -> tuple[list[Patient], list[Field]]:
    """Read the cohorts' patients and annotated fields; the pixels are not needed."""
    read = [require_clean(read_cohort(path, vocabulary=vocabulary, decode=False)) for path in cohorts]
    fields = [field for cohort in read for field in cohort.fields if field.annotated]
    if not any(field.annotations for field in fields):
        shown = ", ".join(str(path) for path in cohorts)
        message = f"{shown}: found no annotated cell, expected expert polygons; annotate some, or correct the path"
        raise InputError(message)
    return [patient for cohort in read for patient in cohort.patients], fields


def _part(progress: Callable[[int, int], None] | None, done: int, steps: int) -> Callable[[int, int], None] | None:
    """Convert the progress of one of ``steps`` predictions to that of all."""
    if progress is None:
        return None
    return lambda n, total: progress(done * total + n, steps * total)
