"""Annotation formats and their common result: the labeled contours of one image, and its faults.

The ``code`` of an ``Annotation`` is still the label as written; the cohort reader translates and checks it.
Coordinates are not shifted: formats that put (0, 0) at the corner of the first pixel differ by half a pixel, less
than the variation of a hand-drawn outline.

Longer than 400 lines: what each format needs of a foreign file (its text, ids, points, sizes and faults) stands here
once, so that no format reads a value in a way of its own.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import unicodedata
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.geometry import MAX_COORDINATE_PX, are_pixels, area
from marrowscope.records import Annotation, ContourArray, Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_COORDINATES = 2
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN_LETTERS = 40
_ARRAY_POINTS = 8  # below, an array is no smaller
_ELLIPSE_POINTS = 64
_MAX_DIGITS = 400
"""Whole numbers of more digits are larger than any float; they are read as infinity and refused where they are used."""

_MAX_BYTES = 4 << 30
_GZIP = b"\x1f\x8b"
_MAX_EXACT_FLOAT = 2.0**53

SCORE = "Detection score"
"""The measure that formats with a place for a prediction's score (0-1) write there."""

CELL_ID = "cell_id"
"""The key of a cell's id in the formats that have none of their own for a text."""


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """The annotation of one image.

    ``image_path`` is as the file names it, ``where`` the annotation file for messages. The size is None where the
    file does not state it. ``readable`` is False when nothing at all could be taken (the faults say why); ``n_shapes``
    counts every shape the file holds, those that could not be taken included. ``placed`` is False for what belongs to
    no image of its own: remarks on a file, shapes of an image that is not listed or listed twice. ``reader`` is the
    person who drew the shapes, empty where the file names nobody.

    The rest is written where a format has room for it, and never read back: ``descriptions`` (one per shape, or none),
    ``measures`` (name -> one value per shape; NaN is left out) and ``model``, which predicted the shapes.
    """

    image_path: str
    width_px: int | None
    height_px: int | None
    shapes: tuple[Annotation, ...]
    exhaustive: bool = True
    faults: tuple[Fault, ...] = ()
    where: str = ""
    readable: bool = True
    placed: bool = True
    reader: str = ""
    descriptions: tuple[str, ...] = ()
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    model: str = ""

    @property
    def refused(self) -> dict[int, str]:
        """Shapes that could not be taken: position in the file -> kind of the first fault that says why."""
        kinds: dict[int, str] = {}
        for fault in self.faults:
            if fault.loses_data and fault.shape_index is not None:
                kinds.setdefault(fault.shape_index, fault.kind)
        return kinds

    @property
    def n_shapes(self) -> int:
        """Shapes in the file: those taken and those refused."""
        return len(self.shapes) + len(self.refused)


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation file to be read by a format; its JSON is parsed once, on first use.

    ``name`` is the file's name in faults; if empty, the path is used. ``reader`` is the id, mail address or name of the
    person whose annotations are read, in a format that has those of several.
    """

    path: Path
    name: str = ""
    reader: str = ""

    @property
    def where(self) -> str:
        """The file's name in faults."""
        return self.name or str(self.path)

    @cached_property
    def document(self) -> Any:  # noqa: ANN401 - whatever a foreign file holds
        """The parsed JSON; None if the file cannot be opened or is not JSON (see ``broken``)."""
        return self._parsed[0]

    @cached_property
    def broken(self) -> str:
        """Why there is no document, worded to follow "found"; empty if there is one."""
        return self._parsed[1]

    @property
    def odd_numbers(self) -> tuple[str, ...]:
        """Numbers that JSON or floats do not know: NaN, infinity, whole numbers of more than 400 digits."""
        return self._parsed[2]

    @cached_property
    def _parsed(self) -> tuple[Any, str, tuple[str, ...]]:
        odd: list[str] = []

        def constant(name: str) -> float:
            odd.append(name)
            return float(name)

        def whole_number(digits: str) -> int | float:
            if len(digits) <= _MAX_DIGITS:
                return int(digits)
            odd.append(f"a number of {count_of(len(digits), 'digit')}")
            return -math.inf if digits.startswith("-") else math.inf

        try:
            text = _text_of(self.path)
            document = json.loads(
                text,
                parse_constant=constant,
                parse_int=whole_number,
                object_pairs_hook=_each_key_once,
            )
        except EOFError:
            return None, "a gzip file that ends too early", ()
        except (OSError, gzip.BadGzipFile) as error:
            return None, f"a file that cannot be opened ({error.strerror or error})", ()
        except (ValueError, RecursionError, zlib.error) as error:
            return None, f"broken JSON ({error})", ()
        if _ESCAPED_HALF.search(text) and (half := _half_a_letter(document)):
            return None, f"broken JSON (half a letter, a lone surrogate, in {half[:_SHOWN_LETTERS]!a})", ()
        return document, "", tuple(odd)

    @property
    def base_name(self) -> str:
        """The name without the suffixes of annotation files: that of the image beside which the file would lie."""
        name = self.path.name
        for suffix in (".gz", ".json", ".geojson", ".coco", ".labelstudio"):
            if len(name) > len(suffix) and name.lower().endswith(suffix):
                name = name[: -len(suffix)]
        return name

    def holds(self) -> str:
        """Describe the file's content, worded to follow "found"."""
        if self.broken:
            is_json = has_suffix(self.path, (".json", ".geojson"))
            return (
                self.broken
                if is_json
                else f"a {f'{self.path.suffix} file' if self.path.suffix else 'file'} with other content"
            )
        return f"keys {shorten(sorted(self.document))}" if isinstance(self.document, dict) else shorten(self.document)


