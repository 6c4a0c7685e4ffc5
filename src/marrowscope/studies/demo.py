"""The demonstration: two real pseudo-patients beside their labels, then six simulated patients beside the exact truth.

1. The bundle trained on real cells predicts the photographs inside the package (real-run/, with its report).
2. Six patients of two centers are simulated (cohort/), and the bundle trained on simulated cells predicts them (run/).
3. One page, index.html, shows the real cells first and links to both reports.

Nothing is precomputed: another seed gives other simulated cells, other patients and another truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import default_bundle, demonstration_bundle
from marrowscope.disk import MARKER_NAME, name_files, refuse_foreign_files, refuse_foreign_folder
from marrowscope.errors import RunError
from marrowscope.predict import PredictConfig, predict
from marrowscope.report import write_report
from marrowscope.report.demo_page import PatientComparison, write_demo_page
from marrowscope.runs.folder import refuse_run_folder
from marrowscope.runs.manifest import MANIFEST_NAME, installed_versions, read_manifest
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.simulate.writer import COHORT_KIND, is_simulated
from marrowscope.studies.real_patients import SOURCES, compare_with_labels, real_cohort
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.evaluate.labeled_cells import LabeledPatient

_DEMO_DIAGNOSES = ("control", "AML_M2", "megaloblastic", "APL", "reactive_leftshift", "AML_M5a")
"""Three patients with AML and three without, of kinds that a CBLC ratio separates well and badly."""

_MIN_FIELDS, MIN_CELLS = 10, 200

_KIND = "demonstration"
_COHORT, _RUN, _REAL_RUN, _PAGE = "cohort", "run", "real-run", "index.html"
_REPORT = "report/index.html"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Paths of all results, the real patients beside their labels, and the simulated ones beside the truth."""

    page: Path
    report: Path
    run: Path
    cohort: Path
    patients: tuple[PatientComparison, ...]
    real_report: Path
    real_run: Path
    real_patients: tuple[LabeledPatient, ...]
    simulated_only: tuple[str, ...] = ()
    """What the bundle of the real cells learned from simulated ones only: categories, plasma, and single codes."""


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    workers: int = 2,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Demonstration:
    """Predict the real cells, simulate, predict, report and compare under ``out``.

    Writes real-run/, cohort/, run/ and the page index.html. ``seed`` changes simulated cells and truth; ``progress``
    gets (stage, done, total). An interrupted demonstration resumes: run/ comes last, with its report and the page, and
    what is complete without it is kept. Raises RunError when ``out`` holds anything that is not an earlier
    demonstration which ``overwrite`` allows to replace, BundleError when the package has no bundle.
    """
    real_folder, bundle = default_bundle(), demonstration_bundle()
    cohort, run, real_run = out / _COHORT, out / _RUN, out / _REAL_RUN
    config = SimulationConfig(
        patients=len(_DEMO_DIAGNOSES),
        centers=2,
        fields=_MIN_FIELDS,
        min_cells=MIN_CELLS,
        seed=seed,
        workers=workers,
        diagnoses=_DEMO_DIAGNOSES,
    )
    # Everything that may not be replaced is refused before anything is predicted or simulated.
    _refuse_other_content(out)
    refuse_run_folder(run, overwrite=overwrite)
    keep_cohort = not run.exists() and is_simulated(cohort, config)
    if not keep_cohort:
        refuse_foreign_folder(cohort, COHORT_KIND, overwrite=overwrite)
    real_bundle = load_bundle(real_folder)
    if run.exists() or not _is_run_of(real_bundle, real_run):
        predict(
            [real_cohort()],
            real_bundle,
            real_run,
            config=PredictConfig(),
            overwrite=overwrite,
            command=command,
            progress=_stage(progress, "Predicting real cells"),
            finish=write_report,
        )
    real = compare_with_labels(real_run, real_bundle.vocabulary)
    learned = real_bundle.learned
    only = () if learned is None else tuple(dict.fromkeys((*learned.simulated_only, *learned.simulated_only_codes)))
    if not keep_cohort:
        simulate_cohort(cohort, config, progress=_stage(progress, "Simulating patients"), overwrite=overwrite)

    def finish(complete: Path) -> None:
        write_report(complete, workers=workers)
        name_files(out, _KIND, [_PAGE, f"{_RUN}/{MANIFEST_NAME}"], whole=True)  # the run comes last
        write_demo_page(
            out / _PAGE,
            [(patient, SOURCES[patient.center]) for patient in real],
            compare_with_truth(complete, cohort),
            bundles=(real_bundle.spec.name, read_manifest(complete).bundle.name),
            simulated_only=only,
            real_report=f"{_REAL_RUN}/{_REPORT}",
            simulated_report=f"{_RUN}/{_REPORT}",
        )

    predict(
        [cohort],
        bundle,
        run,
        config=PredictConfig(),
        overwrite=overwrite,
        command=command,
        progress=_stage(progress, "Predicting images"),
        finish=finish,
    )
    return Demonstration(
        page=out / _PAGE,
        report=run / _REPORT,
        run=run,
        cohort=cohort,
        patients=compare_with_truth(run, cohort),
        real_report=real_run / _REPORT,
        real_run=real_run,
        real_patients=real,
        simulated_only=only,
    )


