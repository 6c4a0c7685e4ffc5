"""What a folder contains: one function decides the role of each file, for every command alike.

A file is an image (a photograph or a slide that is read), an annotation, a by-product of another program, a picture
that cannot be read, hidden, a part of a slide, or none of these. Names decide; content decides where a name has no
suffix, or where two pictures share one name. Nothing is passed over: each file has exactly one role, and each picture
that is not used has a fault.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import has_suffix
from marrowscope.cohort.companions import drop_companions
from marrowscope.cohort.formats import annotation_formats
from marrowscope.cohort.walk import is_hidden, walk
from marrowscope.imaging import (
    IMAGE_SUFFIXES,
    SLIDE_SUFFIXES,
    is_image_path,
    is_printable,
    is_slide_path,
    printable,
    unread_fault,
)
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_PICTURES = IMAGE_SUFFIXES | SLIDE_SUFFIXES
_TOOLS = (
    ("Cellpose", re.compile(r".+_cp_(masks|outlines|flows|output|cellprob)")),
    ("ilastik", re.compile(r".+[_ -](simple[_ ]segmentation|object[_ ](predictions|identities|probabilities))")),
    ("ilastik", re.compile(r".+_(probabilities|uncertainty)(_stage_\d+)?")),
    ("StarDist", re.compile(r".+[._]stardist([._]labels?)?")),
)
"""Names that one program writes and nobody gives a photograph, without their suffix."""
_TOOL_DATA = frozenset({".npy", ".npz", ".h5", ".hdf5", ".ilp", ".qpdata", ".qpproj", ".zarr", ".roi"})
_WORDS = (
    r"((instance|label|segmentation|semantic|cell|nuclei|nucleus|object|roi|colou?r|binary)[_ -]?)?(masks?|maps?)|"
    r"seg(ment(s|ed|ations?)?)?|label(s|l?ed)?|instances?|(out|bound)lines?|contours?|boundar(y|ies)|"
    r"overlays?|overlaid|annotat(ed|ions?)|"
    r"heat_?maps?|prob(s|abilit(y|ies))?|pred(s|ict(ed|ions?))?|thumb(s|nails?)?|previews?|macro|overview|flows?|binary|"
    r"ground_?truth|gt|viz|vis(uali[sz]ation)?|bbox(es)?|drawn|results?|outputs?|detect(ed|ions?)|semantic|"
    r"thresh(old(ed)?)?|otsu|watershed|instance_?ids?|grad[_-]?cam|saliency|attention|nucle(i|us)|cytoplasm|rois?"
)
_IN_NAMES = rf"{_WORDS}|outlined[_ -]?(cells?|nucle(i|us)|cytoplasm|objects?)?|origoverlay|cells|objects?|bw|"
_IN_NAMES += r"(cell|nuclei|nucleus|object)s?[_ -]?outlines?|colou?red([_ -]?objects?)?"
"""Words in the name of a picture; a folder called ``cells`` may be anybody's."""
_OF = (
    r"((count )?masks?|(bare )?outlines?|drawing|ellipses|overlay|results?|classified image|segmentation|"
    r"thresh(old(ed)?)?|labels?|voronoi|edm|skeleton|watershed|particles) of "
)
"""What ImageJ puts before the title of the image that it measured."""
_GLUED = (
    r"(cell|nuclei|nucleus|object|label|instance|binary)?masks?|labels?|(out|bound)lines?|contours?|overlays?|"
    r"segmentations?|annotated"
)
_CAPITALIZED = r"Cells|Objects?|Nuclei|Nucleus|Cytoplasm|Seg|Binary|Boundaries|Probabilities|Predictions?|Result|Output"
_NAMED_AFTER = (
    re.compile(rf"(?i:(?P<of>.+?)[_.\- ]+({_IN_NAMES})([_.\- ]*({_IN_NAMES}|\d+))*)"),
    re.compile(rf"(?i:({_IN_NAMES})[_.\- ]+(?P<of>.+))"),
    re.compile(rf"(?i:{_OF}(?P<of>.+))"),
    re.compile(rf"(?i:(?P<of>.+?)({_GLUED}))"),
    re.compile(rf"(?P<of>.+?)({_CAPITALIZED})"),
)
"""How programs name a picture of the image ``of``; only where that image stands beside it is it a by-product."""
_FOLDERS = re.compile(
    rf"({_WORDS}|segmentation_?(class|object)(raw)?|cellpose|ilastik|stardist|qupath|label_?viz|thumbs?_?cache)"
    r"([_\- ](png|tif|jpe?g|out(put)?))?"
)
QUPATH = "QuPath"
_QUPATH_PROJECT = "project.qpproj"
_QUPATH_FOLDERS = frozenset({"data", "classifiers", "scripts", "export", "tiles", "resources"})
_LABELME_DATASET = frozenset({"img.png", "label.png"})
_NOT_READ = "they are not read; move them away, or rename those that are photographs"
_SHOWN = 3


