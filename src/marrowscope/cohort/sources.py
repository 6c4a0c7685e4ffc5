"""Find the annotation of every image of a cohort, whatever its format.

Every file below the cohort's folder with a suffix of a format is looked at, in capitals or packed by gzip as well; its
content says which format it has and which image it belongs to. An annotation that names no image, or one image that is
not there, belongs to the image of its file's own name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import AnnotationFile, has_suffix, remark, shorten
from marrowscope.cohort.formats import annotation_formats, is_recognized, read_annotations
from marrowscope.cohort.image_index import ImageIndex
from marrowscope.cohort.listing import QUPATH, Role
from marrowscope.cohort.not_read import is_half_read, is_other, is_settings, names_one_of, not_read, not_read_json
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.cohort.annotations import AnnotatedImage
    from marrowscope.cohort.listing import Entry

    Document = tuple[Path | None, AnnotatedImage]

_JSON = ".json"
_YOLO_NAMES = ".yolo.yaml"
"""A name that is an annotation's alone, whatever is in the file; a data.yaml may be of anything."""

_PATIENT_FOLDER = 1
"""Depth of the folders of patients below the cohort's folder."""


def find_annotations(root: Path, images: Sequence[Path], entries: Sequence[Entry]) -> list[Document]:
    """Read every annotation among ``entries``, the listing of ``root``, with its image (None where there is none).

    Each file that may hold annotations and is not read is a note.
    """
    index = ImageIndex(root, images)
    by_file: dict[Path, list[Document]] = {}
    other_json: list[AnnotationFile] = []
    annotations = [entry for entry in entries if entry.role is Role.ANNOTATION]
    for entry in sorted(annotations, key=lambda entry: _in_order(entry.path, root)):
        file = AnnotationFile(entry.path, entry.path.relative_to(root).as_posix())
        if _is_annotation(file, index, in_project=entry.reason == QUPATH):
            _keep(place(read_annotations(file), file, index), file.path, by_file)
        elif has_suffix(file.path, (_JSON,)) and _is_said(file, images, in_project=entry.reason == QUPATH):
            other_json.append(AnnotationFile(file.path, file.name))  # its document is freed
    notes = [*not_read_json(other_json, root), *not_read(root, entries, images)]
    notes += [fault for item in annotation_formats() if item.unread for fault in item.unread(root, images)]
    documents = [document for of_file in by_file.values() for document in of_file]
    return [*documents, *((None, remark(fault.where, fault)) for fault in notes)]


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
    placed = [_place_one(annotated, file, index, n_in_file=n_in_file) for annotated in read]
    own = index.own(file.base_name, index.folder(file.path), beside_only=True)
    guessed = [
        number
        for number, (image, annotated) in enumerate(placed)
        if image is not None and image not in own and index.is_in_another_folder(image, annotated.image_path)
    ]
    if guessed:
        image, annotated = placed[guessed[0]]
        placed[guessed[0]] = (image, _other_folder(annotated, len(guessed)))
    return placed


def _other_folder(annotated: AnnotatedImage, n: int) -> AnnotatedImage:
    """Add the note that images are taken for those of their names beside the file, of which folders are stated."""
    more = f" and {n - 1} more" if n > 1 else ""
    found = f"{_shown(annotated.image_path)}{more}, in a folder that is not there"
    action = "it is taken for the image of its name beside this file; correct the path if it is another's"
    fault = Fault("other_folder", annotated.where, found, "the folder of the image", action, loses_data=False)
    return replace(annotated, faults=(*annotated.faults, fault))


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


def _keep(found: list[Document], path: Path, by_file: dict[Path, list[Document]]) -> None:
    """Keep what a file says; once, where links give it two names of which one finds no other image."""
    real = path.resolve()
    before = {image for image, _ in by_file.get(real, []) if image is not None}
    images = {image for image, _ in found if image is not None}
    if real not in by_file or images > before:
        by_file[real] = found
    elif not images <= before:
        by_file[path] = found


def _in_order(path: Path, root: Path) -> tuple[bool, tuple[str, ...], str]:
    """Return the place of a file in the reading: folder by folder, those of the root at last."""
    folder = path.relative_to(root).parts[:-1]
    return not folder, folder, path.name


def _is_annotation(file: AnnotationFile, index: ImageIndex, *, in_project: bool) -> bool:
    """Say whether a file is read: its suffix is an annotation's alone, or its place, its name or its content say so.

    A .json in the cohort's folder or in a folder below a patient's may as well be anything else. One that cannot be
    parsed, or has only half of a format, is read, which says what is wrong with it: nobody knows what it held.
    """
    if has_suffix(file.path, (".yaml",)):
        return is_recognized(file) or file.path.name.lower().endswith(_YOLO_NAMES)
    folder = index.folder(file.path)
    if not has_suffix(file.path, (_JSON,)) or file.path.name.lower().removesuffix(".gz").endswith(".coco.json"):
        return True
    if is_recognized(file) or index.own(file.base_name, folder, beside_only=True):
        return True
    if in_project or is_other(file.path):
        return False
    return len(folder) == _PATIENT_FOLDER or bool(file.broken) or is_half_read(file)


def _is_said(file: AnnotationFile, images: Sequence[Path], *, in_project: bool) -> bool:
    """Say whether a .json that is not read is noted: any but those of a program known by name that name no image."""
    is_known = in_project or (is_settings(file.path) and not file.broken)
    return not is_known or names_one_of(file.path, images)


def _shown(name: str) -> str:
    """Return a stated name for a message: as it is where it can be printed."""
    return name if name.isprintable() else shorten(name)
