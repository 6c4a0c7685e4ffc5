"""YOLO-seg: a YAML file of class names, and a text file per image; a line = class number, x1 y1 x2 y2 ...

Coordinates are shares of the image's width and height: reading them needs the image. Its label file lies beside it or
in a folder ``labels`` (``_label_places``). An empty file is an image without cells. The format has
no ids and no flag for cells left out: the extra key ``not_exhaustive`` lists such images. It has no coordinate outside
the image either: those are moved to its edge when written.
"""

from __future__ import annotations

import contextlib
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import (
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    broken_shape,
    contour_from_points,
    remark,
    shape_type_fault,
    shorten,
    taken_or_fault,
    unreadable,
)
from marrowscope.cohort.walk import files_below, walk
from marrowscope.cohort.yolo_names import class_names, unclear_lists, yaml_lists
from marrowscope.disk import write_text
from marrowscope.errors import ImageError
from marrowscope.imaging import is_image_path, read_header
from marrowscope.records import Annotation, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NAMES_FILES = (".yolo.yaml", "data.yaml")
_LABELS = ".txt"
_LABELS_FOLDER = "labels"
_NUMBERS_IN_BOX = 5
_MAX_SHARE = 1.01
"""Shares outside the image by more than this are no shares; the reader of Ultralytics has the same limit."""


def _is_yolo(file: AnnotationFile) -> bool:
    """Say whether a file names the classes of YOLO labels: YAML with a list of ``names``."""
    return file.path.name.lower().endswith(_NAMES_FILES) and bool(yaml_lists(_lines(file.path)).get("names"))


