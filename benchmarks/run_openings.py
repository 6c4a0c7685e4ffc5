"""How long a merged run of many patients takes to open, and whether memory grows: evaluate, report, review.

    python benchmarks/run_openings.py --patients 100 1000 --pages 20

Simulated fields are predicted once and dealt out to made-up patients, each with about --cells cells, in shards of 125
patients, which `merge` puts together: every field has a hash, a fingerprint and cells of its own, and the first --pages
patients have photographs. Then, each in a process of its own:

evaluate: `evaluate_run` until it has opened the run, then to its end; the truth is the run's own contours, 20 a field
report:   the tables of all patients, then the pages of --pages patients
review:   a station over the run in SQLite, until a reader who has entered has the first page and the worklist

Printed are wall-clock seconds (processor seconds) until it is open, those of the rest, and the peaks of memory in MiB
before, when open, and at the end. Linux only.
"""
# ruff: noqa: PLC0415 - what a command imports counts for its own process

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess  # its own script, in a process whose peak memory is its own
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import polars as pl

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cluster.merge import merge
from marrowscope.config import config_hash
from marrowscope.predict import PredictConfig, count_run, hash_inputs, new_assessor, predict
from marrowscope.records import Annotation, Field, Patient
from marrowscope.runs.manifest import Manifest, installed_versions, write_manifest
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.runs.shard_record import ShardPatient, ShardRecord, write_shard_record
from marrowscope.runs.table_hashes import hash_tables
from marrowscope.simulate import SimulationConfig, simulate_cohort

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.bundle import Bundle

PATIENTS_A_SHARD = 125
ANNOTATED_A_FIELD = 20


def make_source(root: Path) -> Path:
    """Predict twelve simulated fields."""
    simulation = SimulationConfig(
        patients=2, centers=1, fields=6, seed=4, width_px=800, height_px=600, cells_per_field=(24, 28)
    )
    simulate_cohort(root / "source", simulation)
    predict([root / "source"], demonstration_bundle(), root / "source-run", config=PredictConfig(processes=1))
    return root / "source-run"


def make_merged(root: Path, source: Path, n_patients: int, n_pages: int, n_cells: int) -> tuple[int, int]:
    """Write the shards of ``n_patients`` and merge them to ``root / "run"``; returns its fields and cells."""
    bundle = load_bundle(demonstration_bundle())
    fields = read_table(source / "fields.parquet", "fields")
    cells = read_table(source / "cells.parquet", "cells")
    of_field = {str(key[0]): frame for key, frame in cells.group_by("field_id", maintain_order=True)}
    patients = [Patient(f"patient-{k:05d}", f"C{k % 6}", "control", specimen="marrow") for k in range(n_patients)]
    blocks = [patients[start : start + PATIENTS_A_SHARD] for start in range(0, n_patients, PATIENTS_A_SHARD)]
    rows, at = list(fields.iter_rows(named=True)), 0
    for index, block in enumerate(blocks, start=1):
        made_fields, made_cells, first = [], [], at
        for patient in block:
            found = 0
            while found < n_cells:
                row = rows[at % len(rows)]
                name = f"{patient.patient_id}/field_{at}"
                path = root / "images" / f"{name}.jpg"
                if patient in patients[:n_pages]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    data = Path(row["path"]).read_bytes() + name.encode()  # behind the picture's end
                    path.write_bytes(data)
                    digest = sha256(data).hexdigest()
                else:
                    digest = sha256(name.encode()).hexdigest()
                own = {"field_id": name, "patient_id": patient.patient_id}
                made_fields.append(row | own | {"center": patient.center, "path": str(path), "sha256": digest})
                identity = pl.concat_str(pl.lit(f"{at:08x}"), pl.col("cell_id").str.slice(0, 12))
                literal = {key: pl.lit(text) for key, text in own.items()}
                made_cells.append(of_field[row["field_id"]].with_columns(cell_id=identity, **literal))
                found += row["n_cells"]
                at += 1
        table = pl.DataFrame(made_fields, schema=fields.schema)
        write_shard(root / "shards" / f"{index:05}", (index, len(blocks)), block, table, pl.concat(made_cells), bundle)
        if at == first:
            message = f"found no field for shard {index}, expected some"
            raise SystemExit(message)
    merge(sorted((root / "shards").iterdir()), bundle, root / "run")
    return at, int(pl.scan_parquet(root / "run" / "cells.parquet").select(pl.len()).collect().item())


