"""Annotations of any format to LabelMe files beside the images, labels translated to raw codes on the way.

All or nothing: where a shape or an image would be lost, nothing is written and every fault is given.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats import format_named, read_annotations
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.cohort.images import examine_image
from marrowscope.cohort.polygons import check_shapes
from marrowscope.cohort.sources import match_by_path, pair
from marrowscope.errors import CohortError, InputError
from marrowscope.imaging import is_image_path
from marrowscope.records import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.cohort.polygons import CheckedShapes
    from marrowscope.vocabulary import LabelMapping, Vocabulary


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote: LabelMe files, the cells in them, and the shapes the mapping drops on purpose."""

    n_files: int
    n_cells: int
    rejected: dict[str, int]
    changed: dict[str, int]
    faults: tuple[Fault, ...]


def import_annotations(
    source: Path,
    images_root: Path,
    file_format: str | None,
    vocabulary: Vocabulary,
    *,
    mapping: LabelMapping | None = None,
    overwrite: bool = False,
) -> Imported:
    """Convert ``source`` to a LabelMe file beside each image below ``images_root``.

    ``file_format`` names the format of the file; None: its content tells. Images are found by their path from
    ``images_root``, or by name where only one image has it. Raises CohortError with every fault where a shape or image
    would be lost, InputError for a format that does not exist and where a LabelMe file is there already.
    """
    if mapping is not None:
        mapping.check_against(vocabulary)
    images = sorted(path for path in images_root.rglob("*") if path.is_file() and is_image_path(path))
    reader = read_annotations if file_format is None else format_named(file_format).read
    read = reader(AnnotationFile(source))
    by_image, _, faults = pair(match_by_path(read, images_root, images))
    results: dict[Path, tuple[CheckedShapes, tuple[int, int], bool]] = {}
    for path, annotated in by_image.items():
        where = path.relative_to(images_root).as_posix()
        file = examine_image(path, where, decode=False)
        size = file.width_px, file.height_px
        stated = annotated.width_px or size[0], annotated.height_px or size[1]
        if file.fault is not None:
            faults.append(file.fault)
        elif stated != size:
            found, expected = f"an image of {stated[0]} x {stated[1]} px", f"{size[0]} x {size[1]} px, its size"
            action = "annotate the image as it is stored"
            faults.append(Fault("wrong_image_size", f"{source}, {where}", found, expected, action))
        checked = check_shapes(annotated, *size, vocabulary, mapping)
        faults += checked.faults
        results[path] = (checked, size, annotated.exhaustive)
    losing = [fault for fault in faults if fault.loses_data]
    if losing:
        listed = "\n".join(f"  {fault.sentence()}" for fault in losing)
        message = (
            f"{source}: found {len(losing)} faults that would lose data, expected none; nothing is written:\n{listed}"
        )
        raise CohortError(message, losing)
    _refuse_existing([path.with_suffix(".json") for path in results], overwrite=overwrite)
    rejected: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for path, (checked, (width, height), exhaustive) in results.items():
        write_labelme(path.with_suffix(".json"), path.name, width, height, checked.annotations, exhaustive=exhaustive)
        rejected.update(checked.rejected)
        changed.update(checked.changed)
    n_cells = sum(len(checked.annotations) for checked, _, _ in results.values())
    return Imported(len(results), n_cells, dict(rejected), dict(changed), tuple(faults))


def _refuse_existing(paths: list[Path], *, overwrite: bool) -> None:
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        message = f"{existing[0]}: found an annotation there ({len(existing)} in all), expected none; add --overwrite"
        raise InputError(message)
