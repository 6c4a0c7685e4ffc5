"""One way from a field to its cells: what training stores is what a prediction sees, and nothing is found twice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cells.crop import CropSpec
from marrowscope.cells.find import CellFinder, coarsest_um_per_px, find_cells
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.cells.quality import QualityRules
from marrowscope.cohort import read_cohort
from marrowscope.errors import ScaleError
from marrowscope.imaging import read_image, write_image
from marrowscope.imaging.photograph import decode_photograph, read_file
from marrowscope.prepare import prepare_crops, stored_side_px
from marrowscope.records import FieldImage, InputImage
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.records import Call, Field, FoundField, ImageArray

STORED_PX = stored_side_px(CropSpec().size_px)
MARGIN_PX = (STORED_PX - CropSpec().size_px) // 2
INSIDE = slice(MARGIN_PX, STORED_PX - MARGIN_PX)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(demonstration_bundle())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("find") / "cohort"
    config = SimulationConfig(
        patients=1, centers=1, fields=2, seed=3, cells_per_field=(14, 16), width_px=640, height_px=480
    )
    simulate_cohort(out, config)
    return out


def finder_of(bundle: Bundle, margin_px: int = 0) -> CellFinder:
    segmenter = Segmenter(bundle.open_segmenter("onnxruntime"), bundle.spec.segmenter, bundle.segmenter_sha256)
    return CellFinder(segmenter, QualityRules(), CropSpec(), margin_px)


def simulated(cohort: Path) -> FieldImage:
    field = read_cohort(cohort).fields[0]
    return decode_photograph(read_file(field.path), field.path, stated_um_per_px=field.um_per_px)


class _Watched(Worker):
    """Keeps the crops that are classified."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, PredictConfig(backend="onnxruntime", threads=1))
        self.seen: list[ImageArray] = []

    def _classify(self, crops: Sequence[ImageArray]) -> list[Call]:
        """Keep the crops, then call their cells: a batch that is run in two sizes is still seen once."""
        self.seen += list(crops)
        return super()._classify(crops)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_crop_training_sees_is_the_crop_prediction_sees(
    bundle: Bundle, cohort: Path, tmp_path: Path, factor: int
) -> None:
    """Of the same contour, to the bit; also where the photograph is so fine that both decode it smaller."""
    read = read_cohort(cohort)
    if factor > 1:  # the same smear through a finer camera; the scale is not a round one
        for field in read.fields:
            pixels = read_image(field.path)
            write_image(field.path.with_suffix(".png"), pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    scaled = [field if factor == 1 else _finer(field, factor) for field in read.fields]
    prepared = prepare_crops(read.patients, scaled, tmp_path / "crops", segmenter=finder_of(bundle).segmenter)
    cells = pl.read_parquet(prepared.folder / "cells.parquet")
    stored = np.load(prepared.folder / "crops.npy")
    worker = _Watched(bundle)
    fields = [InputImage(field.field_id, field.patient_id, field.path, field.um_per_px) for field in scaled]
    found: list[FoundField] = list(worker.find(fields))
    kept = [(field, cell) for field in found for cell in field.cells if cell.reject_reason is None]
    by_shape = {
        (field.source.field_id, cell.area_um2, cell.circularity): crop
        for (field, cell), crop in zip(kept, worker.seen, strict=True)
    }
    predicted = cells.with_row_index("row").filter(pl.col("source") == "predicted")
    assert predicted.height >= 20
    for row in predicted.iter_rows(named=True):
        seen = by_shape[row["field_id"], row["area_um2"], row["circularity"]]
        assert np.array_equal(stored[row["row"]][INSIDE, INSIDE], seen), row["cell_id"]


def _finer(field: Field, factor: int) -> Field:
    scale = field.um_per_px
    assert scale is not None
    return replace(
        field,
        path=field.path.with_suffix(".png"),
        width_px=field.width_px * factor,
        height_px=field.height_px * factor,
        um_per_px=scale / factor,
        annotations=tuple(
            replace(item, contour_xy=(item.contour_xy + 0.5) * factor - 0.5) for item in field.annotations
        ),
    )


def test_fine_photographs_are_decoded_smaller_and_contours_stay_in_the_pixels_of_the_file(
    bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    field = read_cohort(cohort).fields[0]
    assert field.um_per_px is not None
    pixels = read_image(field.path).repeat(4, axis=0).repeat(4, axis=1)
    write_image(tmp_path / "fine.png", pixels)
    coarsest = coarsest_um_per_px(0.3, 0.3)
    image = decode_photograph(
        read_file(tmp_path / "fine.png"), "fine.png", stated_um_per_px=field.um_per_px / 4, coarsest_um_per_px=coarsest
    )
    assert image.reduce > 1
    found = find_cells(image, finder_of(bundle))
    assert len(found.kept) >= 10
    largest = max(cell.contour_xy.max() for cell in found.cells)
    assert largest > max(field.width_px, field.height_px)
    for index, contour in zip(found.kept, found.contours_xy, strict=True):
        np.testing.assert_allclose(image.from_file(found.cells[index].contour_xy), contour, atol=1e-9)


def test_a_margin_changes_neither_cells_nor_measures(bundle: Bundle, cohort: Path) -> None:
    image = simulated(cohort)
    bare, wide = (find_cells(image, finder_of(bundle, margin)) for margin in (0, MARGIN_PX))
    assert bare.crops.shape[1:] == (96, 96, 3)
    assert wide.crops.shape[1:] == (136, 136, 3)
    assert np.array_equal(wide.crops[:, INSIDE, INSIDE], bare.crops)
    assert np.array_equal(wide.masks[:, INSIDE, INSIDE], bare.masks)
    for one, other in zip(wide.cells, bare.cells, strict=True):
        assert one.morphology == pytest.approx(dict(other.morphology), nan_ok=True, rel=0, abs=0)
    assert wide.measures == bare.measures


def test_only_kept_cells_are_cut_and_measured(bundle: Bundle, cohort: Path) -> None:
    found = find_cells(simulated(cohort), finder_of(bundle))
    refused = [cell for cell in found.cells if cell.reject_reason is not None]
    assert refused
    assert all(not cell.morphology for cell in refused)
    assert [index for index, cell in enumerate(found.cells) if cell.reject_reason is None] == list(found.kept)
    assert len(found.crops) == len(found.masks) == len(found.kept)
    assert all(set(found.cells[index].morphology) == set(MORPHOLOGY_COLUMNS) for index in found.kept)


def test_without_morphology_no_mask_is_cut(bundle: Bundle, cohort: Path) -> None:
    found = find_cells(simulated(cohort), finder_of(bundle), morphology=False)
    assert found.masks.shape[0] == 0
    assert len(found.crops) == len(found.kept) > 0
    assert all(not cell.morphology for cell in found.cells)


def test_an_empty_field_has_no_cell_and_a_scale_too_coarse_is_refused(bundle: Bundle) -> None:
    blank = FieldImage(np.full((200, 300, 3), 235, dtype=np.uint8), 0.2, 300, 200, "0" * 64)
    found = find_cells(blank, finder_of(bundle))
    assert (found.cells, found.kept, len(found.crops)) == ((), (), 0)
    with pytest.raises(ScaleError, match="found 9 um per px"):
        find_cells(FieldImage(blank.pixels, 9.0, 300, 200, "0" * 64), finder_of(bundle))


def test_each_step_is_timed_by_its_name(bundle: Bundle, cohort: Path) -> None:
    steps: list[str] = []

    @contextmanager
    def lap(step: str) -> Iterator[None]:
        steps.append(step)
        yield

    find_cells(simulated(cohort), finder_of(bundle), lap=lap)
    assert steps == ["place", "segment", "contours", "judge", "field", "erythrocytes", "crop", "morphology"]
