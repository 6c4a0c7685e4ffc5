"""Convert annotations of any format to LabelMe files next to the images, translating labels to raw codes.

All or nothing: if a shape or an image would be lost, nothing is written and every fault is reported. A cell whose label
leaves its code open is no loss: it goes into the LabelMe file as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats import read_annotations
from marrowscope.cohort.formats.labelme import labelme_pieces
from marrowscope.cohort.image_index import ImageIndex
from marrowscope.cohort.images import examine_image_or_slide
from marrowscope.cohort.listing import list_folder
from marrowscope.cohort.patients import PATIENTS_NAME, read_patients
from marrowscope.cohort.polygons import TO_NAME, check_shapes
from marrowscope.cohort.sources import class_numbers, pair, place
from marrowscope.cohort.spelling import same_letters
from marrowscope.cohort.written_json import write_pieces
from marrowscope.errors import CohortError, InputError
from marrowscope.imaging import sha256_file
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from marrowscope.cohort.annotations import AnnotatedImage
    from marrowscope.cohort.polygons import CheckedShapes
    from marrowscope.vocabulary import LabelMapping, Vocabulary


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import: LabelMe files written, and cells in them, of which ``n_to_name`` have no code yet.

    ``rejected`` counts shapes that the mapping drops on purpose.
    """

    n_files: int
    n_cells: int
    n_to_name: int
    rejected: dict[str, int]
    changed: dict[str, int]
    faults: tuple[Fault, ...]


def import_annotations(
    source: Path,
    images_root: Path | None,
    file_format: str | None,
    vocabulary: Vocabulary,
    *,
    image: Path | None = None,
    mapping: LabelMapping | None = None,
    reader: str = "",
    overwrite: bool = False,
) -> Imported:
    """Convert ``source`` to a LabelMe file next to each image below ``images_root``.

    ``file_format`` names the format of the file; None: its content tells. Images are found by the path that the file
    states, or by the file's own name where it states none; ``image`` is the one image of a file of one image, whatever
    it states. ``reader`` says whose annotations are meant in a file of several readers. Raises CohortError with every
    fault where a shape or image would be lost, InputError for a format that does not exist, for no image at all, and
    where another LabelMe file is there already.
    """
    if mapping is not None:
        mapping.check_against(vocabulary)
    images_root = _folder_of(images_root, image)
    read = read_annotations(AnnotationFile(source, reader=reader), file_format)  # its document is freed
    file = AnnotationFile(source)
    if image is None:
        documents = place(read, file, ImageIndex(images_root, _images_below(images_root)))
    else:
        documents = _of_one_image(read, source, image)
    names = {annotated.reader for annotated in read}
    paired = pair(documents, reader if reader in names else "")  # a format may know the reader by another name
    by_image, faults = paired.by_image, list(paired.faults)
    if mapping is None:
        faults += class_numbers(documents)
    results: dict[Path, tuple[CheckedShapes, AnnotatedImage, tuple[int, int]]] = {}
    for path, annotated in by_image.items():
        where = path.relative_to(images_root).as_posix()
        examined = examine_image_or_slide(path, where)
        size = examined.width_px, examined.height_px
        stated = annotated.width_px or size[0], annotated.height_px or size[1]
        if examined.fault is not None:
            faults.append(examined.fault)
        elif stated != size:
            found, expected = f"an image size of {stated[0]} x {stated[1]} px", f"the actual {size[0]} x {size[1]} px"
            action = "annotate the image as it is stored"
            faults.append(Fault("wrong_image_size", f"{source}, {where}", found, expected, action))
        checked = check_shapes(annotated, *size, vocabulary, mapping)
        faults += checked.faults
        results[path] = (checked, annotated, size)
    faults += _one_file_each(results, images_root)
    losing = [fault for fault in faults if fault.loses_data]
    if losing:
        listed = "\n".join(f"  {fault.sentence()}" for fault in losing)
        faults_word = "faults" if len(losing) > 1 else "fault"
        message = (
            f"{source}: found {len(losing)} {faults_word} that would lose data, expected none; nothing was written; "
            f"correct them:\n{listed}"
        )
        raise CohortError(message, losing)
    _write_files(results, overwrite=overwrite)
    rejected: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    n_to_name = 0
    for checked, _, _ in results.values():
        rejected.update(checked.rejected)
        changed.update(checked.changed)
        n_to_name += len(checked.to_name)
    del rejected[TO_NAME]
    n_cells = n_to_name + sum(len(checked.annotations) for checked, _, _ in results.values())
    return Imported(len(results), n_cells, n_to_name, dict(rejected), dict(changed), tuple(faults))


