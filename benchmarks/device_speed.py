"""The table of docs/performance.md on another device: the whole command beside the usual pipeline, decoding included.

    python benchmarks/device_speed.py COHORT --device cuda --segmenter SEG.pt       # a graphics card
    python benchmarks/device_speed.py COHORT --device cpu --fields 4 --rounds 1     # to try the script

Each row is one `marrowscope bench predict` in ONNX Runtime on the device, in float32 on both sides, alternating with
benchmarks/usual_pipeline.py on the same device, sizes, number of classifiers and views. A device that is named is never
replaced by another: without a usable card the call fails. Needs the training extra, and for a card onnxruntime-gpu in
place of onnxruntime and a PyTorch for CUDA.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

USUAL = Path(__file__).with_name("usual_pipeline.py")
ROWS = {"no morphology": ["--no-morphology"], "with morphology": []}
TITLE = "| {device}, float32 | images/s | theirs, images/s | their time over ours | whole over networks, wall clock |"
FEW_DIGITS = 100.0


def bench_command(given: argparse.Namespace, options: list[str]) -> list[str]:
    """Return the call that measures one row."""
    device = "cuda:0" if given.device == "cuda" else given.device
    other = [str(USUAL), "--device", device, "--members", str(given.members), "--views", str(given.views)]
    other += ["--segmenter", str(given.segmenter)] if given.segmenter else []
    command = [sys.executable, "-m", "marrowscope.cli.main", "bench", "predict", str(given.cohort), "--json"]
    command += ["--backend", "onnxruntime", "--device", given.device, "--precision", "f32", "--processes", "1"]
    command += ["--fields", str(given.fields), "--rounds", str(given.rounds), *options]
    command += ["--bundle", given.bundle] if given.bundle else []
    sizes = [str(given.image_size), str(given.crop_size)]
    command += ["--image-size", sizes[0], "--crop-size", sizes[1], "--other-size", *sizes]
    return [*command, "--other", shlex.join(other)]


def table_row(name: str, found: dict[str, Any]) -> str:
    """Return one row: medians over the rounds, with the lowest and the highest."""
    rounds, n = found["rounds"], found["fields"]
    columns = [
        [n / entry["whole_s"] for entry in rounds],
        [n / entry["other_s"] for entry in rounds],
        [entry["other_s"] / entry["whole_s"] for entry in rounds],
        [entry["whole_s"] / entry["networks_s"] for entry in rounds],
    ]
    return "| " + " | ".join([name, *map(_with_range, columns)]) + " |"


def _with_range(values: list[float]) -> str:
    digits = 0 if max(values) >= FEW_DIGITS else 2
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Measure every row and print the table, with what ran and the milliseconds of each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, help="a cohort, or a folder of images with a scale")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--bundle", help="the bundle; the default one without it")
    parser.add_argument("--segmenter", type=Path, help="their segmenter, a checkpoint (.pt) or a graph")
    parser.add_argument("--members", type=int, default=2, help="classifiers of the other side, as many as the bundle's")
    parser.add_argument("--views", type=int, default=2, choices=[1, 2])
    parser.add_argument("--image-size", type=int, default=480)
    parser.add_argument("--crop-size", type=int, default=96)
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows, notes = [], []
    for name, options in ROWS.items():
        done = subprocess.run(bench_command(given, options), check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
        found = json.loads(done.stdout)
        rows.append(table_row(name, found))
        stages = {
            stage: statistics.median(entry["stages_s"].get(stage, 0.0) for entry in found["rounds"])
            for stage in found["rounds"][0]["stages_s"]
        }
        milliseconds = ", ".join(f"{stage} {1e3 * took / found['fields']:.1f}" for stage, took in stages.items())
        notes.append(
            f"{name}: {found['fields']} images, {found['cells']} cells; {found['setting']}; ms: {milliseconds}"
        )
    print(TITLE.format(device=given.device), "|---|---|---|---|---|", *rows, "", *notes, sep="\n")


if __name__ == "__main__":
    main()