def write_shard(  # noqa: PLR0917 - a shard has so many parts
    folder: Path,
    place: tuple[int, int],
    block: list[Patient],
    fields: pl.DataFrame,
    cells: pl.DataFrame,
    bundle: Bundle,
) -> None:
    """Write the run of one shard, each of its photographs with a fingerprint of its own."""
    folder.mkdir(parents=True)
    config = PredictConfig()
    assessor = new_assessor(block, bundle, config)
    assessor.add(fields, cells)
    patients = assessor.finish()
    write_table(folder / "fields.parquet", fields, "fields")
    write_table(folder / "cells.parquet", cells, "cells")
    write_table(folder / "patients.parquet", patients, "patients")
    digests = dict(fields.select("field_id", "sha256").iter_rows())
    record = ShardRecord(
        index=place[0],
        of=place[1],
        inputs_sha256="made up",
        processor="",
        patients=tuple(ShardPatient.of(patient) for patient in block),
        fingerprints={name: f"{int(digest[0], 16) % 8}{digest[1:]}" for name, digest in digests.items()},
        input_faults=(),
        left_out_of_input=0,
        faults=(),
        copies=(),
    )
    write_shard_record(folder, record)
    manifest = Manifest(
        command=(),
        versions=installed_versions(),
        bundle=bundle.provenance(),
        backend="none",
        device="none",
        precision="f32",
        config=config.model_dump(mode="json"),
        config_sha256=config_hash(config),
        input_sha256=hash_inputs(fields),
        tables=hash_tables(folder),
        counts=count_run(fields, patients, 0),
    )
    write_manifest(folder, manifest)


def peak_mib() -> int:
    """Return the peak of this process's memory since the last call of ``forget_peak``."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Watch:
    """Seconds and peaks: ``open`` is called when the run is open, ``end`` at the end."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew here
        self.found: dict[str, Any] = {"before_mib": peak_mib()}
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        """Note what passed since the last call, and the peak so far."""
        wall, processor = time.perf_counter(), time.process_time()
        self.found |= {
            f"{name}_s": round(wall - self._wall, 1),
            f"{name}_processor_s": round(processor - self._processor, 1),
            f"{name}_mib": peak_mib(),
        }
        self._wall, self._processor = wall, processor


def open_evaluate(root: Path, _n_pages: int) -> dict[str, Any]:
    """Evaluate the run against its own contours."""
    from marrowscope.evaluate import EvaluateConfig, evaluate_run, evaluation
    from marrowscope.evaluate.link import link_cells
    from marrowscope.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    codes = {category: category for category in vocabulary.categories} | {"Other": "J2"}
    columns = ["field_id", "patient_id", "center", "path", "sha256", "width_px", "height_px", "um_per_px"]
    fields = read_table(root / "run" / "fields.parquet", "fields").select(columns)
    chosen = pl.scan_parquet(root / "run" / "cells.parquet").filter(pl.col("category").is_not_null())
    chosen = chosen.select("field_id", "category", "contour_xy")
    # Only 12 photographs are there: their outlines are shared by all fields that show them.
    shown: dict[str, tuple[Annotation, ...]] = {}
    truth = []
    for place, row in enumerate(fields.iter_rows(named=True)):
        key = str(place % 12)
        if key not in shown:
            own = chosen.filter(pl.col("field_id") == row["field_id"]).head(ANNOTATED_A_FIELD).collect()
            shown[key] = tuple(
                Annotation(codes[category], pl.Series(points).to_numpy().reshape(-1, 2), index)
                for index, (_, category, points) in enumerate(own.iter_rows())
            )
        truth.append(Field(**row | {"path": Path(row["path"])}, annotated=True, annotations=shown[key]))
    patients = [
        Patient(*row)
        for row in read_table(root / "run" / "patients.parquet", "patients")
        .select("patient_id", "center", "diagnosis")
        .iter_rows()
    ]
    watch = Watch()

    def opened(*given: Any, **named: Any) -> Any:  # noqa: ANN401  as link_cells
        watch.lap("open")
        return link_cells(*given, **named)

    with patch.object(evaluation, "link_cells", opened):
        evaluate_run(root / "run", patients, truth, vocabulary, config=EvaluateConfig(n_resamples=20))
    watch.lap("rest")
    return watch.found


