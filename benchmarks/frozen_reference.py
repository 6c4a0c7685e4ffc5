"""Freeze the program's results, and compare a later version with them: for changes that must not alter a result.

    python benchmarks/frozen_reference.py freeze REFERENCE     # before the first change
    python benchmarks/frozen_reference.py compare REFERENCE    # after each step; exits with 1 where something differs

Everything goes through the command line, so that the two versions may be laid out in any way. Frozen are: the tables of
``predict`` in float32 on a simulated cohort (threads and processes, both runtimes), a crop set, the weights of a small
training, the report in every format and both languages, and an evaluation. Reports and evaluations are made from the
frozen run. Tables are compared by column and by their bytes; times and versions are removed from texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load_file

RUNS = {
    "openvino-threads": ("--backend", "openvino", "--threads", "2", "--processes", "1"),
    "openvino-processes": ("--backend", "openvino", "--threads", "2", "--processes", "2"),
    "onnxruntime-threads": ("--backend", "onnxruntime", "--threads", "2", "--processes", "1"),
    "onnxruntime-processes": ("--backend", "onnxruntime", "--threads", "2", "--processes", "2"),
}
TABLES = ("fields", "cells", "patients")
TRAINING = """
threads = 1
epoch_crops = 128
batch_size = 32
init = "lite0"
checkpoint_every_steps = 100
[[stages]]
name = "gt-to-yolo"
train_on = "expert"
select_on = "predicted"
epochs = 1
learning_rate = 1e-3
[[stages]]
name = "yolo-to-yolo"
train_on = "predicted"
select_on = "predicted"
epochs = 1
learning_rate = 3e-4
"""
CHANGING = (
    re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?"),
    re.compile(r"\b\d+(\.\d+)? s\b"),
    re.compile(r'"seconds": [\d.]+'),
)
TEXT = {".html", ".csv", ".json", ".js", ".css", ".md", ".toml", ".svg"}
IMAGES = {".webp", ".png", ".jpg"}


def marrowscope(*arguments: str | Path, accept: tuple[int, ...] = (0,)) -> None:
    """Run the command line of this environment; stops with its output where it fails."""
    command = [sys.executable, "-m", "marrowscope.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode not in accept:
        message = f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        raise SystemExit(message)


def make(where: Path, source: Path) -> None:
    """Make everything to compare in ``where``; cohort, run and configuration come from ``source``."""
    cohort, run, config = source / "cohort", source / "runs" / "openvino-threads", source / "training.toml"
    for name, options in RUNS.items():
        out = where / "runs" / name
        marrowscope(
            "predict", cohort, "--out", out, "--precision", "f32", "--no-report", "--batch-size", "16", *options
        )
    marrowscope("prepare", cohort, "--out", where / "crops", "--segmenter", "demo")
    marrowscope("train", "classifier", source / "crops", "--out", where / "training", "--config", config)
    for language in ("en", "zh"):
        formats = [word for name in ("html", "pdf", "csv", "json", "fhir") for word in ("--format", name)]
        marrowscope("report", run, "--out", where / f"report-{language}", "--lang", language, *formats)
    marrowscope("evaluate", run, cohort, "--out", where / "evaluation")


def freeze(reference: Path) -> None:
    """Simulate a cohort and make the reference beside it."""
    reference.mkdir(parents=True)
    marrowscope("simulate", reference / "cohort", "--patients", "6", "--centers", "2", "--fields", "5", "--seed", "11")
    (reference / "training.toml").write_text(TRAINING, encoding="utf-8")
    make(reference, reference)


def compare(reference: Path) -> int:
    """Make everything again beside the reference; returns the number of differences, each printed."""
    differences: list[str] = []
    with tempfile.TemporaryDirectory(prefix="marrowscope-compare-", dir=reference.parent) as scratch:
        new = Path(scratch)
        make(new, reference)
        for name in RUNS:
            for table in TABLES:
                path = Path("runs") / name / f"{table}.parquet"
                differences += compare_tables(reference / path, new / path, str(path))
        differences += compare_tables(reference / "crops/cells.parquet", new / "crops/cells.parquet", "crops/cells")
        for name in ("crops.npy", "masks.npy"):
            if digest(reference / "crops" / name) != digest(new / "crops" / name):
                differences.append(f"crops/{name}: other bytes")
        differences += compare_weights(reference / "training", new / "training")
        for folder in ("report-en", "report-zh", "evaluation"):
            differences += compare_folders(reference / folder, new / folder, folder)
    for line in differences:
        print(line)
    print(f"{len(differences)} differences")
    return len(differences)


def compare_tables(old: Path, new: Path, name: str) -> list[str]:
    """Compare two Parquet files; lists columns missing from one, and equal values in other bytes too."""
    if digest(old) == digest(new):
        return []
    before, after = pl.read_parquet(old), pl.read_parquet(new)
    gone = [column for column in before.columns if column not in after.columns]
    came = [column for column in after.columns if column not in before.columns]
    both = [column for column in before.columns if column in after.columns]
    if before.height != after.height:
        return [f"{name}: {after.height} rows, {before.height} before"]
    changed = [column for column in both if not before[column].equals(after[column], null_equal=True)]
    words = [
        f"{title} {', '.join(columns)}"
        for title, columns in (("without", gone), ("with", came), ("other values in", changed))
        if columns
    ]
    return [f"{name}: {'; '.join(words) or 'equal values, other bytes'}"]


def compare_weights(old: Path, new: Path) -> list[str]:
    """Compare every tensor of the two trainings bit by bit."""
    before, after = (load_file(folder / "classifier.safetensors") for folder in (old, new))
    if before.keys() != after.keys():
        return [f"training: other tensors {sorted(before.keys() ^ after.keys())[:4]}"]
    changed = [name for name, value in before.items() if not np.array_equal(value, after[name])]
    return [f"training: {len(changed)} of {len(before)} tensors differ"] if changed else []


def compare_folders(old: Path, new: Path, name: str) -> list[str]:
    """Compare texts without their times, pictures by their bytes; PDFs by their presence (their dates differ)."""
    before, after = ({path.relative_to(top) for path in top.rglob("*") if path.is_file()} for top in (old, new))
    found = [f"{name}: without {path}" for path in sorted(before - after)]
    found += [f"{name}: with {path}" for path in sorted(after - before)]
    for path in sorted(before & after):
        if path.suffix in TEXT:
            texts = [steady(folder / path) for folder in (old, new)]
            if texts[0] != texts[1]:
                found.append(f"{name}: {path} differs{first_difference(*texts)}")
        elif path.suffix in IMAGES and digest(old / path) != digest(new / path):
            found.append(f"{name}: {path} has other bytes")
    return found


def steady(path: Path) -> str:
    """Read a text without what changes from call to call."""
    text = path.read_text(encoding="utf-8")
    for pattern in CHANGING:
        text = pattern.sub("", text)
    return text


def first_difference(old: str, new: str) -> str:
    """Show where two texts begin to differ."""
    place = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    window = slice(max(0, place - 30), place + 50)
    return f": {json.dumps(old[window])} now {json.dumps(new[window])}"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("freeze", "compare"))
    parser.add_argument("reference", type=Path)
    given = parser.parse_args()
    if given.action == "freeze":
        if given.reference.exists():
            shutil.rmtree(given.reference)
        freeze(given.reference)
    else:
        raise SystemExit(1 if compare(given.reference) else 0)