class Role(StrEnum):
    """What a file is."""

    IMAGE = "image"
    SLIDE = "slide"
    ANNOTATION = "annotation"
    BY_PRODUCT = "by_product"
    UNREAD = "unread"
    UNREAD_ANNOTATION = "unread_annotation"
    HIDDEN = "hidden"
    SLIDE_PART = "slide_part"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or link, or a hidden or unreadable folder.

    ``reason`` says why a picture is not used, or for an annotation, whose folder of by-products it lies in.
    """

    path: Path
    role: Role
    fault: Fault | None = None
    reason: str = ""

    @property
    def is_input(self) -> bool:
        """Whether the file is read as a photograph or a slide."""
        return self.role in {Role.IMAGE, Role.SLIDE}

    @property
    def is_left_out(self) -> bool:
        """Whether the file is a picture, or may be one, that is not read."""
        return self.role is Role.UNREAD or (self.role is Role.BY_PRODUCT and self.path.suffix.lower() in _PICTURES)


def list_folder(root: Path, patients: Collection[str] = ()) -> list[Entry]:
    """List everything below ``root`` with its role, in the order of the paths.

    A hidden folder is one entry. Links to folders are followed (``walk``). A folder named as one of ``patients`` is
    no folder of by-products, whatever its name. Nothing is raised: what cannot be opened is an entry with its fault.
    """
    entries: list[Entry] = []
    made_by: dict[Path, str] = {root: ""}
    parts_of_slides: set[Path] = set()
    for folder in walk(root):
        entries += [Entry(path, Role.HIDDEN) for path in folder.hidden]
        if folder.path in parts_of_slides:
            entries += [Entry(path, Role.SLIDE_PART) for path in folder.files]
            parts_of_slides.update(folder.folders)
            continue
        if folder.repeats:
            entries.append(Entry(folder.path, Role.OTHER))
            continue
        if folder.error:
            found, action = f"a folder that cannot be opened ({folder.error})", "correct its permissions or its disk"
            fault = Fault("unreadable_folder", printable(folder.path), found, "a folder of images", action)
            entries.append(Entry(folder.path, Role.UNREAD, fault, "unreadable_folder"))
            continue
        names = {path.name.lower() for path in folder.files}
        maker = made_by[folder.path]
        if not maker and names >= _LABELME_DATASET and folder.path != root:
            maker = "LabelMe"
        entries += _judge(folder.files, maker)
        slides = {path.with_suffix("") for path in folder.files if path.suffix.lower() == ".mrxs"}
        parts_of_slides |= slides & set(folder.folders)
        for path in folder.folders:
            is_patient = folder.path == root and path.name in patients
            made_by[path] = maker or _maker_of_folder(path, names, is_patient=is_patient)
    return sorted(entries, key=lambda entry: entry.path)


def judge_file(path: Path) -> Entry:
    """Return the role of one file that was named by itself, as ``list_folder`` of its folder would."""
    try:
        beside = [item for item in path.parent.iterdir() if item.is_file()]
    except OSError:
        beside = [path]
    return next((entry for entry in _judge(beside, "") if entry.path == path), Entry(path, Role.OTHER))


def by_product_faults(entries: Sequence[Entry], root: Path, shown: Path | None = None) -> list[tuple[Fault, int]]:
    """Return one fault per folder of other programs' pictures, with their number; paths from ``shown`` or as given."""
    groups: defaultdict[Path, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.role is Role.BY_PRODUCT and entry.is_left_out:
            groups[entry.path.parent].append(entry)
    faults = []
    for folder, group in groups.items():
        names = ", ".join(printable(entry.path.name) for entry in group[:_SHOWN])
        more = f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
        where = printable(folder if shown is None else folder.relative_to(root).as_posix())
        makers = " and ".join(dict.fromkeys(entry.reason for entry in group))
        found = f"{count_of(len(group), 'by-product')} of {makers} ({names}{more})"
        fault = Fault("by_product", where, found, "photographs", _NOT_READ, loses_data=False)
        faults.append((fault, len(group)))
    return faults


def _judge(files: Sequence[Path], made_by: str) -> Iterator[Entry]:
    """Return the roles of the ``files`` that lie in one folder."""
    pictures = {path for path in files if path.suffix.lower() in _PICTURES}
    readable = [path for path in files if is_image_path(path) or (is_slide_path(path) and is_printable(path))]
    own = set(drop_companions(sorted(readable)))
    stems = {path.stem.lower() for path in pictures} | {path.name.lower() for path in own if not path.suffix}
    annotations = tuple(dict.fromkeys(suffix for item in annotation_formats() for suffix in item.suffixes))
    for path in files:
        is_annotation = has_suffix(path, annotations)
        if is_hidden(path):
            yield Entry(path, Role.HIDDEN)
        elif path in pictures or is_annotation or not path.suffix:
            yield _judge_named(path, own, stems, made_by, is_annotation=is_annotation)
        elif (fault := unread_fault(path, str(path))) is not None:
            yield Entry(path, Role.UNREAD, fault, fault.kind)
        elif path.suffix.lower() in _TOOL_DATA:
            yield Entry(path, Role.BY_PRODUCT, reason=_maker_of_file(path, stems) or "another program")
        else:
            yield Entry(path, Role.OTHER)


def _judge_named(path: Path, own: set[Path], stems: set[str], made_by: str, *, is_annotation: bool) -> Entry:
    """Return the role of a file whose name is a picture's or an annotation's, or says nothing."""
    if (fault := _unreachable(path)) is not None:
        return Entry(path, Role.UNREAD_ANNOTATION if is_annotation else Role.UNREAD, fault, fault.kind)
    if is_annotation:
        return Entry(path, Role.ANNOTATION, reason=made_by)
    if (fault := unread_fault(path, str(path))) is not None:
        return Entry(path, Role.UNREAD, fault, fault.kind)
    if path not in own:
        is_part = path.suffix.lower() in _PICTURES
        return Entry(path, Role.SLIDE_PART if is_part else Role.OTHER)
    if maker := made_by or _maker_of_file(path, stems):
        return Entry(path, Role.BY_PRODUCT, reason=maker)
    return Entry(path, Role.SLIDE if is_slide_path(path) else Role.IMAGE)


def _unreachable(path: Path) -> Fault | None:
    """Say why nothing can be read behind ``path``: a link to nothing, no permission, a pipe or a device."""
    where, action = printable(path), "copy the file here, or remove the link"
    try:
        if path.is_file():
            readable = os.access(path, os.R_OK)
        elif path.is_symlink():
            return Fault("dangling_link", where, "a link to a file that is not there", "a file", action)
        else:
            return Fault("not_a_file", where, "a pipe or a device", "a file", "remove it")
    except OSError as error:
        return Fault("unreadable_file", where, f"no access ({error.strerror})", "a readable file", "check its disk")
    if readable:
        return None
    return Fault("unreadable_file", where, "no permission to read it", "a readable file", "correct its permissions")


def _maker_of_file(path: Path, stems: Collection[str]) -> str:
    """Name who wrote a picture that is no photograph, by its name and those beside it; empty where nobody is known."""
    stem = path.stem.lower()
    for tool, pattern in _TOOLS:
        if pattern.fullmatch(stem):
            return tool
    others = set(stems) - {stem}
    for pattern in _NAMED_AFTER:
        match = pattern.fullmatch(path.stem)
        if match and others & _stems_of(match["of"].lower()):
            return "another program"
    return ""


def _stems_of(name: str) -> set[str]:
    """Return a name, and without the suffix of a picture that programs keep in it (``Mask of f1.tif``)."""
    base, dot, suffix = name.rpartition(".")
    return {name, base} if f"{dot}{suffix}" in _PICTURES else {name}


def _maker_of_folder(path: Path, beside: Collection[str], *, is_patient: bool) -> str:
    """Name the program that fills a folder of this name; empty for every other folder."""
    name = path.name.lower()
    if is_patient:
        return ""
    if _QUPATH_PROJECT in beside and name in _QUPATH_FOLDERS:
        return QUPATH
    return "another program" if _FOLDERS.fullmatch(name) else ""