@dataclass(frozen=True, slots=True)
class AnnotationFormat:
    """One annotation format; each module of ``cohort/formats`` defines one as ``FORMAT``.

    ``name`` is the module's name and the value of ``--format``; ``title`` is used in sentences. ``beside`` lists the
    suffixes of files next to an image, ``in_root`` those of files in the cohort folder that cover many images. The
    suffix selects the files to examine; ``recognize`` decides whether a file is of this format. ``read`` returns one
    annotation per image and raises nothing. ``write`` gets one image for a file next to it, or all images for a file in
    the cohort folder. ``unread`` gets a cohort's folder and its images and lists the faults of files of this format
    that ``read`` is never called for; None where there can be none.
    """

    name: str
    title: str
    beside: tuple[str, ...]
    in_root: tuple[str, ...]
    recognize: Callable[[AnnotationFile], bool]
    read: Callable[[AnnotationFile], tuple[AnnotatedImage, ...]]
    write: Callable[[Path, Sequence[AnnotatedImage]], None]
    unread: Callable[[Path, Sequence[Path]], tuple[Fault, ...]] | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Every suffix, without repeats."""
        return tuple(dict.fromkeys((*self.beside, *self.in_root)))


def unreadable(image_path: str, where: str, fault: Fault) -> AnnotatedImage:
    """Return the annotation of a file from which nothing could be read."""
    return AnnotatedImage(image_path, None, None, (), exhaustive=False, faults=(fault,), where=where, readable=False)


def contour_from_points(points: object) -> ContourArray | None:
    """Read a list of [x, y] as a contour (n, 2); a closing repeat of the first point is dropped.

    None where ``points`` is no list of pairs of numbers up to MAX_COORDINATE_PX (true and false are no numbers); (0, 2)
    for an empty list.
    """
    if isinstance(points, np.ndarray):  # see ``_with_arrays``
        return _open_contour(points)
    if not isinstance(points, list):
        return None
    if not points:
        return np.zeros((0, _COORDINATES))
    try:
        has_truth_values = bool in set(map(type, chain.from_iterable(points)))
        contour = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if has_truth_values or contour.ndim != _COORDINATES or contour.shape[1] != _COORDINATES:
        return None
    return _open_contour(contour)


def _open_contour(contour: ContourArray) -> ContourArray | None:
    """Return the contour without a closing repeat of its first point; None where it reaches too far."""
    if not are_pixels(contour):
        return None
    if len(contour) > 1 and np.array_equal(contour[0], contour[-1]):
        contour = contour[:-1]
    return contour


def points_from_contour(contour_xy: ContourArray) -> list[list[float]]:
    """Return the contour as [[x, y], ...]; reading it back gives equal floats."""
    points: list[list[float]] = np.asarray(contour_xy, dtype=np.float64).tolist()
    return points


def label_text(value: object) -> str | None:
    """Return a label as text (a bare whole number becomes its digits), None where it is no label."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_EXACT_FLOAT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def size_px(value: object) -> int | None:
    """Return a stated image side in pixels (also as text, "200"), None where it is no positive whole number."""
    number = item_id(value)
    return number if isinstance(number, int) and 0 < number <= MAX_COORDINATE_PX else None


