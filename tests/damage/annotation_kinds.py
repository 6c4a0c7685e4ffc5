"""Annotations of every format, packed by gzip or not, and patients.csv, read with their cohort."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFormat
from marrowscope.cohort.formats import annotation_formats
from marrowscope.cohort.reader import Cohort, read_cohort
from marrowscope.imaging import write_image
from marrowscope.records import Annotation
from tests.damage.kinds import Kind, is_sentence
from tests.damage.mutations import damaged_csv, damaged_json, damaged_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator

_COLUMNS = "patient_id,center,diagnosis,specimen,age_group,um_per_px"
SHAPES = tuple(
    Annotation(code, np.array([[x, 10.0], [x + 20, 12.0], [x + 18, 30.5], [x + 1, 28.0]]), index)
    for index, (code, x) in enumerate((("N", 5.0), ("L", 30.0), ("N", 60.25)))
)
"""Three cells in an image of 100 x 80 px."""


def annotation_kinds(root: Path) -> list[Kind]:
    """Write a cohort for each format, one for gzip, and one for each way that patients.csv is saved."""
    made = []
    for item in annotation_formats():
        folder = _cohort(root / item.name, 1)
        image = AnnotatedImage("a.png" if item.beside else "P1/a.png", 100, 80, SHAPES)
        path = folder / "P1" / f"a{item.beside[0]}" if item.beside else folder / f"all{item.in_root[0]}"
        item.write(path, [image])
        if item.name == "yolo":
            bare = _cohort(root / "bare", 1)
            item.write(bare / "data.yaml", [image])
            made += [
                Kind("yolo names", path, damaged_text, _reads_yolo(folder)),
                Kind("yolo data.yaml", bare / "data.yaml", damaged_text, _reads_yolo(bare)),
                Kind("yolo labels", folder / "P1" / "a.txt", damaged_text, _reads_yolo(folder)),
            ]
            continue
        packed = _cohort(root / f"{item.name}-gz", 1)
        packed_path = packed / path.parent.relative_to(folder) / f"{path.name}.gz"
        packed_path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        made += [
            Kind(item.name, path, damaged_json, _reads_json(folder, item)),
            Kind(f"{item.name} gz", packed_path, _repacked, _reads_json(packed, item), is_text=False, every=2),
        ]
    return [*made, *_patients(root)]


def _cohort(root: Path, n_patients: int) -> Path:
    rows = "".join(f"P{n},A,AML,marrow,adult,0.15\n" for n in range(1, n_patients + 1))
    (root / "P1").mkdir(parents=True)
    (root / "patients.csv").write_text(f"{_COLUMNS}\n{rows}")
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
    counts = cohort.counts
    for tally in (counts.patients, counts.images, counts.shapes):
        if tally.n_in != tally.n_out + sum(tally.rejected.values()):
            message = f"counts that do not add up: {tally}"
            raise TypeError(message)
    return cohort


def _repacked(data: bytes, rng: Generator) -> bytes:
    return gzip.compress(damaged_json(gzip.decompress(data), rng), mtime=0)


def _reads_json(folder: Path, item: AnnotationFormat) -> Callable[[bytes], bool]:
    """Compare codes and points with the file as the standard library reads it, where no fault is named."""

    def is_right(data: bytes) -> bool:
        cohort = _read(folder)
        if not all(np.isfinite(cell.contour_xy).all() for field in cohort.fields for cell in field.annotations):
            return False
        if cohort.faults or item.name not in _OUTLINES:
            return True
        text = zlib.decompress(data, wbits=31) if data.startswith(b"\x1f\x8b") else data
        expected = _OUTLINES[item.name](json.loads(text))
        found = [(cell.code, cell.contour_xy) for field in cohort.fields for cell in field.annotations]
        return len(found) == len(expected) and all(
            str(code).strip() == read and {tuple(point) for point in contour.tolist()} <= points
            for (read, contour), (code, points) in zip(found, expected, strict=True)
        )

    return is_right


_Outlines = list[tuple[str, set[tuple[float, float]]]]
"""(code, points) of every cell."""


def _labelme(document: Any) -> _Outlines:  # noqa: ANN401 - JSON
    return [(shape["label"], _pairs(shape["points"])) for shape in document["shapes"]]


def _coco(document: Any) -> _Outlines:  # noqa: ANN401 - JSON
    names = {_id(entry["id"]): entry["name"] for entry in document["categories"]}
    return [
        (names[_id(entry["category_id"])], {pair for part in entry["segmentation"] for pair in _pairs(part)})
        for entry in document["annotations"]
    ]


def _geojson(document: Any) -> _Outlines:  # noqa: ANN401 - JSON
    found = []
    for feature in document["features"] if isinstance(document, dict) else document:
        code = feature["properties"].get("classification", feature["properties"])
        points = {pair for ring in feature["geometry"]["coordinates"] for pair in _pairs(ring)}
        found.append((code["name"] if isinstance(code, dict) else code, points))
    return found


_OUTLINES: dict[str, Callable[[Any], _Outlines]] = {"labelme": _labelme, "coco": _coco, "geojson": _geojson}
"""The cells of a document as the standard library reads it, by format."""


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


def _patients(root: Path) -> list[Kind]:
    """Write patients.csv as programs save it: commas, semicolons, decimal commas, byte order mark, quotes, UTF-16."""
    text = (_cohort(root / "patients", 3) / "patients.csv").read_text()
    german = text.replace(",", ";").replace("0.15", "0,15").replace("\n", "\r\n")
    saved = {
        "": text.encode(),
        ", semicolons": german.encode(),
        ", byte order mark": b"\xef\xbb\xbf" + german.encode(),
        ", quoted": "".join('"' + '","'.join(line.split(",")) + '"\r\n' for line in text.splitlines()).encode(),
        ", UTF-16": text.replace(",", "\t").encode("utf-16"),
    }
    made = []
    for name, data in saved.items():
        folder = root / "patients" if not name else _cohort(root / f"patients{name.replace(' ', '-')}", 3)
        (folder / "patients.csv").write_bytes(data)
        is_text = "UTF" not in name
        damage = damaged_csv if is_text else _in_utf_16
        every = 2 if name else 1
        made.append(Kind(f"patients.csv{name}", folder / "patients.csv", damage, _reads_patients(folder), every=every,
                         is_text=is_text))  # fmt: skip
    return made


def _in_utf_16(data: bytes, rng: Generator) -> bytes:
    text = data.decode("utf-16").replace("\t", ",")
    return damaged_csv(text.encode(), rng).decode("utf-8", "replace").encode("utf-16")


def _reads_patients(folder: Path) -> Callable[[bytes], bool]:
    def is_right(data: bytes) -> bool:
        cohort = _read(folder)
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        rows = [row for row in reader if "".join(row).strip()]
        at = [cell.strip() for cell in rows[0]].index("patient_id")
        return bool(cohort.faults) or [item.patient_id for item in cohort.patients] == [
            row[at].strip() for row in rows[1:]
        ]

    return is_right