def read_yolo(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read the label file of every image below the folder of the names file, as one annotation per image.

    ``shape_index`` is the number of the line, from 0. A label file without an image keeps its lines as shapes that
    cannot be taken. A label file of an image that is no text is
    broken; that of no image may be anything and is left alone. Nothing is raised.
    """
    where, root = file.where, file.path.parent
    lines = _lines(file.path)
    sections = yaml_lists(lines)
    names, faults = class_names(sections.get("names", []), where)
    if unclear := unclear_lists(lines):
        return (unreadable("", where, broken_file(where, unclear, "each list once, an item a line")),)
    if not names:
        return (unreadable("", where, broken_file(where, file.holds(), "a YAML file with the names of classes")),)
    not_exhaustive = {value for _, value in sections.get("not_exhaustive", [])}
    images: defaultdict[Path, list[Path]] = defaultdict(list)
    for folder in walk(root):
        for path in folder.files:
            for place in _label_places(path, root) if is_image_path(path) and path.is_file() else ():
                images[place].append(path)
    result: list[AnnotatedImage] = []
    seen: set[tuple[Path, ...]] = set()
    for path in files_below(root, (_LABELS,)):
        lines, reason = _lines_or_reason(path)
        of = images.get(path.with_suffix(""), [])
        if of and (path.resolve(), *of) in seen:
            continue  # a link to the folder of labels
        seen.add((path.resolve(), *of))
        if of and reason:
            label_where = path.relative_to(root).as_posix()
            names_of = [image.relative_to(root).as_posix() for image in of]
            fault = broken_file(label_where, reason, "lines of a class number and coordinates")
            result.append(unreadable(names_of[0] if len(names_of) == 1 else "", label_where, fault))
        elif of or _is_label_line(next((line for line in lines if line.strip()), "")):
            label_where = path.relative_to(root).as_posix()
            result.append(_read_labels(lines, label_where, of, root, names, not_exhaustive))
    return (*result, remark(where, *faults)) if faults else tuple(result)


def unnamed_labels(root: Path, images: Sequence[Path]) -> tuple[Fault, ...]:
    """Return the fault of label files below ``root`` whose classes no file names, else a note of each data.yaml.

    A data.yaml that names no class may be anything; beside label files it is what they lack.
    """
    names_files = files_below(root, _NAMES_FILES)
    bare = [path for path in names_files if path.name.lower() == _NAMES_FILES[1]]
    unread = [path for path in bare if not _is_yolo(AnnotationFile(path))]
    named = [path.parent for path in names_files if path not in unread]
    stems = {name.casefold() for image in images for name in (image.stem, image.name)}
    labels = [
        path
        for path in files_below(root, (_LABELS,))
        if not any(path.is_relative_to(folder) for folder in named)
        and (path.stem.casefold() in stems or _LABELS_FOLDER in path.relative_to(root).parts[:-1])
        and _holds_labels(path)
    ]
    beside = f"beside {unread[0].relative_to(root).as_posix()} without names" if unread else "without a data.yaml"
    if labels:
        found = f"{len(labels)} label {'file' if len(labels) == 1 else 'files'} of YOLO {beside}"
        action = "add a data.yaml with the names of the classes to the folder above them"
        where = labels[0].relative_to(root).as_posix()
        return (Fault("labels_without_names", where, found, "names of their classes", action),)
    expected, action = "names of classes", "it is not read; add them if it belongs to labels of YOLO"
    return tuple(
        Fault("not_read", path.relative_to(root).as_posix(), "a file without names", expected, action, loses_data=False)
        for path in unread
    )


def write_yolo(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write the names of the classes to ``path``, and a label file per image into its folder.

    Raises ValueError for an image of no stated size.
    """
    labels = sorted({shape.code for image in images for shape in image.shapes})
    lines = ["path: .", "train: .", "val: .", "names:" if labels else "names: {}"]
    lines += [f"  {number}: {json.dumps(label, ensure_ascii=False)}" for number, label in enumerate(labels)]
    partly = [image.image_path for image in images if not image.exhaustive]
    if partly:
        lines += ["not_exhaustive:", *(f"  - {json.dumps(name, ensure_ascii=False)}" for name in partly)]
    for image in images:
        if not image.width_px or not image.height_px:
            message = f"{image.image_path}: found no size, which the format needs"
            raise ValueError(message)
        size = np.array([image.width_px, image.height_px], dtype=np.float64)
        shares = [np.clip(shape.contour_xy / size, 0, 1).ravel().tolist() for shape in image.shapes]
        numbers = [labels.index(shape.code) for shape in image.shapes]
        rows = [" ".join(map(repr, (number, *row))) for number, row in zip(numbers, shares, strict=True)]
        target = path.parent / f"{image.image_path.rsplit('.', 1)[0]}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, "".join(f"{row}\n" for row in rows))
    write_text(path, "\n".join(lines) + "\n")


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file; none where it cannot be opened or is no text."""
    return _lines_or_reason(path)[0]


def _lines_or_reason(path: Path) -> tuple[list[str], str]:
    """Return the lines of a text file, or why there are none, worded to follow "found"."""
    try:
        if path.exists() and not path.is_file():
            return [], "a pipe or a device"
        return path.read_text(encoding="utf-8-sig").splitlines(), ""
    except OSError as error:
        return [], f"a file that cannot be opened ({error.strerror or error})"
    except UnicodeDecodeError as error:
        return [], f"a file that is no UTF-8 text ({error.reason} at byte {error.start})"


def _label_places(image: Path, root: Path) -> Iterator[Path]:
    """Return where the label file of an image may lie, without its suffix.

    Beside it, in ``labels`` instead of ``images``, in a folder ``labels`` beside it, or at its place below ``labels``.
    """
    yield image.with_suffix("")
    parts = image.relative_to(root).with_suffix("").parts
    for position in reversed(range(len(parts) - 1)):
        if parts[position] == "images":
            yield root.joinpath(*parts[:position], _LABELS_FOLDER, *parts[position + 1 :])
            return
    yield image.parent / _LABELS_FOLDER / image.stem
    if len(parts) > 1:
        yield root.joinpath(_LABELS_FOLDER, *parts)


def _holds_labels(path: Path) -> bool:
    """Say whether a text file begins as labels do, in UTF-16 too, which ``read_yolo`` refuses."""
    lines = _lines(path)
    with contextlib.suppress(OSError):
        if not lines and path.is_file() and (data := path.read_bytes()).startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            lines = data.decode("utf-16", errors="replace").splitlines()
    return _is_label_line(next((line for line in lines if line.strip()), ""))


def _is_label_line(line: str) -> bool:
    numbers = line.split()
    try:
        return len(numbers) >= _NUMBERS_IN_BOX and float(numbers[0]).is_integer() and bool([*map(float, numbers)])
    except (ValueError, OverflowError):
        return False


def _read_labels(  # noqa: PLR0917 - one label file, its image and what the names file says
    lines: list[str], where: str, images: list[Path], root: Path, names: dict[int, str | None], not_exhaustive: set[str]
) -> AnnotatedImage:
    faults: list[Fault] = []
    shapes: list[Annotation] = []
    size = _size_of(images[0], where, faults) if len(images) == 1 else None
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        if size is None:
            faults.append(broken_shape(where, index, "no size of an image to multiply with", "one image of its name"))
            continue
        taken = taken_or_fault(partial(_read_line, line, index, where, (names, size), faults), where, index, faults)
        if taken is not None:
            shapes.append(taken)
    if len(images) > 1:
        found = f"labels of {images[0].name} or {images[1].name}"
        faults.append(Fault("unclear_image", where, found, "one image", "rename one of the images"))
    name = images[0].relative_to(root).as_posix() if len(images) == 1 else where
    return AnnotatedImage(
        image_path=name,
        width_px=size[0] if size else None,
        height_px=size[1] if size else None,
        shapes=tuple(shapes),
        exhaustive=name not in not_exhaustive,
        faults=tuple(faults),
        where=where,
        placed=len(images) == 1,
    )


def _size_of(image: Path, where: str, faults: list[Fault]) -> tuple[int, int] | None:
    """Return width and height of an image, in pixels; None, and a fault, where it cannot be read."""
    try:
        header = read_header(image.read_bytes(), where)
    except (OSError, ImageError):
        found, action = f"an image {image.name} that cannot be read", "the shares of its sides mean nothing without it"
        faults.append(Fault("broken_annotation", where, found, "a readable image", action))
        return None
    return header.width_px, header.height_px


def _read_line(
    line: str, index: int, where: str, known: tuple[dict[int, str | None], tuple[int, int]], faults: list[Fault]
) -> Annotation | None:
    """Take one line, or add the fault that says why not; ``known`` has the class names and the size in pixels."""
    names, size = known
    words = line.split()
    numbers = [float(word) for word in words] if all(map(_is_number, words)) else []
    if not numbers or not numbers[0].is_integer():
        faults.append(broken_shape(where, index, shorten(line), "a class number and coordinates"))
        return None
    label = names.get(int(numbers[0]))
    if label is None:
        found, action = f"class {words[0]}", "name the class in the YAML file"
        faults.append(Fault("unknown_category", where, found, "a class with one name", action, index))
        return None
    if len(numbers) == _NUMBERS_IN_BOX:
        faults.append(shape_type_fault(where, index, "a box"))
        return None
    shares = contour_from_points([numbers[at : at + 2] for at in range(1, len(numbers), 2)])
    if shares is None or not ((shares >= 1 - _MAX_SHARE) & (shares <= _MAX_SHARE)).all():
        faults.append(broken_shape(where, index, shorten(line), "pairs of shares from 0 to 1"))
        return None
    return Annotation(label, shares * np.array(size, dtype=np.float64), index)


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


FORMAT = AnnotationFormat(
    name="yolo",
    title="YOLO-seg",
    beside=(),
    in_root=_NAMES_FILES,
    recognize=_is_yolo,
    read=read_yolo,
    write=write_yolo,
    unread=unnamed_labels,
)
