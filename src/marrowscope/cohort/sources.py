"""Find the annotation of every image of a cohort, whatever its format.

Every file below the cohort's folder with a suffix of a format is looked at, in capitals or packed by gzip as well; its
content says which format it has and which image it belongs to. An annotation that names no image, or one image that is
not there, belongs to the image of its file's own name.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import AnnotationFile, has_suffix, remark, shorten
from marrowscope.cohort.formats import annotation_formats, is_recognized, read_annotations
from marrowscope.cohort.image_index import ImageIndex
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from marrowscope.cohort.annotations import AnnotatedImage

    Document = tuple[Path | None, AnnotatedImage]

_JSON = ".json"
_HIDDEN = (".", "__", "@")
_YOLO_NAMES = ".yolo.yaml"
"""A name that is an annotation's alone, whatever is in the file; a data.yaml may be of anything."""

_OTHER_FORMATS = (".xml", ".jsonl", ".ndjson", ".json.zip", ".geojson.zip")
"""Suffixes of annotations that are not read (VOC, CVAT, ImageScope, lines of JSON, archives)."""
_PATIENT_FOLDER = 1
"""Depth of the folders of patients below the cohort's folder."""


def find_annotations(root: Path, images: Sequence[Path]) -> list[Document]:
    """Read every annotation below ``root`` with the image it belongs to (None where there is none)."""
    index = ImageIndex(root, images)
    documents: list[Document] = []
    for path in _annotation_files(root):
        file = AnnotationFile(path, path.relative_to(root).as_posix())
        if _is_annotation(file, index, images):
            documents += place(read_annotations(file), file, index)
        elif has_suffix(path, (_JSON,)) and _names_one_of(path, images):
            found, expected = file.holds(), "an annotation of a format that is read"
            action = "it is not read, though it names images of the cohort; export it in one of the formats"
            fault = Fault("not_read", file.where, found, expected, action, loses_data=False)
            documents.append((None, remark(file.where, fault)))
    for path in _files_ending(root, _OTHER_FORMATS):
        if any(image.stem == path.name.partition(".")[0] for image in images) or _names_one_of(path, images):
            where = path.relative_to(root).as_posix()
            found = f"a {path.suffix} file that belongs to images of the cohort"
            action = "if it holds annotations, export them in one of the formats that are read"
            fault = Fault("not_read", where, found, "an annotation of a format that is read", action, loses_data=False)
            documents.append((None, remark(where, fault)))
    unread = [fault for item in annotation_formats() if item.unread for fault in item.unread(root, images)]
    return [*documents, *((None, remark(fault.where, fault)) for fault in unread)]


@dataclass(frozen=True, slots=True)
class Paired:
    """The annotation of each image, and what none has: annotations left over, and those of readers not asked for.

    ``readers`` are those who annotated, by name, where an image has readings by several of them; else nobody.
    """

    by_image: dict[Path, AnnotatedImage]
    left_over: tuple[AnnotatedImage, ...]
    others: tuple[AnnotatedImage, ...]
    readers: tuple[str, ...]
    faults: tuple[Fault, ...]


def pair(documents: Sequence[Document], reader: str = "") -> Paired:
    """Assign one annotation to each image: the only one, or that by ``reader`` where several name their readers.

    Where several readers annotated an image and ``reader`` is empty, it gets none of theirs, and a fault says so.
    """
    of_image: defaultdict[Path, list[AnnotatedImage]] = defaultdict(list)
    left_over: list[AnnotatedImage] = []
    faults: list[Fault] = []
    for image, annotated in documents:
        if image is not None:
            of_image[image].append(annotated)
            continue
        left_over.append(annotated)
        faults += annotated.faults
        if annotated.readable and (annotated.placed or not _says_why(annotated)):
            name = _shown(annotated.image_path) if annotated.image_path else "an image it does not name"
            found, expected = f"an annotation of {name}, which does not exist", "its image"
            action = "add the image or remove the annotation"
            faults.append(Fault("annotation_without_image", annotated.where, found, expected, action))
    several = {image for image, items in of_image.items() if _are_readings(items)}
    readers = sorted({item.reader for items in of_image.values() for item in items if item.reader}) if several else []
    by_image: dict[Path, AnnotatedImage] = {}
    others: list[AnnotatedImage] = []
    for image, items in of_image.items():
        if image in several or (readers and len(items) == 1 and items[0].reader not in {"", reader}):
            others += [item for item in items if item.reader != reader]
            for item in items:
                if item.reader == reader:
                    by_image[image] = item
            continue
        by_image[image] = items[0]
        left_over += items[1:]
        for item in items[1:]:
            found = f"a second annotation of {image.name} ({items[0].where} is one)"
            action = "join the two or remove one; readings by several people each name their reader"
            faults += [*item.faults, Fault("second_annotation", item.where, found, "one annotation an image", action)]
    if readers and not reader:
        where = next(items[0].where for image, items in of_image.items() if image in several)
        found = f"{count_of(len(several), 'image')} with readings by several of {', '.join(map(_shown, readers))}"
        action = "choose one with --reader; `marrowscope evaluate` compares all"
        faults.append(Fault("several_readers", where, found, "one reader", action))
    return Paired(by_image, tuple(left_over), tuple(others), tuple(readers), tuple(faults))


def _are_readings(items: Sequence[AnnotatedImage]) -> bool:
    """Say whether annotations of one image are readings by several people: each names its reader, another one each."""
    names = {item.reader for item in items}
    return len(items) > 1 and len(names) == len(items) and "" not in names


