"""Crops of a cohort: what is planned is what is cut, and expert = matched + missed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from marrowscope import geometry
from marrowscope.cells.crop import CropSpec, cut_crop
from marrowscope.cells.field_measures import measure_field
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS, measure
from marrowscope.cells.quality import QualityRules
from marrowscope.cohort.duplicates import image_fingerprint
from marrowscope.disk import MARKER_NAME, read_marker
from marrowscope.errors import InputError, ScaleError
from marrowscope.imaging import read_image, write_image
from marrowscope.prepare import prepare_crops, stored_side_px
from marrowscope.records import Annotation, ContourArray, Detection, Field, ImageArray, Patient
from marrowscope.segment.config import SegmenterConfig
from marrowscope.train.crop_set import CELLS_SCHEMA, FIELDS_SCHEMA, open_crop_set
from marrowscope.vocabulary import load_mappings, load_vocabulary


def circle(x: float, y: float, radius: float) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


class FixedSegmenter:
    """Finds the same contours in every image."""

    sha256 = "f" * 64
    config = SegmenterConfig()

    def __init__(self, contours: list[ContourArray]) -> None:
        self._contours = contours

    def run(self, canvas: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run nothing."""
        del canvas
        return {}

    def cells_of(self, *_: object) -> list[Detection]:
        """Give the fixed contours."""
        return [Detection(contour, (0.0, 0.0, 1.0, 1.0), 0.9) for contour in self._contours]


@pytest.fixture
def field(tmp_path: Path) -> Field:
    path = tmp_path / "a.png"
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    write_image(path, image)
    expert = (
        Annotation("N", circle(100, 100, 40), 0),
        Annotation("N5", circle(250, 100, 40), 1),
        Annotation("V", circle(300, 220, 40), 4),
    )
    return Field("P1/a", "P1", "A", path, "0" * 64, 400, 300, 0.15, annotated=True, annotations=expert)


PATIENTS = [Patient("P1", "A", "AML", "Blood")]


def test_expert_and_matched_predicted_crops_take_the_experts_code(field: Field, tmp_path: Path) -> None:
    segmenter = FixedSegmenter([circle(252, 101, 38), circle(98, 101, 41), circle(100, 230, 40), circle(4, 150, 40)])
    prepared = prepare_crops(PATIENTS, [field], tmp_path / "crops", segmenter=segmenter, rules=QualityRules())  # type: ignore[arg-type]
    assert (prepared.n_expert, prepared.n_predicted, prepared.n_missed) == (3, 2, 1)
    assert (prepared.n_unlabeled, prepared.n_rejected) == (1, 1)
    assert prepared.n_expert == prepared.n_predicted + prepared.n_missed

    cells = pl.read_parquet(prepared.folder / "cells.parquet")
    assert cells["source"].to_list() == ["expert"] * 3 + ["predicted"] * 2
    assert cells["expert_code"].to_list() == ["N", "N5", "V", "N5", "N"]
    assert cells["diagnosis"].unique().to_list() == ["AML"]
    assert cells["specimen"].unique().to_list() == ["blood"]
    assert cells["cell_id"].n_unique() == 5
    missed = pl.read_parquet(prepared.folder / "missed.parquet")
    assert missed.rows() == [("P1/a", 4, "V", False)]

    crops = np.load(prepared.folder / "crops.npy")
    masks = np.load(prepared.folder / "masks.npy")
    assert crops.shape == (5, 136, 136, 3)
    expected = cut_crop(read_image(field.path), circle(98, 101, 41), 0.15, CropSpec(), margin_px=20)
    assert np.array_equal(crops[4], expected.image)
    assert np.array_equal(masks[4], expected.mask)


@pytest.mark.parametrize("size_px", [96, 97, 128])
def test_a_crop_of_any_size_shows_the_same_square_and_holds_every_rotation(
    field: Field, tmp_path: Path, size_px: int
) -> None:
    spec = CropSpec(size_px=size_px)
    prepared = prepare_crops(PATIENTS, [field], tmp_path / "crops", spec=spec)
    side = stored_side_px(size_px)
    margin_px = (side - size_px) // 2
    assert 0 <= side - math.sqrt(2) * size_px < 2
    assert side == size_px + 2 * margin_px
    crops = np.load(prepared.folder / "crops.npy")
    assert crops.shape[1:] == (side, side, 3)
    first = cut_crop(read_image(field.path), field.annotations[0].contour_xy, 0.15, spec)
    inside = slice(margin_px, margin_px + size_px)
    assert np.array_equal(crops[0][inside, inside], first.image)
    summary = json.loads((prepared.folder / "prepare.json").read_text(encoding="utf-8"))
    assert (summary["crop"]["size_px"], summary["crop"]["side_um"], summary["stored_px"]) == (size_px, 28.8, side)


