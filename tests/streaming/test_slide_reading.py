"""Slides end to end with the demonstration bundle: regions as fields, cells once, the wanted number, faults, resume."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linear_sum_assignment

import marrowscope.predict
from marrowscope import geometry
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.errors import DependencyError, ScaleError
from marrowscope.imaging import write_image
from marrowscope.predict import PredictConfig, Prediction, predict, slide_config
from marrowscope.report import write_report
from marrowscope.report.exchange import write_csv
from marrowscope.runs.parquet import read_table
from marrowscope.streaming.worker import Worker
from tests.slides.pyramids import scanner, smear, stack, write_pyramid

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.slides import SlideConfig

UM_PER_PX = 0.25
WIDTH, HEIGHT = 1500, 1000
CONFIG = PredictConfig(backend="onnxruntime", threads=1, morphology=False)
TABLES = ("fields.parquet", "cells.parquet", "patients.parquet", "regions.parquet")


@pytest.fixture(scope="module")
def picture() -> ImageArray:
    return smear(2, scanner(2, UM_PER_PX), 70, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def slide(picture: ImageArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "P1" / "slide.tif"
    path.parent.mkdir()
    write_pyramid(path, picture, UM_PER_PX)
    return path


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(load_bundle(demonstration_bundle()), CONFIG.model_copy(update={"um_per_px": UM_PER_PX}))


def run(worker: Worker, given: Path, out: Path, **settings: object) -> Prediction:
    config = CONFIG.model_copy(update=settings)
    return predict([given], demonstration_bundle(), out, config=config, worker=worker)


@pytest.fixture(scope="module")
def chosen(worker: Worker, slide: Path) -> Prediction:
    """Every region worth reading: the slide has fewer cells than are wanted."""
    return run(worker, slide, slide.parent.parent / "chosen")


@pytest.fixture(scope="module")
def whole(worker: Worker, slide: Path) -> Prediction:
    return run(worker, slide, slide.parent.parent / "whole", cells=0)


@pytest.fixture(scope="module")
def fewer(worker: Worker, slide: Path) -> Prediction:
    return run(worker, slide, slide.parent.parent / "fewer", cells=40)


@pytest.fixture
def a_part_for_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marrowscope.predict, "IMAGES_A_PART", 1)


def regions_of(prediction: Prediction) -> pl.DataFrame:
    return read_table(prediction.folder / "regions.parquet", "regions")


def in_slide(prediction: Prediction) -> list[ContourArray]:
    """Kept contours in pixels of the slide."""
    corners = {row[0]: np.array(row[1:]) for row in fields_at(prediction)}
    kept = prediction.cells.filter(pl.col("reject_reason").is_null())
    return [
        np.asarray(points).reshape(-1, 2) + corners[field_id]
        for field_id, points in kept.select("field_id", "contour_xy").iter_rows()
    ]


def fields_at(prediction: Prediction) -> list[tuple[str, int, int]]:
    columns = pl.col("region_x_px", "region_y_px").fill_null(0)
    return list(prediction.fields.select("field_id", columns).iter_rows())


def test_the_regions_of_a_slide_are_fields_of_its_patient(chosen: Prediction) -> None:
    fields, regions = chosen.fields, regions_of(chosen)
    assert fields.height == chosen.manifest.counts.images_read == 6
    assert all(re.fullmatch(r"P1/slide/x\d+_y\d+", field_id) for field_id in fields["field_id"])
    assert fields["um_per_px"].unique().to_list() == [pytest.approx(UM_PER_PX)]
    assert chosen.patients["n_cells"].to_list() == [fields["n_cells"].sum()]
    assert fields["n_contours"].sum() == chosen.cells.height
    assert chosen.cells["cell_id"].n_unique() == chosen.cells.height
    assert fields["sha256"].n_unique() == 1
    assert regions["field_id"].to_list() == fields["field_id"].to_list()
    assert regions["score"].is_sorted(descending=True)
    assert regions["reason_skipped"].null_count() == regions.height


def test_a_slide_read_whole_has_the_cells_of_the_photograph(
    worker: Worker, whole: Prediction, picture: ImageArray, tmp_path: Path
) -> None:
    (tmp_path / "P1").mkdir()
    write_image(tmp_path / "P1" / "slide.png", picture)
    photograph = run(worker, tmp_path / "P1", tmp_path / "run", um_per_px=UM_PER_PX)
    tiled, once = in_slide(whole), in_slide(photograph)
    assert photograph.fields.height == 1
    assert len(tiled) == len(once) > 50
    overlap = geometry.iou_matrix(tiled, once)
    assert overlap[linear_sum_assignment(-overlap)].min() >= 0.7
    itself = geometry.iou_matrix(tiled, tiled)
    np.fill_diagonal(itself, 0)
    assert itself.max() < 0.5


def test_counts_are_those_of_the_cells_that_stayed(whole: Prediction) -> None:
    for row in whole.fields.iter_rows(named=True):
        of_field = whole.cells.filter(pl.col("field_id") == row["field_id"])
        assert row["n_contours"] == of_field.height
        assert row["n_cells"] == of_field["reject_reason"].null_count()
        assert row["n_rejected_edge"] == (of_field["reject_reason"] == "edge").sum()
    assert regions_of(whole)["score"].null_count() == whole.fields.height


def test_reading_stops_when_there_are_enough_cells(chosen: Prediction, fewer: Prediction) -> None:
    n = fewer.fields.height
    assert 1 < n < chosen.fields.height
    assert fewer.fields.equals(chosen.fields.head(n))
    assert fewer.fields["n_cells"].sum() >= 40 > fewer.fields["n_cells"].head(n - 1).sum()
    assert regions_of(fewer)["reason_skipped"].to_list() == [None] * n + ["enough_cells"] * (6 - n)
    assert fewer.manifest.counts.images == n


@pytest.mark.parametrize("threads", [2, 3])
def test_tables_are_the_same_to_the_byte_whatever_the_threads(
    fewer: Prediction, slide: Path, tmp_path: Path, threads: int
) -> None:
    config = CONFIG.model_copy(update={"cells": 40, "threads": threads})
    steps: list[tuple[int, int]] = []
    predict(
        [slide],
        demonstration_bundle(),
        tmp_path / "run",
        config=config,
        progress=lambda done, total: steps.append((done, total)),
    )
    for name in TABLES:
        assert (tmp_path / "run" / name).read_bytes() == (fewer.folder / name).read_bytes(), name
    n = fewer.fields.height
    assert [done for done, _ in steps] == list(range(1, n + 1))
    assert all(n <= total <= 6 for _, total in steps)


@pytest.mark.parametrize("cells", [0, 40])
@pytest.mark.usefixtures("a_part_for_every_image")
def test_a_slide_that_was_stopped_goes_on_and_ends_with_the_same_tables(
    worker: Worker, slide: Path, tmp_path: Path, request: pytest.FixtureRequest, cells: int
) -> None:
    fresh: Prediction = request.getfixturevalue("fewer" if cells else "whole")
    n_before = 2 if cells == 0 else 1
    config = CONFIG.model_copy(update={"cells": cells})

    def stop(done: int, _total: int) -> None:
        if done == n_before:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict([slide], demonstration_bundle(), tmp_path / "run", config=config, worker=worker, progress=stop)
    resumed = run(worker, slide, tmp_path / "run", cells=cells)
    assert resumed.manifest.images_resumed == n_before
    assert resumed.manifest.counts == fresh.manifest.counts
    for name in TABLES:
        assert pl.read_parquet(tmp_path / "run" / name).equals(pl.read_parquet(fresh.folder / name)), name


def test_thick_and_empty_parts_are_not_read_and_the_reason_is_kept(
    worker: Worker, picture: ImageArray, tmp_path: Path
) -> None:
    wide = np.full((HEIGHT, 2 * WIDTH, 3), np.quantile(picture, 0.95, axis=(0, 1)), dtype=np.uint8)
    wide[:, :750] = picture[:, :750]
    one, other = (smear(seed, scanner(2, UM_PER_PX), 70, 750, HEIGHT) for seed in (5, 6))
    turned = [layer[::rows, ::columns] for layer in (one, other) for rows, columns in ((1, 1), (-1, 1), (1, -1))]
    wide[:, 2250:] = stack(turned)
    (tmp_path / "P1").mkdir()
    write_pyramid(tmp_path / "P1" / "slide.tif", wide, UM_PER_PX)
    prediction = run(worker, tmp_path / "P1", tmp_path / "run")
    regions = regions_of(prediction)
    reasons = set(regions.filter(pl.col("core_x0_px") >= 750)["reason_skipped"])
    assert prediction.fields["region_x_px"].to_list()
    assert prediction.fields["region_x_px"].max() < 750  # type: ignore[operator]
    assert "empty" in reasons
    assert reasons & {"solid", "crowded"}
    assert regions.filter(pl.col("reason_skipped").is_not_null())["place"].null_count() == regions.height - len(
        prediction.fields
    )


def test_a_slide_with_nothing_to_read_is_a_field_that_says_so(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "P1").mkdir()
    write_pyramid(tmp_path / "P1" / "slide.tif", np.full((800, 800, 3), 240, dtype=np.uint8), UM_PER_PX)
    prediction = run(worker, tmp_path / "P1", tmp_path / "run")
    assert prediction.fields.select("field_id", "status").rows() == [("P1/slide", "failed")]
    (failure,) = prediction.manifest.failures
    assert "slide.tif: found no region worth reading among 4 (4 empty), expected parts in focus" in failure.error
    assert prediction.manifest.counts.images_failed == 1


def test_a_truncated_slide_is_recorded_and_the_rest_goes_on(
    worker: Worker, slide: Path, picture: ImageArray, tmp_path: Path
) -> None:
    folder = tmp_path / "P1"
    folder.mkdir()
    (folder / "a.tif").write_bytes(slide.read_bytes()[:100_000])
    write_image(folder / "b.png", picture[:500, :700])
    shutil.copyfile(slide, folder / "c.tif")
    prediction = run(worker, folder, tmp_path / "run", um_per_px=UM_PER_PX, cells=20)
    assert prediction.fields["field_id"].to_list()[:2] == ["P1/a", "P1/b"]
    assert prediction.fields["status"].to_list() == ["failed", *["ok"] * (prediction.fields.height - 1)]
    assert "a.tif: found a TIFF that ends too early" in prediction.manifest.failures[0].error
    assert prediction.fields["region_x_px"].is_null().to_list()[:3] == [True, True, False]


def test_a_damaged_tile_fails_its_own_regions(worker: Worker, slide: Path, tmp_path: Path) -> None:
    import tifffile

    with tifffile.TiffFile(slide) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        offset = page.dataoffsets[0]
    data = bytearray(slide.read_bytes())
    data[offset : offset + 64] = b"\xff" * 64
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "slide.tif").write_bytes(data)
    prediction = run(worker, tmp_path / "P1", tmp_path / "run", cells=0)
    failed = prediction.fields.filter(pl.col("status") == "failed")
    assert failed.select("field_id", "region_x_px", "region_y_px", "n_cells").rows() == [("P1/slide/x0_y0", 0, 0, 0)]
    assert "slide.tif: the part of" in failed["error"].item()
    assert prediction.manifest.counts.images_read == 5


def test_a_slide_without_openslide_or_scale_is_refused_before_a_run_exists(
    slide: Path, picture: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "P1" / "bare.tif"
    bare.parent.mkdir()
    write_pyramid(bare, picture[:400, :400], None)
    with pytest.raises(ScaleError, match=r"bare\.tif: found no scale.*set --um-per-px"):
        predict([bare], demonstration_bundle(), tmp_path / "run", config=CONFIG)
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(DependencyError, match=r'pip install "\.\[wsi\]"'):
        predict([slide], demonstration_bundle(), tmp_path / "run", config=CONFIG.model_copy(update={"um_per_px": 0.2}))
    assert not (tmp_path / "run").exists()


def test_a_large_plain_image_is_read_whole_unless_a_number_is_asked_for(
    worker: Worker, whole: Prediction, picture: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marrowscope.slides.slide.MAX_PIXELS", 1_000_000)
    (tmp_path / "P1").mkdir()
    write_image(tmp_path / "P1" / "slide.png", picture)
    large = run(worker, tmp_path / "P1", tmp_path / "run", um_per_px=UM_PER_PX)
    assert large.cells.drop("cell_id").equals(whole.cells.drop("cell_id"))
    assert 0 < run(worker, tmp_path / "P1", tmp_path / "few", um_per_px=UM_PER_PX, cells=20).fields.height < 6


def test_a_series_is_read_once(worker: Worker, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.slides.whole_slide._series", lambda _properties: "one series")
    (tmp_path / "P1").mkdir()
    for name in ("a.tif", "b.tif"):
        shutil.copyfile(slide, tmp_path / "P1" / name)
    fields = run(worker, tmp_path / "P1", tmp_path / "run", cells=1).fields
    assert fields["path"].to_list() == [str(tmp_path / "P1" / "a.tif")]


def test_the_report_shows_each_region_with_its_frame(chosen: Prediction, slide: Path, tmp_path: Path) -> None:
    write_report(chosen.folder, tmp_path / "report")
    page = (tmp_path / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    assert page.count("<image href=") == page.count('<rect class="core"') == 6
    for field_id in chosen.fields["field_id"]:
        assert field_id.removeprefix("P1/") in page
    assert [path.name for path in write_csv(chosen.folder, tmp_path)][-1] == "regions.csv"
    assert pl.read_csv(tmp_path / "regions.csv")["place"].to_list() == [1, 2, 3, 4, 5, 6]
    other = tmp_path / "moved"
    other.mkdir()
    (other / "slide.tif").write_bytes(slide.read_bytes() + b"changed")
    write_report(chosen.folder, tmp_path / "changed", images_root=other)
    changed = (tmp_path / "changed" / "patients" / "P1.html").read_text(encoding="utf-8")
    assert "<image href=" not in changed
    assert changed.count('<p class="problem">') == 6


def test_more_regions_are_looked_at_where_many_cells_are_wanted(
    worker: Worker, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(bundle: Bundle) -> SlideConfig:
        return slide_config(bundle).model_copy(update={"max_judged": 1})

    monkeypatch.setattr(marrowscope.predict, "slide_config", few)
    assert run(worker, slide, tmp_path / "few", cells=7).fields.height == 1
    assert regions_of(run(worker, slide, tmp_path / "more", cells=12))["place"].count() == 3
