"""The photographs of a cohort, one folder deep; slides, by-products and what cannot be read are counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from marrowscope.cohort.listing import Role, by_product_faults, list_folder
from marrowscope.imaging import UNREAD, printable
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from marrowscope.cohort.listing import Entry


@dataclass(frozen=True, slots=True)
class Pictures:
    """The photographs and the slides of a cohort in order, and the pictures that are neither, by reason.

    ``listing`` is all that the cohort's folder contains.
    """

    images: list[Path]
    slides: list[Path]
    rejected: Counter[str]
    listing: list[Entry]


def find_pictures(root: Path, patient_ids: Collection[str], faults: list[Fault]) -> Pictures:
    """List every image one folder deep, sorted; images anywhere else are faults, by-products are said."""
    images: list[Path] = []
    deeper: Counter[Path] = Counter()
    rejected: Counter[str] = Counter()
    slides: list[Path] = []
    listing = list_folder(root, patient_ids)
    for entry in listing:
        parts = entry.path.relative_to(root).parts
        if entry.role is Role.IMAGE or entry.reason in UNREAD:
            images.append(entry.path)
            if len(parts) > 2:  # noqa: PLR2004 - patient folder and file name
                deeper[entry.path.parent] += 1
        elif entry.fault is not None:
            faults.append(replace(entry.fault, where=printable(entry.path.relative_to(root).as_posix())))
            rejected.update([entry.reason] if entry.is_left_out else [])  # an annotation is no picture
        elif entry.role is Role.SLIDE:
            slides.append(entry.path)
    for folder, n in deeper.items():
        where = folder.relative_to(root)
        found, expected = f"{count_of(n, 'image')} in a subfolder", f"images directly in {where.parts[0]}"
        where_text = where.as_posix()
        faults.append(Fault("images_in_subfolder", where_text, found, expected, "move them up or remove them"))
    for fault, n in by_product_faults(listing, root, root):
        faults.append(fault)
        rejected["by_product"] += n
    return Pictures(images, slides, rejected, listing)
