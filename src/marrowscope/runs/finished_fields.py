"""Fields of an unfinished run that are in no part yet, each written as soon as it is found: no kill costs one.

    run.part/found/1f0c9a2b-00000.fields    records of up to 64 fields, appended one by one; and so on

A record is a mark, the length and the CRC-32 of what follows: JSON of the field without its contours, then these as
float64, so that the rows made of it are those of the field to the byte. Nothing is flushed to the disk: what a process
has written stays when it is killed, and a power cut costs what the system had not written yet.

Invariant: a record counts where its checksum and its form are right. Another one (the last of a killed process, or a
damaged one) is passed over, and that field alone is found again. A file is removed when all its fields are in parts.
"""

from __future__ import annotations

import json
import secrets
import struct
import zlib
from dataclasses import fields as names_of
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, ValidationError

from marrowscope.config import UNREADABLE, FrozenModel
from marrowscope.errors import RunError
from marrowscope.imaging.one_image import TOO_LITTLE_MEMORY
from marrowscope.records import Call, Erythrocytes, FoundCell, FoundField

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from marrowscope.records import InputImage

FOLDER = "found"
_RECORDS_A_FILE = 64
_MARK = b"\x89MSF"
_HEAD = struct.Struct("<4sIII")
"""Mark, bytes of the body, bytes of its JSON, CRC-32 of the body."""
_POINT_BYTES = 16
_OF_A_CALL = tuple(item.name for item in names_of(Call))


class _Cell(FrozenModel):
    """A found cell without its contour, of which the number of points is here."""

    n_points: int = Field(ge=0)
    score: float
    area_um2: float
    circularity: float
    reject_reason: str | None
    n_parts: int
    morphology: dict[str, float]
    call: Call | None


class _Found(FrozenModel):
    """A found field without its contours and its source, of which only the name is here."""

    field_id: str
    sha256: str
    um_per_px: float | None
    width_px: int | None
    height_px: int | None
    measures: dict[str, float]
    error: str | None
    fingerprint: str
    is_simulated: bool | None
    erythrocytes: Erythrocytes | None
    cells: tuple[_Cell, ...]


