"""Slides in deep zoom: tiles that put together are the slide, regions with their cells, and nothing of a call."""

from __future__ import annotations

import io
import math
import sys
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from marrowscope.report.field_pixels import FieldPixels
from marrowscope.review.accounts import add_account
from marrowscope.review.slide_tiles import (
    OVERLAP_PX,
    TILE_PX,
    NoTileError,
    SlideTiles,
    TiledSlide,
    max_level,
    min_level,
    slides_of,
    tile_box,
)
from tests.fake_slide_runs import HEIGHT, UM_PER_PX, WIDTH, make_slide_run
from tests.review.stations import Browser, enter, enter_as, open_station

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.records import ImageArray
    from marrowscope.review.slide_tiles import RunSlide
    from marrowscope.review.station import Station
    from tests.fake_slide_runs import SlideRun

pytest.importorskip("openslide", reason="needs the extra wsi and tifffile", exc_type=ImportError)
pytest.importorskip("tifffile", reason="needs the extra wsi and tifffile")

TILE = "/slides/P1/1/11/0_0.jpg"


def picture() -> ImageArray:
    """Smooth colors, so that every pixel says where it lies."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 255 / WIDTH, y * 255 / HEIGHT, (x + y) * 255 / (WIDTH + HEIGHT)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def slide_run(tmp_path_factory: pytest.TempPathFactory) -> SlideRun:
    return make_slide_run(tmp_path_factory.mktemp("slides"), image=picture())


@pytest.fixture
def slide_station(slide_run: SlideRun, tmp_path: Path) -> Iterator[Station]:
    station = open_station(slide_run.run, tmp_path / "review.sqlite")
    yield station
    station.close()


def only_slide(station: Station) -> RunSlide:
    (slide,) = slides_of(station.patient("P1").fields.values())
    return slide


def size(level: int) -> tuple[int, int]:
    factor = 2 ** (max_level(WIDTH, HEIGHT) - level)
    return -(-WIDTH // factor), -(-HEIGHT // factor)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_cores_of_a_level_cover_the_slide_and_the_first_level_is_one_tile(width: int, height: int) -> None:
    last, first = max_level(width, height), min_level(width, height)
    assert 2**last >= max(width, height) > (2 ** (last - 1) if last else 0)
    assert tile_box(width, height, first, 0, 0) == (0, 0, width, height)
    assert [tile_box(width, height, first, *at) for at in ((1, 0), (0, 1), (-1, 0))] == [None] * 3
    assert tile_box(width, height, first - 1, 0, 0) is tile_box(width, height, last + 1, 0, 0) is None
    for level in range(first, last + 1):
        factor = 2 ** (last - level)
        columns = math.ceil(math.ceil(width / factor) / TILE_PX)
        boxes = [tile_box(width, height, level, column, 0) for column in range(columns)]
        assert tile_box(width, height, level, columns, 0) is None
        edges = [box[2] for box in boxes if box is not None]
        assert len(edges) == columns
        assert edges[-1] == width
        for before, box in pairwise(boxes):
            assert before is not None
            assert box is not None
            assert 0 < before[2] - box[0] <= 2 * OVERLAP_PX * factor


def test_tiles_put_together_are_the_slide_at_every_level(slide_station: Station) -> None:
    slide, whole = only_slide(slide_station), picture().astype(np.float64)
    measured = slide_station.tiles.measure(slide)
    assert isinstance(measured, TiledSlide)
    assert measured.um_per_px == pytest.approx(UM_PER_PX)
    assert replace(measured, um_per_px=None) == TiledSlide(WIDTH, HEIGHT, None, 8, 11)
    for level in range(8, 12):
        factor, (width, height) = 2 ** (11 - level), size(level)
        shown = np.zeros((height, width, 3))
        for row in range(-(-height // TILE_PX)):
            for column in range(-(-width // TILE_PX)):
                data = slide_station.tiles.tile(slide, level, column, row)
                assert isinstance(data, bytes)
                pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
                top, left = (max(0, place * TILE_PX - OVERLAP_PX) for place in (row, column))
                shown[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        centers_y = np.minimum((np.arange(height) + 0.5) * factor - 0.5, HEIGHT - 1)
        centers_x = np.minimum((np.arange(width) + 0.5) * factor - 0.5, WIDTH - 1)
        expected = whole[np.round(centers_y).astype(int)][:, np.round(centers_x).astype(int)]
        assert np.abs(shown - expected).mean() < 1.5, f"level {level}"
        assert np.abs(shown - expected).max() < 10, f"level {level}"


def test_a_tile_is_read_once_and_none_is_made_up(slide_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = only_slide(slide_station)
    first = slide_station.tiles.tile(slide, 11, 1, 1)
    monkeypatch.setattr(FieldPixels, "slide", lambda *_: pytest.fail("a kept tile was read again"))
    assert slide_station.tiles.tile(slide, 11, 1, 1) == first
    monkeypatch.undo()
    for place in ((11, 6, 0), (11, 0, 3), (12, 0, 0), (7, 0, 0), (11, -1, 0)):
        with pytest.raises(NoTileError, match=f"found no tile {place[1]}, {place[2]} at level {place[0]}"):
            slide_station.tiles.tile(slide, *place)


def test_the_regions_that_were_read_stand_with_their_cells(slide_station: Station, slide_run: SlideRun) -> None:
    browser = enter(slide_station)
    assert browser.json("/api/worklist")[0]["has_slides"] is True
    (slide,) = browser.json("/api/patients/P1/slides")
    read = slide_run.regions[:-1]
    assert [region["box_xyxy"] for region in slide["regions"]] == [[r.x0, r.y0, r.x1, r.y1] for r in read]
    assert [region["n_cells"] for region in slide["regions"]] == [2, 3, *[0] * (len(read) - 2)]
    assert (slide["width_px"], slide["height_px"], slide["problem"]) == (WIDTH, HEIGHT, None)
    cell = slide_station.patient("P1").frozen[0]
    assert browser.decide("P1", {"kind": "not_a_cell", "cell_id": cell.cell_id}).status_code == 200
    assert browser.json("/api/patients/P1/slides")[0]["regions"][0]["n_cells"] == 1
    page = browser.get("/slides/P1")
    assert (page.status_code, "/static/vendor/openseadragon.min.js" in page.text) == (200, True)
    assert 'id="view-slide"' in browser.get("/patients/P1").text
    tile = browser.get(TILE)
    assert (tile.status_code, tile.headers["content-type"]) == (200, "image/jpeg")
    assert tile.headers["cache-control"] == "private, max-age=3600"


def test_the_outlines_of_a_region_lie_where_the_slide_has_the_cells(
    slide_station: Station, slide_run: SlideRun
) -> None:
    browser = enter(slide_station)
    (slide,) = browser.json("/api/patients/P1/slides")
    placed = []
    for region in slide["regions"]:
        field = browser.json(f"/api/patients/P1/fields/{quote(region['field_id'])}")
        placed += [np.reshape(cell["contour_xy"], (-1, 2)) + region["origin_xy"] for cell in field["cells"]]
    assert slide["regions"][1]["origin_xy"][0] > 0
    known = [annotation.contour_xy for annotation in slide_run.truth]
    nearest = [min(float(np.abs(contour - truth).max()) for truth in known) for contour in placed]
    assert sorted(nearest)[:4] == pytest.approx([0, 0, 0, 0.5], abs=0.01), "half a pixel is the run's own"
    assert len(placed) == 5


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/slides/P1/2/11/0_0.jpg", 404),
        ("/slides/P1/0/11/0_0.jpg", 404),
        ("/slides/P1/1/11/9_9.jpg", 404),
        ("/slides/P1/1/99999999999/0_0.jpg", 404),
        ("/slides/P9/1/11/0_0.jpg", 404),
        ("/slides/P9", 404),
        ("/api/patients/P9/slides", 404),
        ("/slides/P1/..%2F..%2Fetc/11/0_0.jpg", 404),
        ("/slides/P1/slide.tif/11/0_0.jpg", 400),
        ("/slides/P1/1/11/x_0.jpg", 400),
    ],
)
def test_only_tiles_of_slides_that_the_run_names_are_served(slide_station: Station, address: str, status: int) -> None:
    answer = enter(slide_station).get(address)
    assert answer.status_code == status, answer.text
    assert str(only_slide(slide_station).path.parent) not in answer.text


def test_a_patient_of_photographs_has_no_slide(browser: Browser) -> None:
    assert browser.json("/api/patients/P1/slides") == []
    assert browser.json("/api/worklist")[0]["has_slides"] is False
    assert 'id="view-slide"' not in browser.get("/patients/P1").text
    answer = browser.get(TILE)
    assert (answer.status_code, "none, since the patient was photographed" in answer.text) == (404, True)


def test_a_slide_that_cannot_be_shown_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_slide_run(tmp_path)
    path = made.cohort / "P1" / "slide.tif"

    def problem() -> str:
        station = open_station(made.run, tmp_path / "review.sqlite")
        browser = enter(station)
        (slide,) = browser.json("/api/patients/P1/slides")
        tile = browser.get(TILE)
        station.close()
        assert set(slide) == {"number", "name", "problem"}
        assert (tile.status_code, slide["problem"] in tile.text, str(path) in tile.text) == (404, True, False)
        return str(slide["problem"])

    with monkeypatch.context() as bare:
        bare.setitem(sys.modules, "openslide", None)
        assert problem() == "no_extra"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert problem() == "changed"
    path.unlink()
    assert problem() == "not_found"
    path.write_bytes(data)
    with monkeypatch.context() as broken:
        broken.setattr("marrowscope.report.field_pixels.sha256_file", lambda _: only_sha(made))
        path.write_bytes(data[:1000])
        assert problem() == "unreadable"


def only_sha(made: SlideRun) -> str:
    from marrowscope.runs.parquet import read_table

    return str(read_table(made.run / "fields.parquet", "fields")["sha256"][0])


def test_a_damaged_part_loses_its_own_tiles(slide_station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    from marrowscope.errors import ImageError
    from marrowscope.slides.whole_slide import WholeSlide

    def fail(*_: object) -> None:
        message = "slide.tif: the part cannot be read"
        raise ImageError(message)

    monkeypatch.setattr(WholeSlide, "reduced", fail)
    assert SlideTiles(slide_station.images.pixels).tile(only_slide(slide_station), 11, 0, 0) == "unreadable"


def test_blinded_readers_see_where_cells_are_and_nothing_of_a_call(slide_run: SlideRun, tmp_path: Path) -> None:
    station = open_station(slide_run.run, tmp_path / "review.sqlite", reader=None)
    for name, role in (("ada", "reader"), ("bo", "reader"), ("cy", "reader"), ("dee", "signer")):
        add_account(station.store.engine, name, [role])

    def entered(name: str) -> Browser:
        return enter_as(station, name)

    assert entered("dee").post("/api/assign", {"patients": ["P1"], "readers": ["ada", "bo"]}).status_code == 200
    first = station.patient("P1").frozen[0].cell_id
    assert entered("bo").decide("P1", {"kind": "not_a_cell", "cell_id": first}).status_code == 200
    (slide,) = entered("ada").json("/api/patients/P1/slides")
    parts = {"field_id", "name", "box_xyxy", "origin_xy", "n_cells"}
    assert {name for region in slide["regions"] for name in region} == parts
    outlines = entered("ada").json(f"/api/patients/P1/fields/{quote(slide['regions'][0]['field_id'])}")["cells"]
    assert {(cell["model_category"], cell["code"]) for cell in outlines} == {(None, None)}
    assert '"blinded": true' in entered("ada").get("/slides/P1").text
    assert '"blinded": false' in entered("dee").get("/slides/P1").text
    assert slide["regions"][0]["n_cells"] == 2, "what bo removed is bo's"
    assert entered("bo").json("/api/patients/P1/slides")[0]["regions"][0]["n_cells"] == 1
    assert entered("ada").get(TILE).status_code == 200
    for address in ("/slides/P1", "/api/patients/P1/slides", TILE):
        answer = entered("cy").get(address)
        assert (answer.status_code, "assigned to other readers" in answer.text) == (403, True)
    station.close()
