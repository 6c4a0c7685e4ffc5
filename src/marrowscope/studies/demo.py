"""The demonstration: simulate six patients of two centers, predict them, write the report, compare with the truth.

Nothing is precomputed: another seed gives other cells, other patients and another truth. The bundle included in the
package is for demonstration; its card states what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.errors import RunError
from marrowscope.predict import PredictConfig, predict
from marrowscope.report import write_report
from marrowscope.runs.folder import refuse_run_folder
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.simulate.writer import is_simulated
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_DEMO_DIAGNOSES = ("control", "AML_M2", "megaloblastic", "APL", "reactive_leftshift", "AML_M5a")
"""Three patients with AML and three without, of kinds that a CBLC ratio separates well and badly."""

_MIN_FIELDS, MIN_CELLS = 10, 200


@dataclass(frozen=True, slots=True)
class PatientComparison:
    """One patient's counted ratio (x of n), corrected ratio with its limits, and call, beside the exact ratio."""

    patient_id: str
    center: str
    diagnosis: str
    n_cblc: int
    n_countable: int
    ratio: float | None
    corrected: float | None
    lower: float | None
    upper: float | None
    call: str | None
    true_n_cblc: int
    true_n_countable: int

    @property
    def true_ratio(self) -> float:
        """Exact CBLC share (0-1) of the countable cells that lie entirely inside the fields."""
        return self.true_n_cblc / self.true_n_countable


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Paths of all results, and the comparison by patient."""

    report: Path
    run: Path
    cohort: Path
    patients: tuple[PatientComparison, ...]


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    workers: int = 2,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Demonstration:
    """Simulate, predict, report and compare under ``out`` (cohort/, run/).

    ``seed`` changes cells and truth; ``progress`` gets (stage, done, total). An interrupted demonstration resumes: the
    run comes last, with its report, and a cohort without one is kept. Raises RunError when cohort/ or run/ exists and
    is not an earlier demonstration that ``overwrite`` allows to replace.
    """
    bundle = demonstration_bundle()
    cohort, run = out / "cohort", out / "run"
    _refuse_other_content(out)
    refuse_run_folder(run, overwrite=overwrite)
    config = SimulationConfig(
        patients=len(_DEMO_DIAGNOSES),
        centers=2,
        fields=_MIN_FIELDS,
        min_cells=MIN_CELLS,
        seed=seed,
        workers=workers,
        diagnoses=_DEMO_DIAGNOSES,
    )
    if run.exists() or not is_simulated(cohort, config):
        simulate_cohort(cohort, config, progress=_stage(progress, "Simulating patients"), overwrite=overwrite)
    predict(
        [cohort],
        bundle,
        run,
        config=PredictConfig(),
        overwrite=overwrite,
        command=command,
        progress=_stage(progress, "Predicting images"),
        finish=partial(write_report, workers=workers),
    )
    patients = compare_with_truth(run, cohort)
    return Demonstration(report=run / "report" / "index.html", run=run, cohort=cohort, patients=patients)


def _refuse_other_content(out: Path) -> None:
    """Refuse a folder that holds more than a demonstration: cohort/ and run/ inside a cohort would be its images."""
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    others = [name for name in found if name.lstrip(".").partition(".")[0] not in ("cohort", "run")]
    if others:
        message = (
            f"{out}: found {others[0]}{f' and {len(others) - 1} more' if len(others) > 1 else ''}, expected a new or "
            "empty folder, or an earlier demonstration; choose another --out"
        )
        raise RunError(message)


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
        )
        for row in joined.iter_rows(named=True)
    )


def _stage(progress: Callable[[str, int, int], None] | None, title: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None

    def advance(done: int, total: int) -> None:
        progress(title, done, total)

    return advance
