"""Find the annotation of every image of a cohort, whichever format it has.

Beside an image, or in the cohort's folder for many images; each format of ``formats/`` states its suffixes in both
places. A file in the cohort's folder names an image by its path from there, or by its bare name where only one image
has it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats import annotation_formats, read_annotations
from marrowscope.records import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from marrowscope.cohort.annotations import AnnotatedImage

    Document = tuple[Path | None, AnnotatedImage]


def find_annotations(root: Path, images: Sequence[Path]) -> list[Document]:
    """Read every annotation below ``root`` with the image it belongs to (None where there is none)."""
    in_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in images:
        in_folder[path.parent].append(path)
    documents: list[Document] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))):
        documents += _beside(folder, in_folder[folder], root)
    suffixes = tuple(suffix for item in annotation_formats() for suffix in item.in_root)
    for path in _files_with(suffixes, root):
        documents += match_by_path(read_annotations(AnnotationFile(path, path.name)), root, images)
    return documents


def pair(documents: Sequence[Document]) -> tuple[dict[Path, AnnotatedImage], list[AnnotatedImage], list[Fault]]:
    """Give each image one annotation: (by image, the annotations left over, the faults of those)."""
    by_image: dict[Path, AnnotatedImage] = {}
    left_over: list[AnnotatedImage] = []
    faults: list[Fault] = []
    for image, annotated in documents:
        if image is not None and image not in by_image:
            by_image[image] = annotated
            continue
        left_over.append(annotated)
        faults += annotated.faults
        if image is not None:
            found = f"a second annotation of {image.name} ({by_image[image].where} is one)"
            action = "join the two or remove one"
            faults.append(Fault("second_annotation", annotated.where, found, "one annotation an image", action))
        elif annotated.readable:
            found = f"an annotation of {annotated.image_path or 'an image it does not name'}, which is not there"
            action = "add the image or remove the annotation"
            faults.append(Fault("annotation_without_image", annotated.where, found, "its image", action))
    return by_image, left_over, faults


def _beside(folder: Path, images: Sequence[Path], root: Path) -> list[Document]:
    """Read the files of one folder; an image is named by the annotation, else by the file's own name."""
    by_name = {path.name: path for path in images}
    by_stem = {path.stem: path for path in images}
    documents: list[Document] = []
    suffixes = tuple(suffix for item in annotation_formats() for suffix in item.beside)
    for path in _files_with(suffixes, folder):
        for annotated in read_annotations(AnnotationFile(path, path.relative_to(root).as_posix())):
            name = annotated.image_path.rsplit("/", 1)[-1]
            documents.append((by_name.get(name) or by_stem.get(path.stem), annotated))
    return documents


def _files_with(suffixes: tuple[str, ...], folder: Path) -> list[Path]:
    """List the files of ``folder`` whose name has one of ``suffixes``, sorted; hidden ones are nobody's."""
    named = (path for path in folder.iterdir() if path.name.endswith(suffixes) and not path.name.startswith("."))
    return sorted(path for path in named if path.is_file())


def match_by_path(annotations: Iterable[AnnotatedImage], root: Path, images: Sequence[Path]) -> list[Document]:
    """Find the image of each entry of a file that serves the whole cohort."""
    by_path = {path.relative_to(root).as_posix(): path for path in images}
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for path in images:
        by_name[path.name].append(path)
    documents: list[Document] = []
    for annotated in annotations:
        candidates = by_name[annotated.image_path]
        only = candidates[0] if len(candidates) == 1 else None
        documents.append((by_path.get(annotated.image_path, only), annotated))
    return documents
