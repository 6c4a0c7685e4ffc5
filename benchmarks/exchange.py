"""Time and memory of the annotation formats: many cells of many points go out and come back.

    python benchmarks/exchange.py [--cells 100000] [--points 60] [--images 100] [--format NAME ...]

A run is made up: star-shaped contours on a grid, with calls, probabilities and morphology as `predict` writes them.
Each format is exported (images copied), then imported to LabelMe, in processes of their own, and the contours, labels
and ids that came back are compared with the run's table. Prints wall-clock and CPU seconds and peak memory (the
kernel's VmHWM) of both, and the largest distance between points. `--images 1` puts all cells into one image.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.imaging import sha256_file, write_image
from marrowscope.runs.manifest import Manifest, RunCounts, UsedBundle, write_manifest
from marrowscope.runs.parquet import conform, write_table
from marrowscope.runs.table_hashes import hash_tables
from marrowscope.vocabulary import load_vocabulary

STEP_PX, RADIUS_PX = 30, 11.0
FORMATS = ("labelme", "coco", "geojson", "yolo", "labelstudio")


def make_run(folder: Path, n_cells: int, n_points: int, n_images: int, seed: int) -> None:
    """Write a run of one patient and its images."""
    rng = np.random.default_rng(seed)
    per_image = math.ceil(n_cells / n_images)
    columns = math.ceil(math.sqrt(per_image))
    side = columns * STEP_PX + STEP_PX
    angle = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    categories = load_vocabulary().categories
    (folder / "images").mkdir(parents=True)
    fields, cells = [], []
    for number in range(n_images):
        path = folder / "images" / f"f{number:04}.png"
        write_image(path, np.full((side, side, 3), 200, dtype=np.uint8))
        n = min(per_image, n_cells - number * per_image)
        where = {"field_id": f"p1/{path.stem}", "patient_id": "p1"}
        size = {"width_px": side, "height_px": side, "sha256": sha256_file(path), "um_per_px": 0.2}
        fields.append({**where, **size, "center": "A", "path": str(path), "status": "ok"})
        radius = RADIUS_PX * rng.uniform(0.9, 1.1, (n, n_points))
        center = np.column_stack(np.divmod(np.arange(n), columns)) * STEP_PX + STEP_PX
        x = center[:, 1:] + radius * np.cos(angle)
        y = center[:, :1] + radius * np.sin(angle)
        contours = np.stack([x, y], axis=2).reshape(n, -1)
        p = rng.dirichlet(np.ones(len(categories)), n)
        frame = {
            "cell_id": [rng.bytes(10).hex() for _ in range(n)],
            **{key: [value] * n for key, value in where.items()},
            "contour_xy": contours.tolist(),
            "score": rng.uniform(0.3, 1, n),
            "area_um2": rng.uniform(50, 300, n),
            "circularity": rng.uniform(0.7, 1, n),
            "p_cblc": rng.uniform(0, 1, n),
            "p_countable": rng.uniform(0, 1, n),
            "p_category": p.tolist(),
            "category": rng.choice(["N2", "N3", "E", "R2", "L"], n).tolist(),
            "is_cblc": [False] * n,
            "is_countable": [True] * n,
            **{name: rng.uniform(0, 1, n) for name in MORPHOLOGY_COLUMNS},
        }
        cells.append(pl.DataFrame(frame))
    run = folder / "run"
    run.mkdir()
    write_table(run / "fields.parquet", conform(pl.DataFrame(fields), "fields"), "fields")
    write_table(run / "cells.parquet", conform(pl.concat(cells), "cells"), "cells")
    patients = pl.DataFrame([{"patient_id": "p1", "center": "A", "diagnosis": "AML", "specimen": "marrow"}])
    write_table(run / "patients.parquet", conform(patients, "patients"), "patients")
    counts = RunCounts(
        patients=1, images=n_images, images_read=n_images, images_failed=0, contours=n_cells, rejected={},
        cells=n_cells, countable=n_cells, cblc=0, contradictions=0,
    )  # fmt: skip
    manifest = Manifest(
        command=(), versions={}, bundle=UsedBundle(name="made up", version="1"), backend="none", device="none",
        precision="f32", config={}, config_sha256="", input_sha256="", counts=counts, tables=hash_tables(run),
    )  # fmt: skip
    write_manifest(run, manifest)


def call(*arguments: str) -> tuple[float, float, float]:
    """Run the command line in a process; return wall-clock seconds, CPU seconds and peak memory in GB.

    The peak is the kernel's VmHWM: ru_maxrss of a child begins at the memory of the process that started it.
    """
    script = (
        "import re, resource, sys\n"
        "from marrowscope.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"
        "    print(used.ru_utime + used.ru_stime, peak, file=sys.stderr)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    cpu_seconds, kilobytes = done.stderr.strip().splitlines()[-1].split()
    return seconds, float(cpu_seconds), int(kilobytes) * 1024 / 1e9


def compare(run: Path, out: Path) -> tuple[int, int, int, float]:
    """Return cells written, cells and ids that came back, and the largest distance of a point."""
    cells = pl.read_parquet(run / "cells.parquet", columns=["cell_id", "field_id", "contour_xy"])
    n_back = n_ids = 0
    worst = 0.0
    for (field_id,), expected in cells.group_by("field_id", maintain_order=True):
        shapes = json.loads((out / f"{field_id}.json").read_text(encoding="utf-8"))["shapes"]
        n_back += len(shapes)
        for shape, cell_id, contour in zip(shapes, expected["cell_id"], expected["contour_xy"], strict=True):
            n_ids += shape.get("cell_id") == cell_id
            gap = np.abs(np.array(shape["points"]) - contour.to_numpy().reshape(-1, 2)).max()
            worst = max(worst, float(gap))
    return cells.height, n_back, n_ids, worst


def measure(folder: Path, file_format: str) -> str:
    """Export and import one format; return its row."""
    out = folder / file_format
    run = folder / "run"
    export = call("cohort", "export", str(run), "--out", str(out), "--format", file_format)
    sources = sorted([*out.glob("annotations.*.json"), *out.glob("annotations.*.yaml")])
    beside = sorted([*out.glob("*/*.json"), *out.glob("*/*.geojson")])
    seconds, cpu, memory = 0.0, 0.0, 0.0
    for source in sources or beside:
        target = ("--images", str(out)) if sources else ("--image", str(source.with_suffix(".png")))
        took, computed, needed = call("cohort", "import", str(source), *target, "--overwrite")
        seconds, cpu, memory = seconds + took, cpu + computed, max(memory, needed)
    size = sum(path.stat().st_size for path in sources or beside) / 1e6
    n_cells, n_back, n_ids, worst = compare(run, out)
    shutil.rmtree(out)
    return (
        f"| {file_format} | {len(sources or beside)} | {size:.0f} | "
        f"{export[0]:.1f} | {export[1]:.1f} | {export[2]:.2f} | "
        f"{seconds:.1f} | {cpu:.1f} | {memory:.2f} | {n_back} of {n_cells} | {n_ids} | {worst:.1e} |"
    )


def main() -> None:
    """Measure every format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", choices=FORMATS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_run(folder, arguments.cells, arguments.points, arguments.images, arguments.seed)
        print(f"{arguments.cells} cells of {arguments.points} points in {arguments.images} images")
        print(
            "| format | files | MB | export s | CPU s | GB | import s | CPU s | GB | cells back | ids back | worst px |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for file_format in arguments.format or FORMATS:
            print(measure(folder, file_format), flush=True)


if __name__ == "__main__":
    main()