def test_every_field_with_a_crop_is_measured_as_prediction_measures_it(field: Field, tmp_path: Path) -> None:
    empty = replace(field, field_id="P1/b", annotations=())
    prepared = prepare_crops(PATIENTS, [field, empty], tmp_path / "crops")
    measured = pl.read_parquet(prepared.folder / "fields.parquet")
    assert measured.schema == pl.Schema(FIELDS_SCHEMA)
    expected = {"field_id": "P1/a", "patient_id": "P1", "center": "A"} | measure_field(read_image(field.path), 0.15)
    assert measured.to_dicts() == [expected]


@pytest.mark.parametrize("um_per_px", [0.15, 0.137])
def test_morphology_of_a_crop_is_what_prediction_measures_on_the_same_contour(
    field: Field, tmp_path: Path, um_per_px: float
) -> None:
    # 28.8 um are no whole number of pixels at 0.137 um.
    prepared = prepare_crops(PATIENTS, [replace(field, um_per_px=um_per_px)], tmp_path / "crops")
    cells = pl.read_parquet(prepared.folder / "cells.parquet")
    assert cells.schema == pl.Schema(CELLS_SCHEMA)
    contour, spec = circle(100, 100, 40), CropSpec()
    crop = cut_crop(read_image(field.path), contour, um_per_px, spec)
    row = cells.row(0, named=True)
    for name, value in measure(crop, contour, um_per_px, spec.um_per_px).items():
        assert row[name] == (None if np.isnan(value) else value), name
    assert row["area_um2"] == geometry.area(contour) * um_per_px**2
    assert row["circularity"] == geometry.circularity(contour)
    assert row["image_dhash"] == image_fingerprint(read_image(field.path))


def test_what_cannot_be_measured_is_null_and_not_nan(field: Field, tmp_path: Path) -> None:
    write_image(field.path, np.full((300, 400, 3), 200, dtype=np.uint8))  # no nucleus stands out of a gray field
    prepared = prepare_crops(PATIENTS, [field], tmp_path / "crops")
    cells = pl.read_parquet(prepared.folder / "cells.parquet")
    assert cells["nucleus_area_um2"].null_count() == cells.height
    assert cells["perimeter_um"].null_count() == 0
    assert not any(cells[name].is_nan().any() for name in MORPHOLOGY_COLUMNS)