def size_fault(where: str, stated: Mapping[str, object]) -> list[Fault]:
    """Note the sides of an image that are stated as no size; absent, zero and empty ones state nothing."""
    wrong = {key: value for key, value in stated.items() if value not in (None, 0, "") and size_px(value) is None}
    if not wrong:
        return []
    found = ", ".join(f"{key} {shorten(value)}" for key, value in wrong.items())
    action = "the size counts as not stated"
    return [Fault("bad_size", where, found, "a whole number of pixels", action, loses_data=False)]


def item_id(value: object) -> int | float | str | None:
    """Return an id in the one form that 1, 1.0, "1" and "1.0" share; None for what is no id.

    No ids: true and false, NaN and infinity, empty text, lists and objects, floats too large to tell neighbors apart.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        number = text.removesuffix(".0")
        digits = number.removeprefix("-")
        is_number = digits.isascii() and digits.isdigit() and (digits == "0" or not digits.startswith("0"))
        return int(number) if is_number and len(number) < _MAX_DIGITS else text or None
    if isinstance(value, float):
        if not math.isfinite(value) or abs(value) >= _MAX_EXACT_FLOAT:
            return None
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) else None


def path_text(value: object) -> str:
    """Return the name of an image as a file states it, with forward slashes; empty where it states none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return unicodedata.normalize("NFC", str(value).replace("\\", "/"))


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Say whether a file's name ends in one of ``suffixes``, in capitals or not, packed by gzip or not."""
    return path.name.lower().removesuffix(".gz").endswith(tuple(suffixes))


def taken_or_fault(
    read: Callable[[], Annotation | None], where: str, index: int, faults: list[Fault]
) -> Annotation | None:
    """Read one shape; whatever is raised becomes the fault of that shape, and the others are read."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign shape; nothing that it raises may end the file
        faults.append(broken_shape(where, index, f"a shape that cannot be read ({_reason(error)})", "a polygon"))
        return None


def file_or_fault(read: Callable[[], tuple[AnnotatedImage, ...]], where: str) -> tuple[AnnotatedImage, ...]:
    """Read one file; whatever is raised becomes the fault of that file, and the others are read."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign file; nothing that it raises may end the cohort
        fault = broken_file(where, f"a file that cannot be read ({_reason(error)})", "an annotation")
        return (unreadable("", where, fault),)


def remark(where: str, *faults: Fault) -> AnnotatedImage:
    """Return faults of a file as a whole, which belong to none of its images."""
    return AnnotatedImage("", None, None, (), faults=faults, where=where, placed=False)


def broken_file(where: str, found: str, expected: str) -> Fault:
    """Return the fault for an annotation file that cannot be read at all."""
    return Fault("broken_annotation", where, found, expected, "export the annotation again")


def broken_shape(where: str, index: int, found: str, expected: str) -> Fault:
    """Return the fault for one shape that cannot be read."""
    return Fault("broken_shape", where, found, expected, "draw the cell again as a polygon", shape_index=index)