def place(read: Sequence[AnnotatedImage], file: AnnotationFile, index: ImageIndex) -> list[Document]:
    """Find the image of each annotation of one file; where two images may be meant, that is a fault and none has it."""
    n_in_file = len({annotated.image_path if annotated.reader else number for number, annotated in enumerate(read)})
    return [_place_one(annotated, file, index, n_in_file=n_in_file) for annotated in read]


def class_numbers(documents: Sequence[Document]) -> list[Fault]:
    """Note where every label is the number 0, which tools also write for the first of their classes.

    That is one note where all annotations are so, else one for each file of several images and for each folder of
    images with files of their own: one tool wrote these, and another may have written names elsewhere.
    """
    annotations = [(image, annotated) for image, annotated in documents if annotated.shapes]
    n_of_file = Counter(annotated.where.partition(", task ")[0] for _, annotated in annotations)
    labels: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    where: dict[tuple[str, str], str] = {}
    for image, annotated in annotations:
        file = annotated.where.partition(", task ")[0]
        source = ("file", file) if n_of_file[file] > 1 or image is None else ("folder", str(image.parent))
        labels[source] |= {shape.code for shape in annotated.shapes}
        where.setdefault(source, annotated.where)
    alike = [source for source, codes in labels.items() if codes == {"0"}]
    place_of = {source: f" in this {source[0]}" for source in alike}
    if alike and len(alike) == len(labels):
        place_of = {alike[-1]: ""}
    expected, action = "the codes of cells", "if 0 is the number of a class, give its name, or a mapping"
    return [
        Fault(
            "class_number",
            where[source],
            f"no label but '0'{place}, which is the code of an artefact",
            expected,
            action,
            loses_data=False,
        )
        for source, place in place_of.items()
    ]


def _place_one(annotated: AnnotatedImage, file: AnnotationFile, index: ImageIndex, *, n_in_file: int) -> Document:
    if not annotated.placed:
        return None, annotated
    folder = index.folder(file.path)
    named = index.named(annotated.image_path, folder) if annotated.image_path else []
    stated = f"the name {_shown(annotated.image_path)}" if annotated.image_path else "no name of an image"
    if len(named) == 1 and n_in_file == 1:
        own = index.own(file.base_name, folder, beside_only=True)
        if own and named[0] not in own:
            named, stated = [own[0], named[0]], f"{stated} in the annotation of {own[0].name}"
    elif not named and (not annotated.image_path or (n_in_file == 1 and folder)):
        named = index.own(file.base_name, folder)
    if len(named) > 1 and annotated.readable:
        return None, _unclear(annotated, stated, named)
    return (named[0] if named else None), annotated


def _says_why(annotated: AnnotatedImage) -> bool:
    """Say whether a fault of the whole annotation says why it has no image."""
    return any(fault.shape_index is None for fault in annotated.faults)


def _unclear(annotated: AnnotatedImage, found: str, images: Sequence[Path]) -> AnnotatedImage:
    """Add the fault of an annotation that may belong to several images: its shapes are left out."""
    meant = " or ".join("/".join(path.parts[-2:]) for path in images[:2])
    action = f"state which is meant: {meant}"
    fault = Fault("unclear_image", annotated.where, found, "one image", action)
    return replace(annotated, faults=(*annotated.faults, fault), placed=False)


def _is_annotation(file: AnnotationFile, index: ImageIndex, images: Sequence[Path]) -> bool:
    """Say whether a file is read: its suffix is an annotation's alone, or its place, its name or its content say so.

    A .json in the cohort's folder or in a folder below a patient's may as well be anything else.
    """
    if has_suffix(file.path, (".yaml",)):
        return is_recognized(file) or file.path.name.lower().endswith(_YOLO_NAMES)
    folder = index.folder(file.path)
    if not has_suffix(file.path, (_JSON,)) or file.path.name.lower().removesuffix(".gz").endswith(".coco.json"):
        return True
    if len(folder) == _PATIENT_FOLDER or index.own(file.base_name, folder, beside_only=True):
        return True
    return is_recognized(file) or (bool(file.broken) and _names_one_of(file.path, images))


def _annotation_files(root: Path) -> Iterator[Path]:
    """List the files with a suffix of a format, as ``_files_ending`` does."""
    return _files_ending(root, tuple(suffix for item in annotation_formats() for suffix in item.suffixes))


def _files_ending(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """List the files with one of ``suffixes``, folder by folder, sorted; hidden ones are nobody's."""
    top = sorted(entry for entry in root.iterdir() if not entry.name.startswith(_HIDDEN))
    for folder in filter(Path.is_dir, top):
        for place_of_files, below, names in os.walk(folder):
            below[:] = sorted(name for name in below if not name.startswith(_HIDDEN))
            for path in sorted(Path(place_of_files, name) for name in names if not name.startswith(".")):
                if has_suffix(path, suffixes) and path.is_file():
                    yield path
    for path in top:
        if has_suffix(path, suffixes) and path.is_file():
            yield path


def _names_one_of(path: Path, images: Sequence[Path]) -> bool:
    """Say whether the text of a file contains the name of an image; False where it cannot be opened."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return False
    return any(image.name in text for image in images)


def _shown(name: str) -> str:
    """Return a stated name for a message: as it is where it can be printed."""
    return name if name.isprintable() else shorten(name)