def _one_file_each(images: Iterable[Path], root: Path) -> list[Fault]:
    """Describe a fault for each image whose LabelMe file is another image's too: f1.png and F1.jpg have one f1.json.

    Case does not tell two files apart on every system.
    """
    by_target: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in images:
        by_target[path.with_name(same_letters(path.stem))].append(path)
    return [
        Fault(
            "one_file_for_two",
            path.relative_to(root).as_posix(),
            f"an image named as {same[0].name} but for its suffix, both with cells in this file",
            "names that differ, since a LabelMe file is named as its image",
            "rename one of them, here and in the annotation",
        )
        for same in by_target.values()
        for path in same[1:]
    ]


def _images_below(root: Path) -> list[Path]:
    """List the photographs and slides below a folder, as every command sees them.

    A patient's folder may be a link. One further down that leads out of it is none of the import's business: a file
    would be written beside an image that no cohort reads.
    """
    patients: list[str] = []
    if (root / PATIENTS_NAME).is_file():
        with contextlib.suppress(CohortError):  # the folder need not be a cohort
            patients = [patient.patient_id for patient in read_patients(root).patients]
    images = [entry.path for entry in list_folder(root, patients) if entry.is_input]
    return [path for path in images if path.parent.resolve().is_relative_to(_top_folder(path, root).resolve())]


def _top_folder(path: Path, root: Path) -> Path:
    """Return the folder of ``root`` that an image lies in or below; ``root`` for one that lies in it."""
    return root.joinpath(*path.relative_to(root).parts[:-1][:1])


def _folder_of(images_root: Path | None, image: Path | None) -> Path:
    """Return the folder of the images; raises InputError where neither it nor an image that is there is given."""
    if image is None and images_root is None:
        message = "found neither a folder of images nor an image, expected one of them; give --images or --image"
        raise InputError(message)
    if image is None:
        return cast("Path", images_root)
    if not image.is_file():
        message = f"{image}: not found, expected the image of the annotation; check the path"
        raise InputError(message)
    return image.parent


def _of_one_image(
    read: Sequence[AnnotatedImage], source: Path, image: Path
) -> list[tuple[Path | None, AnnotatedImage]]:
    """Return the annotation of the one image of a file to ``image``; raises InputError for a file of several images."""
    n_images = sum(annotated.placed for annotated in read)
    if n_images > 1:
        message = (
            f"{source}: found annotations of {count_of(n_images, 'image')}, expected one for --image; give --images "
            "instead"
        )
        raise InputError(message)
    return [(image if annotated.placed else None, annotated) for annotated in read]


def _write_files(
    results: Mapping[Path, tuple[CheckedShapes, AnnotatedImage, tuple[int, int]]], *, overwrite: bool
) -> None:
    """Write the annotations; InputError where another one is there. Those of an interrupted import are equal."""

    def pieces(path: Path) -> Iterator[str]:
        checked, annotated, size = results[path]
        shapes = sorted([*checked.annotations, *checked.to_name], key=lambda shape: shape.shape_index)
        reader, exhaustive = annotated.reader, annotated.exhaustive
        return labelme_pieces(path.name, *size, shapes, exhaustive=exhaustive, reader=reader)

    targets = {path: path.with_suffix(".json") for path in results}
    existing = [target for path, target in targets.items() if target.exists() and not _holds(target, pieces(path))]
    if existing and not overwrite:
        message = (
            f"{existing[0]}: found an existing annotation ({len(existing)} in total), expected none; add --overwrite"
        )
        raise InputError(message)
    for path, target in targets.items():
        write_pieces(target, pieces(path))


def _holds(path: Path, pieces: Iterator[str]) -> bool:
    """Whether a file has exactly this text; neither is held in memory as a whole."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.encode())
    return sha256_file(path) == digest.hexdigest()