def _is_run_of(bundle: Bundle, run: Path) -> bool:
    """Tell whether ``run`` is what this installation would predict with ``bundle`` now."""
    if not (run / MANIFEST_NAME).is_file():
        return False
    manifest = read_manifest(run)
    return manifest.bundle.sha256 == bundle.spec_sha256 and manifest.versions == installed_versions()


def _refuse_other_content(out: Path) -> None:
    """Refuse a folder that holds more than a demonstration: cohort/ and run/ inside a cohort would be its images."""
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    files = [f"{name}{ending}" for name in (_PAGE, MARKER_NAME) for ending in ("", ".part")]
    others = [
        name
        for name in found
        if name not in files and name.lstrip(".").partition(".")[0] not in (_COHORT, _RUN, _REAL_RUN)
    ]
    if others:
        message = (
            f"{out}: found {others[0]}{f' and {len(others) - 1} more' if len(others) > 1 else ''}, expected a new or "
            "empty folder, or an earlier demonstration; choose another --out"
        )
        raise RunError(message)
    refuse_foreign_files(out, (_KIND,), [_PAGE])


def compare_with_truth(run: Path, cohort: Path) -> tuple[PatientComparison, ...]:
    """Put a run's patients beside the exact counts of the simulated cohort it was made from.

    A cell cut by the image edge counts on neither side: the quality rules reject it and the truth leaves it out.
    """
    patients = pl.read_parquet(run / "patients.parquet")
    truth = pl.read_parquet(cohort / "truth_cells.parquet").filter(~pl.col("cut_by_edge"))
    codes = load_vocabulary().codes
    facts = pl.DataFrame(
        [
            {"code": code.code, "countable": code.countable, "cblc": code.cblc and code.countable}
            for code in codes.values()
        ]
    )
    counts = (
        truth.join(facts, on="code", how="left", validate="m:1")
        .group_by("patient_id")
        .agg(pl.col("countable").sum().alias("true_countable"), pl.col("cblc").sum().alias("true_cblc"))
    )
    joined = patients.join(counts, on="patient_id", how="left", validate="1:1")
    return tuple(
        PatientComparison(
            patient_id=row["patient_id"],
            center=row["center"],
            diagnosis=row["diagnosis"],
            n_cblc=row["n_cblc"],
            n_countable=row["n_countable"],
            ratio=row["cblc_ratio"],
            corrected=row["corrected_ratio"],
            lower=row["corrected_lower"],
            upper=row["corrected_upper"],
            call=row["call"],
            true_n_cblc=row["true_cblc"],
            true_n_countable=row["true_countable"],
            threshold=row["threshold"],
            threshold_n_patients=row["threshold_n_patients"],
            threshold_simulated=row["threshold_simulated"],
        )
        for row in joined.iter_rows(named=True)
    )


def _stage(progress: Callable[[str, int, int], None] | None, title: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None

    def advance(done: int, total: int) -> None:
        progress(title, done, total)

    return advance