def test_without_a_segmenter_only_expert_crops_are_cut(field: Field, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    prepared = prepare_crops(PATIENTS, [field], tmp_path / "crops", progress=lambda *step: steps.append(step))
    assert (prepared.n_expert, prepared.n_predicted, prepared.n_missed) == (3, 0, 0)
    assert steps == [(1, 1)]


def test_cohort_without_annotation_and_field_without_scale_are_refused(field: Field, tmp_path: Path) -> None:
    bare = Field("P1/a", "P1", "A", field.path, "0" * 64, 400, 300, 0.15)
    with pytest.raises(InputError, match=r"found 1 field and no annotation.*annotate the fields first"):
        prepare_crops(PATIENTS, [bare], tmp_path / "crops")
    empty = Field("P1/a", "P1", "A", field.path, "0" * 64, 400, 300, 0.15, annotated=True)
    with pytest.raises(InputError, match=r"found 1 field and no annotation"):
        prepare_crops(PATIENTS, [empty], tmp_path / "crops")
    with pytest.raises(InputError, match=r"found patient 'P1' in two cohorts, expected unique names"):
        prepare_crops([*PATIENTS, Patient("P1", "B", "control")], [field], tmp_path / "crops")
    unscaled = replace(field, um_per_px=None)
    with pytest.raises(ScaleError, match=r"found no scale.*add a um_per_px column to patients.csv or set --um-per-px"):
        prepare_crops(PATIENTS, [unscaled], tmp_path / "crops")
    assert not (tmp_path / "crops").exists()


def test_a_crop_set_takes_the_place_of_no_cohort_and_no_file(field: Field, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,center,diagnosis\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"found a cohort \(patients.csv\), expected a separate folder"):
        prepare_crops(PATIENTS, [field], tmp_path)
    with pytest.raises(InputError, match=r"patients.csv: found a file, expected a folder"):
        prepare_crops(PATIENTS, [field], tmp_path / "patients.csv")
    assert not (tmp_path / "cells.parquet").exists()


def test_a_crop_set_that_was_interrupted_does_not_look_complete(field: Field, tmp_path: Path) -> None:
    prepare_crops(PATIENTS, [field], tmp_path / "crops")
    assert (tmp_path / "crops" / "prepare.json").is_file()

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_crops(PATIENTS, [field], tmp_path / "crops", overwrite=True, progress=interrupt)
    assert not (tmp_path / "crops" / "prepare.json").exists()


def test_a_finished_crop_set_is_replaced_only_when_asked_and_an_interrupted_one_always(
    field: Field, tmp_path: Path
) -> None:
    prepare_crops(PATIENTS, [field], tmp_path / "crops")
    before = (tmp_path / "crops" / "crops.npy").stat().st_mtime_ns
    with pytest.raises(InputError, match=r"found an earlier crop set, expected a new or empty folder; add --overwrite"):
        prepare_crops(PATIENTS, [field], tmp_path / "crops")
    assert (tmp_path / "crops" / "crops.npy").stat().st_mtime_ns == before
    prepare_crops(PATIENTS, [field], tmp_path / "crops", overwrite=True)
    (tmp_path / "crops" / "prepare.json").unlink()
    prepare_crops(PATIENTS, [field], tmp_path / "crops")
    assert (tmp_path / "crops" / "prepare.json").is_file()


def test_files_of_others_in_the_folder_stop_a_crop_set(field: Field, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    (crops / "notes.txt").write_text("somebody's", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"not a marrowscope crop set.*nothing is removed. It contains notes\.txt"):
            prepare_crops(PATIENTS, [field], crops, overwrite=overwrite)
    (crops / "notes.txt").unlink()
    prepare_crops(PATIENTS, [field], crops)
    marker = read_marker(crops)
    assert marker is not None
    assert {MARKER_NAME, *marker.files} == {path.name for path in crops.iterdir()}


def test_cells_that_the_edge_cuts_are_marked_whether_found_or_missed(field: Field, tmp_path: Path) -> None:
    cut = (Annotation("N", circle(39.5, 100, 40), 0), Annotation("N5", circle(380, 100, 40), 1))
    whole = (Annotation("L", circle(200, 150, 40), 2), Annotation("L", circle(45, 250, 40), 3))
    segmenter = FixedSegmenter([circle(44, 100, 40), circle(200, 150, 40)])
    prepared = prepare_crops(
        PATIENTS,
        [replace(field, annotations=cut + whole)],
        tmp_path / "crops",
        segmenter=segmenter,  # type: ignore[arg-type]
    )
    cells = pl.read_parquet(prepared.folder / "cells.parquet")
    assert cells.select("source", "expert_code", "cut").rows() == [
        ("expert", "N", True), ("expert", "N5", True), ("expert", "L", False), ("expert", "L", False),
        ("predicted", "N", True), ("predicted", "L", False),
    ]  # fmt: skip
    missed = pl.read_parquet(prepared.folder / "missed.parquet")
    assert missed.select("shape_index", "cut").rows() == [(1, True), (3, False)]
    assert prepared.n_missed_cut == 1


def test_coarse_labels_and_the_codes_of_the_source_stand_in_the_table(field: Field, tmp_path: Path) -> None:
    blast = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"
    annotations = tuple(replace(item, code=blast if item.code == "N" else item.code) for item in field.annotations)
    coarse = replace(field, annotations=annotations, can_label=("N", "M", "J", "L", "N5", "V"))
    unmapped = replace(field, field_id="P1/b")
    mappings = load_mappings(["A=marrow-cells", "barcelona-13"])
    prepare_crops([Patient("P1", "A", "AML")], [coarse, unmapped], tmp_path / "crops", mappings=mappings)
    crop_set = open_crop_set(tmp_path / "crops", load_vocabulary())
    assert crop_set.cells["expert_code"].to_list() == [blast, "N5", "V", "N", "N5", "V"]
    assert crop_set.cells["can_label"].to_list() == ["N,M,J,L,N5,V"] * 3 + [None] * 3
    assert [(item.center, item.name) for item in crop_set.summary.mappings] == [
        (None, "barcelona-13"),
        ("A", "marrow-cells"),
    ]
    assert all(len(item.sha256) == 64 for item in crop_set.summary.mappings)
