"""Files of a cohort that may hold annotations or photographs and are not read: each is named, with what to do.

Names and content that say what a file is: the formats of other programs, archives, tables of outlines. One note names
all files of one kind in one folder.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import has_suffix
from marrowscope.cohort.listing import Role
from marrowscope.imaging import IMAGE_SUFFIXES, SLIDE_SUFFIXES, printable
from marrowscope.records import Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from marrowscope.cohort.annotations import AnnotationFile
    from marrowscope.cohort.listing import Entry

    Said = tuple[Path, str, str]
    """A file, what it is (worded to follow "found a"), and what to do."""

_EXPORT = "it is not read; if it holds annotations, export them as LabelMe, COCO or GeoJSON"
_UNPACK = "it is not opened; unpack it if it holds annotations or photographs"
_EXPORT_OUTLINES = "it is not read; export the outlines with their classes as GeoJSON, from QuPath for example"
_EXPECTED = "an annotation or a photograph in a format that is read"
_SHOWN = 3

_FOREIGN_JSON = (
    ("Supervisely annotation", frozenset({"objects", "size"})),
    ("Supervisely file", frozenset({"classes", "tags"})),
    ("Datumaro annotation", frozenset({"items", "categories"})),
    ("VIA annotation", frozenset({"_via_img_metadata"})),
    ("VGG annotation", frozenset({"file_attributes", "regions"})),
    ("Labelbox annotation", frozenset({"data_row", "projects"})),
    ("V7 annotation", frozenset({"item", "annotations"})),
)
"""Keys that an object of another program's JSON has, or the first object in it."""
_HALF_READ = (
    frozenset({"images", "annotations"}),
    frozenset({"shapes", "imagePath"}),
    frozenset({"type", "features"}),
    frozenset({"annotations", "data"}),
)
"""Keys of the formats that are read: a file that has them and is not recognized is damaged, not another program's."""
_SETTINGS = frozenset({
    "package.json", "package-lock.json", "composer.json", "manifest.json", "tsconfig.json", "jsconfig.json",
    "settings.json", "display_settings.json", "config.json", "launch.json", "tasks.json", "extensions.json",
    "renovate.json", "dataset_description.json", "datapackage.json", "codemeta.json", "dataset-metadata.json",
    "simulation.json", "import.json",
})  # fmt: skip
"""Settings and descriptions that programs leave, some of them with comments, which JSON does not have.

The last two are what `simulate` and `cohort import --cells` write beside the patients.
"""
_METADATA = frozenset({"metadata.json", "meta.json", "info.json", "acquisition.json", "log.json"})
"""Names that many programs give to what they say of images; such a file is noted, since it may be anything."""

_LINES = (".geojsonl", ".geojsons", ".geojsonseq", ".jsonl", ".ndjson")
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz")
_XML = (".xml",)
_BY_SUFFIX = {
    ".roi": ("an ImageJ outline", _EXPORT_OUTLINES),
    ".ndpa": ("an NDP.view annotation", _EXPORT),
    ".qpdata": ("a QuPath data file", "it is not read; export its annotations from QuPath as GeoJSON"),
}
_TABLE_OF_OUTLINES = re.compile(rb"region_shape_attributes|xmin|encodedpixels|polygon|segmentation", re.IGNORECASE)
_STARTS_AS_JSON = re.compile(r"\s*(\{\s*[\"}]|\[\s*[\[{\]])")
_RENAMED_JSON = re.compile(r"(.+\.(?:geo)?json)[.~_ (-].*", re.IGNORECASE)
_OTHER_JSON = frozenset({".ipynb", ".jsonc", ".json5", ".code-workspace", ".webmanifest", ".map", ".lock"})
_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst"})
_TABLES = frozenset({".csv", ".tsv"})
_HEAD_BYTES = 4096
_PICTURES = IMAGE_SUFFIXES | SLIDE_SUFFIXES


def is_other(path: Path) -> bool:
    """Tell whether a name is that of a program's settings or metadata, which are no annotation in any folder."""
    return path.name.lower() in _SETTINGS | _METADATA


def is_settings(path: Path) -> bool:
    """Tell whether a name is that of a program's settings."""
    return path.name.lower() in _SETTINGS


def is_half_read(file: AnnotationFile) -> bool:
    """Tell whether JSON that no format recognizes has the keys of one: cells may be in it."""
    return any(keys <= found for keys in _HALF_READ for found in _keys(file.document))


def describe_json(file: AnnotationFile) -> str:
    """Say what a JSON file holds that is no annotation that is read, worded to follow "found"."""
    found = _keys(file.document)
    return next((f"a {name}" for name, keys in _FOREIGN_JSON if any(keys <= each for each in found)), file.holds())


