"""What it costs that every found field is written at once, so that no kill costs a finished one.

    python benchmarks/found_fields.py --out /tmp/found --fields 100 --pairs 5

Simulated fields are predicted in turns with and without it, by one worker whose networks are open, in one thread.
Printed are the processor seconds of each pair, the ratio of their sums, the bytes of a field, and the milliseconds
that writing and reading a field take alone. The tables of all runs have to be equal to the byte.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from unittest.mock import patch

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.predict import PredictConfig, predict
from marrowscope.runs import finished_fields
from marrowscope.runs.finished_fields import FieldsFile, FinishedFields
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.worker import Worker

TABLES = ("fields", "cells", "patients")


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cells", type=int, nargs=2, default=(14, 18), help="cells of a field, from and to")
    parser.add_argument("--side", type=int, nargs=2, default=(800, 600), help="pixels of a field")
    given = parser.parse_args()
    cohort = given.out / "cohort"
    width, height = given.side
    simulation = SimulationConfig(
        patients=given.fields // 10, centers=1, fields=10, seed=3, width_px=width, height_px=height,
        cells_per_field=tuple(given.cells),
    )  # fmt: skip
    if not cohort.exists():
        simulate_cohort(cohort, simulation)
    config = PredictConfig(threads=1, processes=1)
    bundle = load_bundle(demonstration_bundle())
    worker = Worker(bundle, config)
    seconds: dict[str, list[float]] = {"with": [], "without": []}

    def measure(kind: str) -> None:
        out = given.out / kind
        shutil.rmtree(out, ignore_errors=True)
        started = time.process_time()
        predict([cohort], bundle, out, config=config, worker=worker)
        seconds[kind].append(round(time.process_time() - started, 2))

    measure("with")  # what only the first run does is not measured
    seconds["with"].clear()
    for index in range(given.pairs):
        for kind in ("with", "without") if index % 2 else ("without", "with"):
            if kind == "with":
                measure(kind)
            else:
                with patch.object(FinishedFields, "add", lambda _self, _found: None):
                    measure(kind)
    equal = all(
        (given.out / "with" / f"{name}.parquet").read_bytes()
        == (given.out / "without" / f"{name}.parquet").read_bytes()
        for name in TABLES
    )
    images = collect_inputs([cohort]).images[:20]
    found = list(worker.find(images))
    path = given.out / "one.fields"
    path.unlink(missing_ok=True)
    started = time.process_time()
    with FieldsFile(path) as file:
        for field in found:
            file.add(field)
    write_ms = 1000 * (time.process_time() - started) / len(found)
    started = time.process_time()
    n_read = len(list(finished_fields._read_all(path)))  # noqa: SLF001  what opening an unfinished run does
    read_ms = 1000 * (time.process_time() - started) / n_read
    result = {
        "processor_s": seconds,
        "ratio": round(sum(seconds["with"]) / sum(seconds["without"]), 4),
        "ratios_of_pairs": [round(a / b, 3) for a, b in zip(seconds["with"], seconds["without"], strict=True)],
        "tables_equal": equal,
        "cells_a_field": sum(len(field.cells) for field in found) / len(found),
        "kb_a_field": round(path.stat().st_size / len(found) / 1000, 1),
        "write_ms_a_field": round(write_ms, 2),
        "read_ms_a_field": round(read_ms, 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