def open_report(root: Path, n_pages: int) -> dict[str, Any]:
    """Open the run as a process that writes pages does, and write some."""
    from marrowscope.report.html import _Job

    watch = Watch()
    job = _Job(root / "run", "en", None)
    n_rows = len(job.tables.rows)
    watch.lap("open")
    for index in range(min(n_pages, n_rows)):
        if "data:image/webp" not in job.patient(index).text:
            message = f"found no picture on page {index}, expected some"
            raise SystemExit(message)
    watch.lap("rest")
    return watch.found


def open_review(root: Path, _n_pages: int) -> dict[str, Any]:
    """Open a station and ask for its first page and its worklist."""
    from starlette.testclient import TestClient

    from marrowscope.review.accounts import add_account, utc_now
    from marrowscope.review.database import make_private_file, sqlite_url
    from marrowscope.review.guard import COOKIE
    from marrowscope.review.run_cells import RunCells
    from marrowscope.review.server import create_app
    from marrowscope.review.sessions import begin_session
    from marrowscope.review.station import Station
    from marrowscope.review.store import Store

    watch = Watch()
    database = root / f"review-{os.getpid()}.sqlite"
    make_private_file(database)
    store = Store(sqlite_url(database))
    station = Station(RunCells([root / "run"]), store, lone_reader=None)
    add_account(store.engine, "reader", ["reader"])
    with TestClient(create_app(station), base_url="http://127.0.0.1") as client:
        client.cookies.set(COOKIE, begin_session(store.engine, "reader", utc_now()))
        watch.lap("open")
        for address in ("/", "/api/worklist"):
            answer = client.get(address)
            if answer.status_code != 200:  # noqa: PLR2004
                message = f"{address}: found {answer.status_code} {answer.text[:300]}, expected an answer"
                raise SystemExit(message)
    watch.lap("rest")
    station.close()
    return watch.found


COMMANDS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "evaluate": open_evaluate,
    "report": open_report,
    "review": open_review,
}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--open", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        sys.stdout.write(json.dumps(COMMANDS[given.open](given.root, given.pages)) + "\n")
        return
    write = sys.stdout.write
    head = "| command | patients | open, s (processor) | then, s (processor) | MiB before | open | at the end |\n"
    lines, sizes = [head, "|---|---:|---:|---:|---:|---:|---:|\n"], []
    with tempfile.TemporaryDirectory() as folder:
        source = make_source(Path(folder))
        for n_patients in given.patients:
            root = Path(folder) / str(n_patients)
            n_fields, n_cells = make_merged(root, source, n_patients, given.pages, given.cells)
            megabytes = (root / "run" / "cells.parquet").stat().st_size / 1e6
            sizes.append(f"{n_patients} patients: {n_fields} fields, {n_cells} contours, {megabytes:.0f} MB of cells\n")
            for name in COMMANDS:
                command = [sys.executable, __file__, "--open", name, "--root", str(root), "--pages", str(given.pages)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
                got: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
                lines.append(
                    f"| {name} | {n_patients:,} | {got['open_s']} ({got['open_processor_s']}) "
                    f"| {got['rest_s']} ({got['rest_processor_s']}) | {got['before_mib']} | {got['open_mib']} "
                    f"| {got['rest_mib']} |\n"
                )
    write("".join([*sizes, *lines, f"load {os.getloadavg()[0]:.1f}\n"]))


if __name__ == "__main__":
    main()
