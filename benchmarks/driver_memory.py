"""Whether the driver of a cluster stays flat in memory: one input in 100 to 10,000 shards, without any network.

    python benchmarks/driver_memory.py --images 200000 --patients 10000 --shards 100 1000 10000 [--merge]

The input is made up and no file of it exists. Workers that answer at once take the blocks that the driver divides.
With --merge they write the runs of shards without cells, which are then merged into one run: how long that takes, and
how much of it is the search for copies. Each number of shards is a process of its own; printed are seconds of processor
time and the peak of its memory in MiB. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess  # its own script, in a process whose peak memory is its own
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.cluster.dispatch import dispatch
from marrowscope.cluster.merge import merge
from marrowscope.cohort.inputs import Inputs
from marrowscope.cohort.shards import divide
from marrowscope.config import config_hash
from marrowscope.predict import PredictConfig, count_run, hash_inputs, new_assessor
from marrowscope.records import InputImage, Patient
from marrowscope.runs.manifest import Manifest, installed_versions, write_manifest
from marrowscope.runs.parquet import conform, empty_table, write_table
from marrowscope.runs.shard_record import ShardPatient, ShardRecord, write_shard_record
from marrowscope.runs.table_hashes import hash_tables

if TYPE_CHECKING:
    from marrowscope.bundle import Bundle
    from marrowscope.cluster.shard_worker import Refusal
    from marrowscope.cohort.shards import Block


class InstantCrew:
    """Sixteen workers that are done at once; with ``out`` they write the runs of their shards."""

    def __init__(self, bundle: Bundle | None, out: Path) -> None:
        self._bundle, self._out = bundle, out
        self._given: deque[Block] = deque()

    @property
    def n_working(self) -> int:
        """Blocks that were given and not returned."""
        return len(self._given)

    def give(self, block: Block) -> bool:
        """Take a block."""
        if len(self._given) == 16:  # noqa: PLR2004 - as the docstring says
            return False
        self._given.append(block)
        return True

    def wait(self) -> list[tuple[Block, int | Refusal | None]]:
        """Return the oldest block."""
        block = self._given.popleft()
        if self._bundle is not None:
            write_shard(block, self._bundle, self._out / f"{block.shard.index:05}")
        return [(block, len(block.inputs.images))]


def made_up(n_patients: int, n_images: int) -> Inputs:
    """Return an input with the images dealt out evenly."""
    patients = tuple(Patient(f"patient-{index:06}", f"C{index % 6}", "control") for index in range(n_patients))
    images = []
    for index in range(n_images):
        patient_id = patients[index * n_patients // n_images].patient_id
        name = f"{patient_id}/field_{index:07}"
        images.append(InputImage(name, patient_id, Path(f"/archive/{name}.jpg"), 0.1))
    return Inputs(patients, tuple(images))


def write_shard(block: Block, bundle: Bundle, folder: Path) -> None:
    """Write the run of a shard whose photographs have no cells, each with a fingerprint of its own."""
    config = PredictConfig()
    center_of = {patient.patient_id: patient.center for patient in block.inputs.patients}
    digests = [hashlib.sha256(image.field_id.encode()).hexdigest() for image in block.inputs.images]
    zeros = ["n_contours", "n_cells", *(f"n_rejected_{reason}" for reason in REJECT_REASONS)]
    rows = [
        {
            "field_id": image.field_id,
            "patient_id": image.patient_id,
            "center": center_of[image.patient_id],
            "path": str(image.path),
            "sha256": digest,
            "status": "ok",
            "um_per_px": 0.1,
            "width_px": 1000,
            "height_px": 1000,
        }
        | dict.fromkeys(zeros, 0)
        for image, digest in zip(block.inputs.images, digests, strict=True)
    ]
    folder.mkdir(parents=True)
    fields = conform(pl.DataFrame(rows), "fields")
    assessor = new_assessor(block.inputs.patients, bundle, config)
    assessor.add(fields, empty_table("cells"))
    patients = assessor.finish()
    write_table(folder / "fields.parquet", fields, "fields")
    write_table(folder / "cells.parquet", empty_table("cells"), "cells")
    write_table(folder / "patients.parquet", patients, "patients")
    prints = {
        image.field_id: f"{int(digest[0], 16) % 8}{digest[1:]}"
        for image, digest in zip(block.inputs.images, digests, strict=True)
    }
    record = ShardRecord(
        index=block.shard.index,
        of=block.shard.of,
        inputs_sha256=block.whole_sha256,
        processor="",
        patients=tuple(ShardPatient.of(patient) for patient in block.inputs.patients),
        fingerprints=prints,
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
    """Return the peak of this process's memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(n_images: int, n_patients: int, n_shards: int, *, merges: bool) -> None:
    """Divide, dispatch and merge once; prints one line of the table."""
    inputs = made_up(n_patients, n_images)
    before = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        out, began = Path(folder), time.process_time()
        bundle = load_bundle(demonstration_bundle()) if merges else None
        n_done = 0

        def done(_: Block) -> None:
            nonlocal n_done
            n_done += 1

        dispatch(divide(inputs, n_shards), InstantCrew(bundle, out / "shards"), done)
        line = f"| {n_shards:,} | {time.process_time() - began:.1f} | {before} | {peak_mib()} |"
        if bundle is not None:
            del inputs
            began = time.process_time()
            merge(sorted((out / "shards").iterdir()), bundle, out / "run")
            line += f" {time.process_time() - began:.1f} | {peak_mib()} |"
        if n_done != n_shards:
            message = f"found {n_done} of {n_shards} shards done"
            raise SystemExit(message)
        sys.stdout.write(f"{line}\n")


def main() -> None:
    """Print a line for each number of shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000, help="Images of the input.")
    parser.add_argument("--patients", type=int, default=10_000, help="Patients of the input.")
    parser.add_argument("--shards", type=int, nargs="+", default=[100, 1_000, 10_000], help="Numbers of shards.")
    parser.add_argument("--merge", action="store_true", help="Write the shards and merge them.")
    arguments = parser.parse_args()
    if len(arguments.shards) == 1:
        measure(arguments.images, arguments.patients, arguments.shards[0], merges=arguments.merge)
        return
    columns = ["shards", "processor s", "MiB with the input", "MiB at the peak"]
    columns += ["merge, processor s", "MiB at its peak"] if arguments.merge else []
    sys.stdout.write(f"| {' | '.join(columns)} |\n|{'---:|' * len(columns)}\n")
    sys.stdout.flush()
    for n_shards in arguments.shards:
        words = ["--images", str(arguments.images), "--patients", str(arguments.patients), "--shards", str(n_shards)]
        words += ["--merge"] if arguments.merge else []
        subprocess.run([sys.executable, __file__, *words], check=True)  # noqa: S603 - this script


if __name__ == "__main__":
    main()
