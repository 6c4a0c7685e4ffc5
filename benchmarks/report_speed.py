"""How long a report takes, how large its pages are, and whether memory grows with the cohort.

    python benchmarks/report_speed.py RUN --cells 500 --patients 300 --workers 2 [--json]

RUN is any finished run; its fields are redistributed to made-up patients, each with the fewest fields that contain
--cells cells, with the images and contours of RUN. One patient is rendered alone (best of three, after one warm-up),
then a report of --patients patients is written and another of a sixth of them: comparing the peak memory of both
processes tells whether it grows. Times are wall-clock; the machine's load beside them shows what else ran.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess  # its own script, in a process whose peak memory is its own
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from marrowscope.patient.assess import assess_patients
from marrowscope.records import Patient
from marrowscope.report import write_report
from marrowscope.report.html import _Job
from marrowscope.runs.manifest import MANIFEST_NAME
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.vocabulary import load_vocabulary

SMALL_PART = 6


def deal_out(source: Path, out: Path, n_patients: int, n_cells: int) -> dict[str, float]:
    """Write a run of ``n_patients`` made-up patients with at least ``n_cells`` cells each; return their means."""
    fields = read_table(source / "fields.parquet", "fields").filter(
        (pl.col("status") == "ok") & (pl.col("n_cells") > 0)
    )
    cells = read_table(source / "cells.parquet", "cells")
    of_field = {str(key[0]): frame for key, frame in cells.group_by("field_id", maintain_order=True)}
    rows = list(fields.iter_rows(named=True))
    patients = [
        Patient(f"patient-{k:04d}", f"C{k % 6}", "control", specimen="marrow", age_group="adult")
        for k in range(n_patients)
    ]
    made_fields: list[pl.DataFrame] = []
    made_cells: list[pl.DataFrame] = []
    at = 0
    for patient in patients:
        found = 0
        while found < n_cells:
            row = rows[at % len(rows)]
            name = f"{patient.patient_id}/field_{at}"
            mine = {"field_id": pl.lit(name), "patient_id": pl.lit(patient.patient_id)}
            made_fields.append(pl.DataFrame([row], schema=fields.schema).with_columns(**mine))
            identity = pl.concat_str(pl.lit(f"{at:08x}"), pl.col("cell_id").str.slice(0, 12))
            made_cells.append(of_field[row["field_id"]].with_columns(cell_id=identity, **mine))
            found += row["n_cells"]
            at += 1
    out.mkdir(parents=True, exist_ok=True)
    all_fields, all_cells = pl.concat(made_fields), pl.concat(made_cells)
    table = assess_patients(patients, all_fields, all_cells, load_vocabulary())
    write_table(out / "fields.parquet", all_fields, "fields")
    write_table(out / "cells.parquet", all_cells, "cells")
    write_table(out / "patients.parquet", table, "patients")
    (out / MANIFEST_NAME).write_bytes((source / MANIFEST_NAME).read_bytes())
    return {"fields": len(all_fields) / n_patients, "cells": int(table["n_cells"].sum()) / n_patients}


def one_patient(run: Path) -> dict[str, float]:
    """Render the first patient; return wall-clock and CPU seconds, and the size of the page."""
    job = _Job(run, "en", None)
    text = job.patient(0).text
    wall, processor = [], []
    for _ in range(3):
        start, used = time.perf_counter(), time.process_time()
        job.patient(0)
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {"seconds": min(wall), "processor_seconds": min(processor), "megabytes": len(text.encode()) / 1e6}


def whole_report(run: Path, out: Path, workers: int) -> dict[str, float]:
    """Write a report in a separate process; return wall-clock seconds, peak memory in MB, size of the folder."""
    command = [sys.executable, __file__, str(run), "--write-to", str(out), "--workers", str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  our own script
    measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    pages = [path.stat().st_size / 1e6 for path in out.rglob("*.html")]
    return measured | {"largest_page_megabytes": max(pages), "megabytes": sum(pages)}


def write_and_measure(run: Path, out: Path, workers: int) -> dict[str, float]:
    """Write the report here and return its cost; the workers' memory is that of the largest of them."""
    peaks = {"peak_megabytes": 0.0, "peak_megabytes_of_a_worker": 0.0}

    def look(_done: int, _total: int) -> None:
        peaks["peak_megabytes"] = max(peaks["peak_megabytes"], peak_megabytes("self"))
        of_workers = [peak_megabytes(child.pid) for child in multiprocessing.active_children()]
        peaks["peak_megabytes_of_a_worker"] = max([peaks["peak_megabytes_of_a_worker"], *of_workers])

    start = time.perf_counter()
    write_report(run, out, workers=workers, progress=look)
    seconds = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": seconds, "processor_seconds": sum(u.ru_utime + u.ru_stime for u in used)} | peaks


def peak_megabytes(process: int | str | None) -> float:
    """Peak memory of a process since its start, as Linux records it; 0 elsewhere, and when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_to:
        print(json.dumps(write_and_measure(options.run, options.write_to, options.workers)))
        return
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        result["patient"] = deal_out(options.run, root / "run", options.patients, options.cells)
        result["one_patient"] = one_patient(root / "run")
        result["cohort"] = whole_report(root / "run", root / "report", options.workers)
        deal_out(options.run, root / "small", options.patients // SMALL_PART, options.cells)
        result["small_cohort"] = whole_report(root / "small", root / "small_report", options.workers)
    result["load_after"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, values in result.items():
        shown = values if not isinstance(values, dict) else "  ".join(f"{k} {v:.2f}" for k, v in values.items())
        print(f"{name:14} {shown}")


if __name__ == "__main__":
    main()
