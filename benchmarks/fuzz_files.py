"""Damaged annotations, tables, runs, bundles, configurations: read right, named in a fault, or refused in a sentence.

    python benchmarks/fuzz_files.py [--seeds 1000] [--first 1000] [--only labelme]

Small valid files are damaged as bytes, as text, and in their structure; kind and seed give a file again
(`tests.file_mutations`). Where what is right can be known from the file alone, it is read a second time by the standard
library and compared: annotations (codes and points), patients.csv (rows), files whose stated hash no longer fits, and
numbers that are none. `hash right` and runs that are read, evaluated or reported have the hash stated again after the
damage, so that the checks behind it are reached; a number changed inside its range cannot be known as wrong. Exits with
1 for a traceback or a wrong result.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import math
import shutil
import sys
import tempfile
import time
import tomllib
import warnings
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from marrowscope.bundle import SPEC_NAME, load_bundle
from marrowscope.bundle.bundle import GOLDEN_FILE
from marrowscope.bundle.golden import check_golden
from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFormat
from marrowscope.cohort.formats import annotation_formats
from marrowscope.cohort.reader import Cohort, read_cohort
from marrowscope.config import load_config
from marrowscope.disk import write_text
from marrowscope.errors import MarrowscopeError
from marrowscope.evaluate.document import read_document
from marrowscope.evaluate.evaluation import evaluate_run
from marrowscope.evaluate.link import EvaluateConfig
from marrowscope.evaluate.output import write_evaluation
from marrowscope.evaluate.written_tables import read_tables
from marrowscope.imaging import sha256_bytes, sha256_file, write_image
from marrowscope.records import Annotation, Field, Patient
from marrowscope.report.html import write_report
from marrowscope.runs.parquet import read_table
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.train.config import ClassifierConfig
from marrowscope.vocabulary import DEFAULT_VOCABULARY, load_vocabulary
from tests import bundles, fake_runs
from tests.file_mutations import (
    damaged_arrays,
    damaged_bytes,
    damaged_csv,
    damaged_json,
    damaged_rows,
    damaged_table,
    damaged_text,
    damaged_toml,
    generator,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.random import Generator

COLUMNS = ("tried", "read", "refused", "traceback", "wrong silently")
_TIMES = 8
"""Bundles and reports take longer than a file: that many times fewer of them are tried."""


@dataclass(frozen=True)
class Kind:
    """One kind of file: where it lies, what is done to it, how it is read; ``read`` gives whether the result is right.

    ``after`` is called once the file is damaged; ``every`` is how many seeds pass between two that are tried.
    """

    name: str
    path: Path
    structural: Callable[[bytes, Generator], bytes]
    read: Callable[[bytes], bool]
    after: Callable[[bytes], None] = lambda _: None
    is_text: bool = True
    every: int = 1


def main() -> None:
    """Damage, read, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="damaged files of each kind")
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--only", default="", help="kinds whose name begins so")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(", ".join(f"{name} {version(name)}" for name in ("polars", "pydantic", "numpy", "onnxruntime")))
    print(f"seeds {given.first} to {given.first + given.seeds - 1} of each kind\n")
    print(f"{'kind':30}" + "".join(f"{column:>16}" for column in COLUMNS))
    start, total = time.perf_counter(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds(Path(folder)):
            if kind.name.startswith(given.only):
                counts = Counter[str]()
                for seed in range(given.first, given.first + given.seeds, kind.every):
                    outcome, why = judge(kind, seed)
                    counts.update(["tried", outcome])
                    if outcome in COLUMNS[3:]:
                        print(f"{kind.name}, seed {seed}: {outcome} {why}")
                print(f"{kind.name:30}" + "".join(f"{counts[column]:>16}" for column in COLUMNS), flush=True)
                total += counts
    print(f"{'all':30}" + "".join(f"{total[column]:>16}" for column in COLUMNS))
    print(f"{time.perf_counter() - start:.0f} s")
    if total["traceback"] or total["wrong silently"]:
        sys.exit(1)


def judge(kind: Kind, seed: int) -> tuple[str, str]:
    """Damage a file, read it and put it back; gives the column it counts in, and why."""
    valid, rng = kind.path.read_bytes(), generator(kind.name, seed)
    ways = [damaged_bytes, kind.structural, kind.structural, *([damaged_text] if kind.is_text else [])]
    data = ways[int(rng.integers(0, len(ways)))](valid, rng)
    beside = {path: path.read_bytes() for path in (kind.path.parent / "manifest.json", kind.path.parent / SPEC_NAME)
              if path.is_file()}  # fmt: skip
    try:
        kind.path.write_bytes(data)
        kind.after(data)
        return ("read", "") if kind.read(data) else ("wrong silently", "")
    except MarrowscopeError as error:
        return ("refused", "") if is_sentence(str(error)) else ("traceback", f"no sentence: {str(error)[:300]!r}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return "traceback", f"{type(error).__name__}: {str(error)[:200]!r}"
    except BaseException as error:  # polars panics outside Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return "traceback", f"{type(error).__name__}: {str(error)[:200]!r}"
    finally:
        for path, content in {kind.path: valid, **beside}.items():
            path.write_bytes(content)


def is_sentence(text: str) -> bool:
    """Say whether a message can be printed on one line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text.strip()) and len(text.splitlines()) == 1


def kinds(root: Path) -> list[Kind]:
    """Write a valid file of each kind below ``root``."""
    return [*_annotations(root), _patients(root), *_configurations(root), *_runs(root), *_bundles(root)]


# Annotations and patients.csv


def _cohort(root: Path, n_patients: int) -> Path:
    rows = "".join(f"P{n},A,AML,marrow,adult,0.15\n" for n in range(1, n_patients + 1))
    (root / "P1").mkdir(parents=True)
    (root / "patients.csv").write_text("patient_id,center,diagnosis,specimen,age_group,um_per_px\n" + rows)
    for n in range(1, n_patients + 1):
        rng = np.random.default_rng(n)
        (root / f"P{n}").mkdir(exist_ok=True)
        write_image(root / f"P{n}" / "a.png", rng.integers(0, 255, size=(80, 100, 3), dtype=np.uint8))
    return root


def _read(root: Path) -> Cohort:
    cohort = read_cohort(root, decode=False, n_threads=1)
    if not all(is_sentence(fault.sentence()) for fault in cohort.faults):
        message = f"a fault that is no sentence: {[fault.sentence() for fault in cohort.faults]}"
        raise TypeError(message)
    return cohort


def _annotations(root: Path) -> list[Kind]:
    made = []
    for item in annotation_formats():
        folder = _cohort(root / item.name, 1)
        shapes = tuple(
            Annotation(code, np.array([[x, 10.0], [x + 20, 12.0], [x + 18, 30.5], [x + 1, 28.0]]), index)
            for index, (code, x) in enumerate((("N", 5.0), ("L", 30.0), ("N", 60.25)))
        )
        image = AnnotatedImage("a.png" if item.beside else "P1/a.png", 100, 80, shapes)
        path = folder / "P1" / f"a{item.beside[0]}" if item.beside else folder / f"all{item.in_root[0]}"
        item.write(path, [image])
        if item.name == "yolo":
            made += [
                Kind("yolo names", path, damaged_text, _reads_yolo(folder)),
                Kind("yolo labels", folder / "P1" / "a.txt", damaged_text, _reads_yolo(folder)),
            ]
        else:
            made.append(Kind(item.name, path, damaged_json, _reads_json(folder, item)))
    return made


def _reads_json(folder: Path, item: AnnotationFormat) -> Callable[[bytes], bool]:
    """Compare codes and points with the file as the standard library reads it, where no fault is named."""

    def is_right(data: bytes) -> bool:
        cohort = _read(folder)
        if not all(np.isfinite(cell.contour_xy).all() for field in cohort.fields for cell in field.annotations):
            return False
        if cohort.faults:
            return True
        expected = _outlines(json.loads(data), item.name)
        found = [(cell.code, cell.contour_xy) for field in cohort.fields for cell in field.annotations]
        return len(found) == len(expected) and all(
            str(code).strip() == read and {tuple(point) for point in contour.tolist()} <= points
            for (read, contour), (code, points) in zip(found, expected, strict=True)
        )

    return is_right


def _outlines(document: Any, name: str) -> list[tuple[str, set[tuple[float, float]]]]:  # noqa: ANN401 - JSON
    """List (code, points) of every cell as the file says it."""
    if name == "labelme":
        return [(shape["label"], _pairs(shape["points"])) for shape in document["shapes"]]
    if name == "coco":
        names = {_id(entry["id"]): entry["name"] for entry in document["categories"]}
        return [
            (names[_id(entry["category_id"])], {pair for part in entry["segmentation"] for pair in _pairs(part)})
            for entry in document["annotations"]
        ]
    features = document["features"] if isinstance(document, dict) else document
    found = []
    for feature in features:
        code = feature["properties"].get("classification", feature["properties"])
        points = {pair for ring in feature["geometry"]["coordinates"] for pair in _pairs(ring)}
        found.append((code["name"] if isinstance(code, dict) else code, points))
    return found


def _id(value: object) -> str:
    return str(value).strip().removesuffix(".0")


def _pairs(values: list[Any]) -> set[tuple[float, float]]:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return {(float(x), float(y)) for x, y in flat.reshape(-1, 2)}


def _reads_yolo(folder: Path) -> Callable[[bytes], bool]:
    def is_right(_: bytes) -> bool:
        cohort = _read(folder)
        if not all(np.isfinite(cell.contour_xy).all() for field in cohort.fields for cell in field.annotations):
            return False
        lines = (folder / "P1" / "a.txt").read_bytes().decode("utf-8-sig", "replace").splitlines()
        n_lines = sum(bool(line.strip()) for line in lines)
        return bool(cohort.faults) or sum(len(field.annotations) for field in cohort.fields) == n_lines

    return is_right


def _patients(root: Path) -> Kind:
    folder = _cohort(root / "patients", 3)

    def is_right(data: bytes) -> bool:
        cohort = _read(folder)
        counts = cohort.counts.patients
        if counts.n_in != counts.n_out + sum(counts.rejected.values()):
            return False
        text = data.decode("utf-8-sig")
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)) if "".join(row).strip()
        ]
        at = [cell.strip() for cell in rows[0]].index("patient_id")
        return bool(cohort.faults) or [item.patient_id for item in cohort.patients] == [
            row[at].strip() for row in rows[1:]
        ]

    return Kind("patients.csv", folder / "patients.csv", damaged_csv, is_right)


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


# Configuration and vocabulary


def _configurations(root: Path) -> list[Kind]:
    config, words = root / "train.toml", root / "vocabulary.toml"
    values = ClassifierConfig().model_dump(mode="json", exclude_none=True)
    config.write_text(_as_toml(values))
    shutil.copyfile(DEFAULT_VOCABULARY, words)

    def config_is_right(data: bytes) -> bool:
        found = load_config(ClassifierConfig, config).model_dump(mode="json")
        given = tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"))
        return all(_same(found[key], value) for key, value in given.items()) and _is_finite(found)

    def words_are_right(data: bytes) -> bool:
        found = load_vocabulary(words)
        return [*found.codes] == [row["code"] for row in tomllib.loads(data.decode("utf-8-sig"))["codes"]]

    return [
        Kind("configuration", config, damaged_toml, config_is_right),
        Kind("vocabulary", words, damaged_toml, words_are_right, every=2),
    ]


def _as_toml(values: dict[str, Any]) -> str:
    from marrowscope.bundle.toml_writer import to_toml  # noqa: PLC0415 - one use

    return to_toml(values)


def _same(found: Any, given: Any) -> bool:  # noqa: ANN401 - whatever a configuration holds
    """Say whether a value was read as it is given; a dict may have more keys, defaults."""
    if isinstance(given, dict):
        return isinstance(found, dict) and all(key in found and _same(found[key], given[key]) for key in given)
    if isinstance(given, list):
        return len(found) == len(given) and all(map(_same, found, given))
    if isinstance(given, bool) or isinstance(found, str):
        return bool(found == given)
    return float(given) == float(found)


def _is_finite(value: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


# Runs and evaluations


def _runs(root: Path) -> list[Kind]:
    people = [Patient("P1", "A", "control"), Patient("P2", "B", "AML")]
    run = fake_runs.make_run(root / "fake", people)
    folder, config = run.folder, EvaluateConfig(n_resamples=10)
    names = ("fields", "cells", "patients")
    fields = [_annotated(row, run.cells) for row in run.fields if row["status"] == "ok"]
    vocabulary = load_vocabulary()
    evaluation = root / "evaluation"
    write_evaluation(evaluate_run(folder, people, fields, vocabulary, config=config), evaluation)
    valid = {name: sha256_file(folder / f"{name}.parquet") for name in names}

    def hash_is_checked(_: bytes) -> bool:
        read_checked_manifest(folder)
        return all(sha256_file(folder / f"{name}.parquet") == valid[name] for name in names)

    def tables_are_read(_: bytes) -> bool:
        read_checked_manifest(folder)
        for name in names:
            read_table(folder / f"{name}.parquet", name)  # type: ignore[arg-type]
        return True

    def is_evaluated(_: bytes) -> bool:
        found = evaluate_run(folder, people, fields, vocabulary, config=config)
        shutil.rmtree(root / "again", ignore_errors=True)
        write_evaluation(found, root / "again")
        return all(_can_be_scored(read_table(folder / f"{name}.parquet", name), name) for name in names)  # type: ignore[arg-type]

    def is_reported(_: bytes) -> bool:
        write_report(folder, root / "report", on_problem=lambda _: None)
        return True

    def document_is_read(_: bytes) -> bool:
        return _is_finite(read_document(evaluation).model_dump(mode="json"))

    def csv_is_read(_: bytes) -> bool:
        read_tables(evaluation)
        return True

    def restate(_: bytes) -> None:
        fake_runs.state_tables(folder)

    made = []
    for name in names:
        path = folder / f"{name}.parquet"
        made += [
            Kind(f"run {name}, hash wrong", path, damaged_table, hash_is_checked, is_text=False, every=2),
            Kind(f"run {name}, read", path, damaged_table, tables_are_read, restate, is_text=False),
            Kind(f"run {name}, evaluated", path, damaged_rows, is_evaluated, restate, is_text=False, every=_TIMES),
            Kind(f"run {name}, reported", path, damaged_rows, is_reported, restate, is_text=False, every=_TIMES),
        ]
    manifest = folder / "manifest.json"
    return [
        *made,
        Kind("run manifest, read", manifest, damaged_json, hash_is_checked),
        Kind("run manifest, evaluated", manifest, damaged_json, is_evaluated, every=_TIMES),
        Kind("run manifest, reported", manifest, damaged_json, is_reported, every=_TIMES),
        Kind("evaluation metrics.json", evaluation / "metrics.json", damaged_json, document_is_read),
        Kind("evaluation patients.csv", evaluation / "patients.csv", damaged_csv, csv_is_read),
        Kind("evaluation metrics.csv", evaluation / "metrics.csv", damaged_csv, csv_is_read),
    ]


def _can_be_scored(table: pl.DataFrame, kind: str) -> bool:
    """Say whether no row of a table stands twice or holds a number that is none, cell by cell in plain Python."""
    ids = table[{"fields": "field_id", "cells": "cell_id", "patients": "patient_id"}[kind]].to_list()
    if len(set(ids)) != len(ids):
        return False
    if kind != "cells":
        return True
    for row in table.to_dicts():
        numbers = [*row["contour_xy"], *(row["p_category"] or [])] if row["contour_xy"] else [math.nan]
        numbers += [row[name] for name in ("p_cblc", "p_countable", "score") if row[name] is not None]
        if not all(number is not None and math.isfinite(number) for number in numbers) or len(row["contour_xy"]) % 2:
            return False
        if row["reject_reason"] is None and row["category"] not in load_vocabulary().categories:
            return False
    return True


def _annotated(row: dict[str, Any], cells: list[dict[str, Any]]) -> Field:
    own = [cell for cell in cells if cell["field_id"] == row["field_id"] and "category" in cell]
    drawn = tuple(
        Annotation("N" if cell["is_cblc"] else "L", np.reshape(cell["contour_xy"], (-1, 2)), index)
        for index, cell in enumerate(own)
    )
    names = ("field_id", "patient_id", "center", "sha256", "width_px", "height_px", "um_per_px")
    return Field(**{name: row[name] for name in names}, path=Path(row["path"]), annotated=True, annotations=drawn)


# Bundles


def _bundles(root: Path) -> list[Kind]:
    folder = root / "bundle"
    bundles.make_bundle(folder, n_members=2)
    spec, names = folder / SPEC_NAME, (GOLDEN_FILE, "classifier-0.onnx", "segmenter/segmenter.onnx")
    valid = {name: sha256_file(folder / name) for name in names}

    def loads(_: bytes) -> bool:
        load_bundle(folder)
        return all(sha256_file(folder / name) == valid[name] for name in names)

    def loads_restated(_: bytes) -> bool:
        load_bundle(folder)
        return True

    def runs_golden(_: bytes) -> bool:
        return all(map(math.isfinite, check_golden(load_bundle(folder), "onnxruntime").tolerances.values()))

    def restate(name: str) -> Callable[[bytes], None]:
        return lambda data: write_text(spec, spec.read_text().replace(valid[name], sha256_bytes(data)))

    made = [Kind("bundle.toml", spec, damaged_toml, loads)]
    for name in names:
        short, path = name.rpartition("/")[2], folder / name
        made.append(Kind(f"bundle {short}, hash wrong", path, damaged_bytes, loads, is_text=False, every=_TIMES))
        damage, read = (damaged_arrays, runs_golden) if name == GOLDEN_FILE else (damaged_bytes, loads_restated)
        made.append(
            Kind(f"bundle {short}, hash right", path, damage, read, restate(name), is_text=False, every=_TIMES // 2)
        )
    return made


if __name__ == "__main__":
    main()