class FieldsFile:
    """One file that one process appends to. ``n`` is the number of its records."""

    def __init__(self, path: Path) -> None:
        self.path, self.n = path, 0
        self._stream = path.open("xb", buffering=0)

    def add(self, found: FoundField) -> None:
        """Append a field. One that wanted memory is left to the next call, which may have more."""
        if found.error is not None and TOO_LITTLE_MEMORY in found.error:
            return
        self._stream.write(_encode(found))
        self.n += 1

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it."""
        self._stream.close()


class FinishedFields:
    """The fields that an unfinished run in ``folder`` has found so far and that are in none of its parts.

    ``settled`` are the images of the parts. ``n_read`` counts the fields that were taken from an earlier call.
    """

    def __init__(self, folder: Path, settled: Collection[str] = ()) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._places: dict[str, tuple[Path, int, int]] = {}
        self._unsettled: dict[Path, set[str]] = {}
        self._passed: list[str] = []
        self._open: FieldsFile | None = None
        self.n_read = 0
        self._call, self._n_files = secrets.token_hex(4), 0  # a process of a killed call may still make its next file
        for path in sorted(self._folder.glob("*.fields")):
            mine = {name: place for name, *place in _read_all(path) if name not in settled and name not in self._places}
            self._places |= {name: (path, start, n_bytes) for name, (start, n_bytes) in mine.items()}
            if mine:
                self._unsettled[path] = set(mine)
            else:
                path.unlink()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written, by this call or an earlier one."""
        return not any(path.stat().st_size for path in self._folder.glob("*.fields"))

    def not_found(self, images: Iterable[InputImage]) -> Iterator[InputImage]:
        """Give those of ``images`` that no earlier call found."""
        return (image for image in images if image.field_id not in self._places)

    def take(self, image: InputImage) -> FoundField | None:
        """Return what an earlier call found in ``image``, else None: then it comes from a worker. In this order alone.

        A field that was taken counts as passed on to the rows of the next part, or left out before them. Raises
        RunError where its file was changed since this object was made.
        """
        self._passed.append(image.field_id)
        if image.field_id not in self._places:
            return None
        path, start, n_bytes = self._places[image.field_id]
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                record = _decode(stream.read(n_bytes))
        except OSError:
            record = None
        if record is None:
            message = (
                f"{path}: found another content than when this call began, expected a file that nobody changes; call "
                "again as before"
            )
            raise RunError(message)
        self.n_read += 1
        return _restore(record, image)

    def add(self, found: FoundField) -> None:
        """Append a field that was found by this process."""
        if self._open is None or self._open.n == _RECORDS_A_FILE:
            self.close()
            self._open = FieldsFile(self.new_file([]))
        self._open.add(found)
        self._unsettled[self._open.path].add(found.source.field_id)

    def new_file(self, field_ids: Iterable[str]) -> Path:
        """Return a path for a FieldsFile that another process makes, of these fields."""
        path = self._folder / f"{self._call}-{self._n_files:05}.fields"
        self._n_files += 1
        self._unsettled[path] = set(field_ids)
        return path

    def settle(self) -> None:
        """Remove the files of which every field was taken before a part was written, which it now is."""
        self.close()
        passed, self._passed = frozenset(self._passed), []
        for path in list(self._unsettled):
            self._unsettled[path] -= passed
            if not self._unsettled[path]:
                path.unlink(missing_ok=True)
                del self._unsettled[path]

    def close(self) -> None:
        """Close the file that this process appends to."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _encode(found: FoundField) -> bytes:
    """Return the record of a field; an error names its place, since the path of a copy is another in the next call."""
    error = found.error
    values = {
        "field_id": found.source.field_id,
        "sha256": found.sha256,
        "um_per_px": found.um_per_px,
        "width_px": found.width_px,
        "height_px": found.height_px,
        "measures": dict(found.measures),
        "error": None if error is None else error.replace(str(found.source.path), found.source.place),
        "fingerprint": found.fingerprint,
        "is_simulated": found.is_simulated,
        "erythrocytes": None
        if found.erythrocytes is None
        else {"n": found.erythrocytes.n, "diameter_um": found.erythrocytes.diameter_um},
        "cells": [
            {
                "n_points": len(cell.contour_xy),
                "score": cell.score,
                "area_um2": cell.area_um2,
                "circularity": cell.circularity,
                "reject_reason": cell.reject_reason,
                "n_parts": cell.n_parts,
                "morphology": dict(cell.morphology),
                "call": None if cell.call is None else {name: getattr(cell.call, name) for name in _OF_A_CALL},
            }
            for cell in found.cells
        ],
    }
    text = json.dumps(values, default=_plain).encode()
    body = text + b"".join(np.ascontiguousarray(cell.contour_xy, dtype="<f8").tobytes() for cell in found.cells)
    return _HEAD.pack(_MARK, len(body), len(text), zlib.crc32(body)) + body


def _plain(value: Any) -> Any:  # noqa: ANN401  what json cannot write: scalars of numpy
    return value.item()


def _decode(record: bytes) -> tuple[_Found, bytes] | None:
    """Return a field and the bytes of its contours; None where the record is not whole, or not one of ours."""
    if len(record) < _HEAD.size:
        return None
    mark, n_bytes, n_text, checksum = _HEAD.unpack_from(record)
    body = record[_HEAD.size : _HEAD.size + n_bytes]
    if mark != _MARK or len(body) < n_bytes or n_text > n_bytes or zlib.crc32(body) != checksum:
        return None
    try:
        found = _Found.model_validate(json.loads(body[:n_text]))
    except (ValidationError, *UNREADABLE):
        return None
    contours = body[n_text:]
    return (found, contours) if len(contours) == _POINT_BYTES * sum(cell.n_points for cell in found.cells) else None


def _read_all(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the start and the bytes of each record of a file, passing over what is none."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    start = data.find(_MARK)
    while start >= 0:
        n_bytes = _HEAD.size
        if len(data) - start >= _HEAD.size:
            n_bytes += _HEAD.unpack_from(data, start)[1]
        record = _decode(data[start : start + n_bytes])
        if record is not None:
            yield record[0].field_id, start, n_bytes
        start = data.find(_MARK, start + (n_bytes if record is not None else 1))


def _restore(record: tuple[_Found, bytes], image: InputImage) -> FoundField:
    """Return the field as it was found, of ``image``."""
    found, contours = record
    points = np.frombuffer(contours, dtype="<f8").astype(np.float64).reshape(-1, 2)
    cells, start = [], 0
    for cell in found.cells:
        end = start + cell.n_points
        cells.append(
            FoundCell(
                contour_xy=points[start:end],
                score=cell.score,
                area_um2=cell.area_um2,
                circularity=cell.circularity,
                reject_reason=cell.reject_reason,
                n_parts=cell.n_parts,
                morphology=cell.morphology,
                call=cell.call,
            )
        )
        start = end
    return FoundField(
        source=image,
        sha256=found.sha256,
        um_per_px=found.um_per_px,
        width_px=found.width_px,
        height_px=found.height_px,
        cells=tuple(cells),
        measures=found.measures,
        error=found.error,
        fingerprint=found.fingerprint,
        is_simulated=found.is_simulated,
        erythrocytes=found.erythrocytes,
    )
