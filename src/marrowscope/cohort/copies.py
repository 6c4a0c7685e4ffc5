"""What `predict` checks in the images themselves, as `cohort check` does: copies, and scales that disagree.

Copies by content are found before anything is predicted, and cheaply: only files of equal size are opened, only those
that agree in three samples are hashed in full. A run of thousands of photographs so reads next to nothing twice, even
of uncompressed ones, which are all of one size. Copies under another encoding are found while fields are predicted
(``duplicates.SeenPhotographs``), where their pixels are at hand.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from marrowscope.cohort.formats import annotation_formats
from marrowscope.errors import CohortError
from marrowscope.imaging import printable, sha256_bytes, sha256_file
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.cohort.inputs import Inputs
    from marrowscope.records import InputImage

MAX_SCALE_DISAGREEMENT = 0.05
"""Largest share by which the scale of an image and that of its table may differ without a word."""
_SAMPLE_BYTES = 4096
_OF_SEVERAL_FILES = frozenset({".mrxs", ".vms"})
"""Slides whose own file says next to nothing: the pixels are in the files beside it."""
_SHA256_OF_NOTHING = sha256_bytes(b"")


def without_copies(inputs: Inputs, groups: Iterable[Sequence[InputImage]]) -> Inputs:
    """Leave out the copies by content: all but one of a patient, and all of an image that several patients have.

    ``groups`` are the ``equal_files`` of the input. Of one patient's copies the one with an annotation of its name
    stays, else the first. Each that is left out is counted and has a fault. Files that cannot be read, or are empty,
    are left to the prediction, which says so. Raises CohortError where no image is left.
    """
    faults = [item for group in groups for item in copy_faults(group)]
    if not faults:
        return inputs
    spare = {image.field_id for image, _ in faults}
    images = tuple(image for image in inputs.images if image.field_id not in spare)
    said = [fault for _, fault in faults]
    if not images:
        message = f"{said[0].sentence()}; found no other image, expected one to predict"
        raise CohortError(message, said)
    n_left_out = inputs.n_left_out + len(spare)
    return replace(inputs, images=images, faults=(*inputs.faults, *said), n_left_out=n_left_out)


def copy_faults(group: Sequence[InputImage], kept: InputImage | None = None) -> list[tuple[InputImage, Fault]]:
    """Return the images of equal content that are left out, each with its fault.

    ``kept`` is the one of a single patient's that stays; by default the annotated one, else the first.
    """
    is_shared = len({image.patient_id for image in group}) > 1
    if is_shared:
        kept = None
    elif kept is None:
        kept = next((image for image in group if _has_annotation(image.path)), group[0])
    name = None if kept is None else kept.path.name
    return [
        (image, copy_fault(image.place, [other.place for other in group if other is not image], name))
        for image in group
        if image is not kept
    ]


def copy_fault(path: Path | str, others: Iterable[Path | str], kept: str | None) -> Fault:
    """Describe the fault of a file with the content of ``others``, of which the one named ``kept`` is counted.

    None is counted where several patients have it.
    """
    found = f"the same content as {', '.join(map(printable, others))}"
    if kept is None:
        kind, expected = "duplicate_across_patients", "an image to belong to one patient"
        action = "none is predicted; find out whose it is and remove the others"
    else:
        kind, expected = "duplicate_image", "each image once"
        action = f"it is counted once, as {printable(kept)}; remove the copy"
    return Fault(kind, printable(path), found, expected, action)


def near_copy_fault(image: InputImage, original: InputImage, n_bits: int) -> Fault:
    """Describe the fault of an image that shows an earlier photograph in another encoding, size or position."""
    found = f"the photograph of {printable(original.place)} again ({n_bits} of 255 bits of the fingerprints differ)"
    if image.patient_id == original.patient_id:
        kind, expected = "near_duplicate", "each photograph once"
        action = f"{printable(original.path.name)} is counted; remove the one that is the copy, or that was drawn on"
    else:
        kind, expected = "near_duplicate_across_patients", "a photograph to belong to one patient"
        action = f"it is counted for {original.patient_id} only; find out whose it is and remove the other"
    return Fault(kind, printable(image.place), found, expected, action)


def scale_faults(
    images: Iterable[InputImage], used_um_per_px: Mapping[str, float], default_um_per_px: float | None
) -> list[Fault]:
    """Name the patients whose images state a scale of their own that is not the one of patients.csv, or the default.

    ``used_um_per_px`` is the scale with which each file was predicted, by its path. One fault per patient and pair of
    scales; it loses no data.
    """
    groups: defaultdict[tuple[str, float, float, str], list[str]] = defaultdict(list)
    for image in images:
        own, stated = used_um_per_px.get(image.place), image.um_per_px or default_um_per_px
        if own and stated and abs(own / stated - 1) > MAX_SCALE_DISAGREEMENT:
            source = "patients.csv" if image.um_per_px else "--um-per-px"
            groups[image.patient_id, own, stated, source].append(image.place)
    return [
        Fault(
            "scale_disagrees",
            printable(paths[0]) if len(paths) == 1 else f"{count_of(len(paths), 'image')} of {patient_id}",
            f"{own:.4g} um per px in the image's metadata",
            f"{stated:.4g} as in {source}",
            "correct the wrong one; the image's own is taken",
            loses_data=False,
        )
        for (patient_id, own, stated, source), paths in groups.items()
    ]


def equal_files(images: Sequence[InputImage]) -> list[list[InputImage]]:
    """Return the groups of two or more images whose files have the same content, in their order."""
    keys: tuple[Callable[[Path], object], ...] = (_size, _samples, sha256_file)
    groups = [[image for image in images if can_be_copy(image.path)]]
    for key in keys:
        groups = [part for group in groups for part in _divide(group, key)]
    return groups


def can_be_copy(path: Path, sha256: str | None = None) -> bool:
    """Say whether equal content means an equal image: not for slides of several files, nor for empty files."""
    return path.suffix.lower() not in _OF_SEVERAL_FILES and sha256 not in {"", _SHA256_OF_NOTHING}


def _divide(images: Iterable[InputImage], key: Callable[[Path], object]) -> list[list[InputImage]]:
    """Return the groups of two or more images that have one ``key``; files that cannot be read are in none."""
    groups: defaultdict[object, list[InputImage]] = defaultdict(list)
    for image in images:
        try:
            groups[key(image.path)].append(image)
        except OSError:
            continue
    return [group for value, group in groups.items() if value and len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _samples(path: Path) -> bytes:
    """Return bytes of the beginning, the middle and the end of a file."""
    with path.open("rb") as stream:
        n_bytes = stream.seek(0, os.SEEK_END)
        parts = []
        for start in (0, (n_bytes - _SAMPLE_BYTES) // 2, n_bytes - _SAMPLE_BYTES):
            stream.seek(max(0, start))
            parts.append(stream.read(_SAMPLE_BYTES))
    return b"".join(parts)


def _has_annotation(path: Path) -> bool:
    suffixes = {suffix for item in annotation_formats() for suffix in item.beside}
    return any(path.with_suffix(suffix).is_file() for suffix in suffixes)
