"""Single fields of an unfinished run: read back to the bit, whatever was torn or damaged beside them."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.errors import RunError
from marrowscope.records import Call, Erythrocytes, FoundCell, FoundField, InputImage
from marrowscope.runs import finished_fields
from marrowscope.runs.finished_fields import FieldsFile, FinishedFields

CALL = Call(
    p_cblc=0.1,
    p_countable=1 / 3,
    p_category=(0.25, 1e-300, 0.7),
    category="N1",
    is_cblc=True,
    is_countable=True,
    contradiction=False,
    member_spread=None,
    p_plasma=0.2,
    is_plasma=False,
    embedding_distance=3.3,
)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def image(index: int) -> InputImage:
    return InputImage(f"P1/{index}", "P1", Path(f"/photographs/{index}.png"), None)


def field(index: int, n_cells: int = 2) -> FoundField:
    rng = np.random.default_rng(index)
    cells = [
        FoundCell(rng.normal(size=(5 + k, 2)), 0.9, np.float64(31.1), 0.8, None, 1, {"nc_ratio": float("nan")}, CALL)
        for k in range(n_cells)
    ]
    measures = {"sharpness": 0.1 + index, "od_red": float("nan")}
    return FoundField(
        source=image(index),
        sha256="ab" * 32,
        um_per_px=0.25,
        width_px=800,
        height_px=600,
        cells=tuple(cells),
        measures=measures,
        fingerprint="0" * 64,
        is_simulated=True,
        erythrocytes=Erythrocytes(7, 7.25),
    )


def same(one: FoundField, other: FoundField) -> bool:
    """Compare to the bit; NaN is equal to NaN."""
    texts = [repr(replace(found, cells=())) for found in (one, other)]
    cells = [[repr(replace(cell, contour_xy=np.empty((0, 2)))) for cell in found.cells] for found in (one, other)]
    contours = [[cell.contour_xy.tobytes() for cell in found.cells] for found in (one, other)]
    return texts[0] == texts[1] and cells[0] == cells[1] and contours[0] == contours[1]


def written(folder: Path, n: int) -> Path:
    """Write a file of ``n`` fields, as a process that is killed leaves it."""
    finished = FinishedFields(folder)
    for index in range(n):
        finished.add(field(index))
    finished.close()
    (path,) = (folder / finished_fields.FOLDER).iterdir()
    return path


def left(folder: Path, n: int) -> list[int]:
    """Say which of ``n`` fields a next call has to find."""
    images = [image(index) for index in range(n)]
    return [int(item.field_id[3:]) for item in FinishedFields(folder).not_found(images)]


def test_a_field_is_read_back_as_it_was_found(tmp_path: Path) -> None:
    unread = FoundField(image(3), "", error="/photographs/3.png: found no image, expected one")
    for found in (field(0), field(1, 0), replace(field(2), erythrocytes=Erythrocytes(0, None)), unread):
        with FieldsFile(tmp_path / "one") as file:
            file.add(found)
        (name, start, n_bytes) = next(finished_fields._read_all(tmp_path / "one"))
        record = finished_fields._decode((tmp_path / "one").read_bytes()[start : start + n_bytes])
        assert name == found.source.field_id
        assert record is not None
        cells = [replace(cell, area_um2=float(cell.area_um2)) for cell in found.cells]
        assert same(finished_fields._restore(record, found.source), replace(found, cells=tuple(cells)))
        (tmp_path / "one").unlink()


@given(st.lists(NUMBERS, min_size=2, max_size=2), NUMBERS)
def test_every_number_survives(point: list[float], number: float) -> None:
    cell = FoundCell(np.array([point]), number, number, number, "edge", 3, {"x": number})
    found = replace(field(0), cells=(cell,), measures={"y": number})
    record = finished_fields._decode(finished_fields._encode(found))
    assert record is not None
    assert same(finished_fields._restore(record, image(0)), found)


def test_what_an_error_says_of_a_copy_it_says_of_its_address(tmp_path: Path) -> None:
    copy = replace(image(0), address="s3://smears/0.png")
    finished = FinishedFields(tmp_path)
    finished.add(FoundField(copy, "", error=f"{copy.path}: found no image"))
    finished.close()
    again = FinishedFields(tmp_path).take(copy)
    assert again is not None
    assert again.error == "s3://smears/0.png: found no image"


def test_a_field_that_wanted_memory_is_found_again(tmp_path: Path) -> None:
    finished = FinishedFields(tmp_path)
    finished.add(FoundField(image(0), "", error="0.png: found too little memory, expected more"))
    assert finished.is_empty
    finished.close()
    assert left(tmp_path, 1) == [0]


@pytest.mark.parametrize("n_cut", [1, 20, 400])
def test_the_torn_record_of_a_killed_process_is_dropped(tmp_path: Path, n_cut: int) -> None:
    path = written(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-n_cut])
    assert left(tmp_path, 3) == [2]


def test_damage_anywhere_costs_the_fields_it_lies_in_alone(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    whole = path.read_bytes()
    starts = [start for _, start, _ in finished_fields._read_all(path)]
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 0x41
        path.write_bytes(bytes(data))
        damaged = sum(start <= place for start in starts) - 1
        assert left(tmp_path, 3) == [damaged], place
    for other in (b"", b"\x89MSF", whole[:9], bytes(2000), whole[:40] + bytes(3000)):
        path.write_bytes(other)
        assert left(tmp_path, 3) == [0, 1, 2]
        path.touch()  # one without a whole record was removed


def record(values: Any, contours: bytes = b"") -> bytes:  # noqa: ANN401
    text = json.dumps(values).encode()
    body = text + contours
    return struct.pack("<4sIII", b"\x89MSF", len(body), len(text), zlib.crc32(body)) + body


def test_a_record_with_a_right_sum_and_another_content_is_none() -> None:
    whole = finished_fields._encode(field(0))
    n_text = struct.unpack_from("<4sIII", whole)[2]
    values = json.loads(whole[16 : 16 + n_text])
    contours = whole[16 + n_text :]
    assert finished_fields._decode(record(values, contours)) is not None
    assert finished_fields._decode(record(values, contours[:-16])) is None
    others: list[Any] = [[], 3, values | {"more": 1}]
    others += [{name: value for name, value in values.items() if name != key} for key in values]
    cell = values["cells"][0]
    for key in cell:
        others += [
            values | {"cells": [{k: v for k, v in cell.items() if k != key}]},
            values | {"cells": [cell | {key: []}]},
        ]
    others += [values | {"cells": [cell | {"call": dict.fromkeys(cell["call"], "x")}]}, values | {"cells": 1}]
    for other in others:
        assert finished_fields._decode(record(other, contours)) is None, other


def test_files_go_when_the_fields_in_them_are_in_parts(tmp_path: Path) -> None:
    written(tmp_path, 2)
    finished = FinishedFields(tmp_path)
    images = [image(index) for index in range(5)]
    assert [item.field_id for item in finished.not_found(images)] == ["P1/2", "P1/3", "P1/4"]
    ahead = finished.new_file(["P1/3", "P1/4"])  # of another process, which is ahead
    with FieldsFile(ahead) as file:
        file.add(field(3))
    for index in range(3):
        found = finished.take(images[index])
        assert (found is None) == (index == 2)
        if found is None:
            finished.add(field(index))
    finished.settle()
    assert list((tmp_path / "found").iterdir()) == [ahead]
    finished.take(images[3])
    finished.settle()
    assert ahead.exists()
    finished.take(images[4])
    finished.settle()
    assert finished.is_empty
    assert finished.n_read == 2
    assert FinishedFields(tmp_path, {"P1/0"}).is_empty


def test_a_file_has_a_bounded_number_of_records(tmp_path: Path) -> None:
    finished = FinishedFields(tmp_path)
    for index in range(130):
        finished.add(field(index, 0))
    finished.close()
    assert len(list((tmp_path / "found").iterdir())) == 3
    assert left(tmp_path, 131) == [130]


def test_a_file_that_changes_meanwhile_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, 1)
    finished = FinishedFields(tmp_path)
    for change in (lambda: path.write_bytes(b"x" * 900), path.unlink):
        change()
        with pytest.raises(RunError, match=r"\.fields: found another content than when this call began, expected a"):
            finished.take(image(0))


def test_every_part_of_a_call_is_kept() -> None:
    assert {item.name for item in dataclasses.fields(Call)} == set(finished_fields._OF_A_CALL)
