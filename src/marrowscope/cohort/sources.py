"""Find the annotation of every image of a cohort, whichever form it has.

LabelMe: a JSON file beside the image. Every other form is read by name: see ``ROOT_FORMATS`` in ``manifest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.annotations.labelme import read_labelme
from marrowscope.records import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.annotations.shapes import AnnotatedImage


def labelme_of_folder(folder: Path, images: Sequence[Path], root: Path) -> list[tuple[Path | None, AnnotatedImage]]:
    """Read every LabelMe file of one folder with the image it belongs to (None where there is none)."""
    by_name = {path.name: path for path in images}
    by_stem = {path.stem: path for path in images}
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("."):
            continue
        annotated = read_labelme(path, path.relative_to(root).as_posix())
        found.append((by_name.get(annotated.image_path) or by_stem.get(path.stem), annotated))
    return found


def pair(
    documents: Sequence[tuple[Path | None, AnnotatedImage]],
) -> tuple[dict[Path, AnnotatedImage], list[AnnotatedImage], list[Fault]]:
    """Give each image one annotation: (by image, the annotations left over, the faults of those)."""
    by_image: dict[Path, AnnotatedImage] = {}
    left_over: list[AnnotatedImage] = []
    faults: list[Fault] = []
    for image, annotated in documents:
        if image is not None and image not in by_image:
            by_image[image] = annotated
            continue
        left_over.append(annotated)
        if image is None:
            kind, found = "annotation_without_image", f"an annotation of {annotated.image_path or 'no image'!r}"
            expected, action = "the image beside it", "add the image or remove the annotation"
        else:
            kind, found = "second_annotation", f"a second annotation of {image.name} ({by_image[image].where} is one)"
            expected, action = "one annotation an image", "join the two or remove one"
        faults += [*annotated.faults, Fault(kind, annotated.where, found, expected, action)]
    return by_image, left_over, faults