def shorten(value: Any) -> str:  # noqa: ANN401 - whatever a foreign file holds
    """Return ``value`` as short readable text for a message."""
    text = repr(_with_lists(value))
    limit = 60
    return text if len(text) <= limit else text[: limit - 3] + "..."


def join_parts(parts: Sequence[ContourArray], where: str, index: int, faults: list[Fault]) -> ContourArray:
    """Return the largest part of a cell stored in several parts, and add a fault that does not lose the cell."""
    if len(parts) == 1:
        return parts[0]
    found, action = f"a cell of {count_of(len(parts), 'part')}", "the largest is kept"
    faults.append(Fault("several_parts", where, found, "one outline", action, index, loses_data=False))
    return max(parts, key=area)


def ellipse(x0: float, y0: float, x1: float, y1: float) -> ContourArray:
    """Outline of the ellipse inside a box, as a polygon of 64 points."""
    angle = np.linspace(0.0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return np.column_stack([x + (x1 - x0) / 2 * np.cos(angle), y + (y1 - y0) / 2 * np.sin(angle)])


def filled_hole(n_holes: int, where: str, index: int) -> Fault:
    """Describe the note that the holes of a cell are filled: a cell has one outline."""
    found = f"a cell with {count_of(n_holes, 'hole')}"
    return Fault("filled_hole", where, found, "one outline", "the outer outline is kept", index, loses_data=False)


def shape_type_fault(where: str, index: int, found: str) -> Fault:
    """Return the fault for a shape whose type cannot outline a cell."""
    return Fault("shape_type", where, found, "a polygon", "draw the cell again as a polygon", shape_index=index)


def _reason(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}").strip("'\"")


def _text_of(path: Path) -> str:
    """Read a JSON file as text; its bytes are freed before it is parsed."""
    data = _unpacked(path)
    return data.decode(json.detect_encoding(data), "surrogatepass")


def _unpacked(path: Path) -> bytes:
    """Read a file, unpacked where it is gzip; raises ValueError where it unpacks to more than 4 GiB."""
    data = path.read_bytes()
    if not data.startswith(_GZIP):
        return data
    with gzip.open(path) as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        message = "it unpacks to more than 4 GiB"
        raise ValueError(message)
    return data


def id_text(value: object) -> str:
    """Return an id that a file states as text; empty where it states none."""
    found = item_id(value)
    return "" if found is None else str(found)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's members, outlines as arrays; raises ValueError where a key has two values, one to be lost."""
    members = dict(pairs)
    if len(members) != len(pairs):
        for key, value in pairs:
            if members[key] is not value and members[key] != value:
                message = f"the key {shorten(key)} twice in one object, with two values"
                raise ValueError(message)
    for key, value in members.items():
        if isinstance(value, list):
            members[key] = _with_arrays(value)
    return members


def _half_a_letter(document: Any) -> str:  # noqa: ANN401 - whatever a foreign file holds
    r"""Return the first text that no file can hold, since it has one half of a pair such as \ud83d\ude00; else ''."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                return value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
    return ""


def _with_arrays(value: Any) -> Any:  # noqa: ANN401 - whatever a foreign file holds
    """Return a list with each outline in it, a list of [x, y], as an array (n, 2): a tenth of a list's memory."""
    if not isinstance(value, list) or not value or not isinstance(value[0], list):
        return value
    is_outline = (
        len(value) >= _ARRAY_POINTS
        and all(type(point) is list and len(point) == _COORDINATES for point in value)
        and set(map(type, chain.from_iterable(value))) <= {int, float}
    )
    try:
        return np.array(value, dtype=np.float64) if is_outline else [_with_arrays(each) for each in value]
    except OverflowError:  # a whole number that no float holds
        return value


def _with_lists(value: Any) -> Any:  # noqa: ANN401 - whatever a foreign file holds
    """Return ``value`` with its outlines as lists again."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [_with_lists(each) for each in value]
    return {key: _with_lists(each) for key, each in value.items()} if isinstance(value, dict) else value
