"""An id names a cell by what does not wobble, and no two cells of a field by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.records import FoundCell, FoundField, InputImage, Region
from marrowscope.runs.rows import GRID_PX, cell_ids, cell_rows

SOURCE = InputImage("P1/a", "P1", Path("a.png"), 0.1)


def cell_at(x: float, y: float, radius: float = 30.0) -> FoundCell:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)])
    return FoundCell(ring, 0.9, 1.0, 1.0, None)


def field_of(*cells: FoundCell, sha256: str = "a" * 64) -> FoundField:
    return FoundField(SOURCE, sha256, 0.1, 1000, 1000, cells)


def wobbling(found: FoundField, size: float, seed: int) -> FoundField:
    """Give the field as another runtime finds it: each contour moved as a whole, and each of its points."""
    rng = np.random.default_rng(seed)
    cells = [
        replace(
            cell,
            contour_xy=cell.contour_xy + rng.normal(0, size, 2) + rng.normal(0, size, cell.contour_xy.shape),
            score=cell.score + rng.normal(0, 1e-6),
        )
        for cell in found.cells
    ]
    return replace(found, cells=tuple(cells))


def test_ten_thousand_wobbling_cells_keep_their_ids() -> None:
    """The wobble is 20 times that between the runtimes (median 4e-6 px, see benchmarks/cell_ids.py)."""
    rng = np.random.default_rng(1)
    n_equal = n = 0
    seen: set[str] = set()
    for image in range(200):
        places = rng.uniform(0, 1000, (60, 2))
        found = field_of(*[cell_at(x, y, rng.uniform(20, 60)) for x, y in places.tolist()], sha256=f"{image:064x}")
        ids = cell_ids(found)
        n_equal += sum(one == other for one, other in zip(ids, cell_ids(wobbling(found, 1e-4, image)), strict=True))
        n += len(ids)
        seen |= set(ids)
    assert n == len(seen) == 12_000
    assert n_equal / n >= 0.999


def test_round_coordinates_stand_on_no_line_of_the_grid() -> None:
    places = [(x / 4, y / 4) for x in range(400, 440) for y in range(400, 440)]
    for x, y in places:
        assert cell_ids(field_of(cell_at(x, y))) == cell_ids(field_of(cell_at(x + 1e-3, y - 1e-3)))


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.floats(1, 30)), max_size=30))
def test_no_two_cells_of_a_field_have_one_id(places: list[tuple[float, float, float]]) -> None:
    ids = cell_ids(field_of(*[cell_at(x, y, radius) for x, y, radius in places]))
    assert len(set(ids)) == len(places)
    assert all(len(name) == 20 for name in ids)


def test_cells_of_one_place_are_numbered_by_size_whatever_their_order() -> None:
    inner, outer = cell_at(100, 100, 20), cell_at(100, 100, 60)
    one, other = cell_ids(field_of(inner, outer)), cell_ids(field_of(outer, inner))
    assert one == other[::-1]
    assert cell_ids(field_of(outer)) == one[1:]  # the larger is named as if it were alone


def test_the_image_the_region_and_the_place_make_the_id() -> None:
    found = field_of(cell_at(100, 100))
    ids = {*cell_ids(found), *cell_ids(field_of(cell_at(100, 100), sha256="b" * 64))}
    ids |= set(cell_ids(field_of(cell_at(100 + GRID_PX, 100))))
    ids |= set(cell_ids(field_of(cell_at(100, 100 + GRID_PX))))
    for x in (0, 100):
        source = replace(SOURCE, region=Region(x, 0, 500, 500, 0, 0, 500, 500))
        ids |= set(cell_ids(replace(found, source=source)))
    assert len(ids) == 6
    assert cell_ids(found) == cell_ids(replace(found, cells=(cell_at(100, 100),)))
    assert cell_ids(field_of()) == []


def test_rows_carry_the_ids() -> None:
    found = field_of(cell_at(100, 100), cell_at(300, 100))
    assert [row["cell_id"] for row in cell_rows(found)] == cell_ids(found)