def not_read_json(files: Iterable[AnnotationFile], root: Path) -> list[Fault]:
    """Note JSON files of no format that is read."""
    return _notes(((file.path, describe_json(file), _EXPORT) for file in files), root)


def not_read(root: Path, entries: Sequence[Entry], images: Sequence[Path]) -> list[Fault]:
    """Note every other file of a cohort that may hold its annotations or photographs."""
    return _notes(_said(root, entries, images), root)


def names_one_of(path: Path, images: Sequence[Path]) -> bool:
    """Say whether the text of a file contains the name of an image; False where it cannot be opened."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return False
    return any(image.name in text for image in images)


def _said(root: Path, entries: Sequence[Entry], images: Sequence[Path]) -> Iterator[Said]:
    stems = {image.stem for image in images}
    taken = {str(entry.path).lower() for entry in entries}
    for entry in entries:
        path = entry.path
        if entry.role not in {Role.OTHER, Role.BY_PRODUCT} or path.suffix.lower() in _PICTURES or not path.is_file():
            continue
        if has_suffix(path, _XML):
            if path.name.partition(".")[0] in stems or names_one_of(path, images):
                yield path, f"a {path.suffix} file that belongs to images of the cohort", _EXPORT
        elif path.suffix.lower() == ".pdf":
            if path.parent != root:
                yield path, "a PDF", "it is not read; if it holds photographs, export them as PNG or TIFF"
        elif found := _by_name(path):
            yield path, *found
        elif entry.role is Role.OTHER and _is_renamed_json(path, taken):
            yield path, "JSON under another suffix", "it is not read; rename it to end in .json"


def _by_name(path: Path) -> tuple[str, str] | None:
    """Say what a file is and what to do, by its name or the list in it; None where it is nothing of the kind."""
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if has_suffix(path, _LINES):
        return "a file of lines of JSON", _EXPORT
    if has_suffix(path, _ARCHIVES) or suffix in _PACKED:
        return _in_archive(path)
    if suffix in _TABLES and _TABLE_OF_OUTLINES.search(_head(path).partition(b"\n")[0]):
        return "a table of outlines or boxes", _EXPORT
    return None


def _is_renamed_json(path: Path, taken: set[str]) -> bool:
    """Say whether a file of another suffix holds JSON, unless it is a copy of one of its name."""
    name = _RENAMED_JSON.fullmatch(path.name)
    if path.suffix.lower() in _OTHER_JSON or (name and str(path.with_name(name[1])).lower() in taken):
        return False
    head = _head(path)
    return _STARTS_AS_JSON.match(head.decode(json.detect_encoding(head), errors="ignore")) is not None


def _notes(said: Iterable[Said], root: Path) -> list[Fault]:
    """Return one note for the files of one kind in one folder."""
    groups: defaultdict[tuple[Path, str, str], list[Path]] = defaultdict(list)
    for path, found, action in said:
        groups[path.parent, found, action].append(path)
    notes = []
    for (folder, found, action), paths in groups.items():
        where = printable((paths[0] if len(paths) == 1 else folder).relative_to(root).as_posix())
        if len(paths) > 1:
            shown = ", ".join(printable(path.name) for path in paths[:_SHOWN])
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            found = f"{count_of(len(paths), 'file')} ({shown}{more}), each {found}"  # noqa: PLW2901 - same sentence
        notes.append(Fault("not_read", where, found, _EXPECTED, action, loses_data=False))
    return notes


def _in_archive(path: Path) -> tuple[str, str]:
    """Say what an archive holds as far as its list tells, and what to do."""
    try:
        with zipfile.ZipFile(path) as archive:
            suffixes = {Path(name).suffix.lower() for name in archive.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):  # the last: zipfile, of a later ZIP version
        return "an archive", _UNPACK
    if ".roi" in suffixes:
        return "an archive of ImageJ outlines", _EXPORT_OUTLINES
    if suffixes & {".json", ".geojson", ".xml", ".txt", ".csv"}:
        return "an archive that may hold annotations", _UNPACK
    return ("an archive of pictures" if suffixes & _PICTURES else "an archive"), _UNPACK


def _keys(document: object) -> list[set[str]]:
    """Return the keys of an object, and of the first object in it or in a list."""
    inside = document[:1] if isinstance(document, list) else [document]
    if isinstance(document, dict):
        inside = [document, *list(document.values())[:1]]
    return [set(each) for each in inside if isinstance(each, dict)]


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""
