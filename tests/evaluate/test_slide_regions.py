"""A run of a slide, region by region, against an annotation of the whole slide: every figure is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.evaluate import EvaluateConfig, evaluate_run
from marrowscope.evaluate.slide_regions import split_slides
from marrowscope.runs.checked_rows import CheckedRows
from marrowscope.runs.parquet import read_table
from marrowscope.vocabulary import load_vocabulary
from tests.fake_slide_runs import SlideRun, make_slide_run

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.evaluate.evaluation import Evaluation

VOCABULARY = load_vocabulary()


@pytest.fixture
def made(tmp_path: Path) -> SlideRun:
    return make_slide_run(tmp_path)


def evaluated(made: SlideRun) -> Evaluation:
    cohort = read_cohort(made.cohort, decode=False)
    assert not cohort.loses_data
    expert = (*cohort.fields, *cohort.slides)
    return evaluate_run(made.run, cohort.patients, expert, VOCABULARY, config=EvaluateConfig(n_resamples=0))


def test_regions_are_compared_with_the_slides_annotation(made: SlideRun) -> None:
    linked = evaluated(made).linked
    expert = linked.expert.sort("shape_index")
    assert expert["shape_index"].to_list() == [0, 1, 2, 3, 4]  # 5 lies in the region that was not read
    assert linked.n_cells_outside_regions == 1
    assert expert["found"].to_list() == [True, True, False, True, True]
    assert expert["cut"].to_list() == [False] * 5
    # The outline on the seam belongs to the region that found it, half a pixel to the right of the expert's.
    names = [f"P1/slide/x{region.x0}_y{region.y0}" for region in made.regions]
    assert expert["field_id"].to_list() == [names[0], names[0], names[0], names[1], names[1]]
    assert expert["iou"].drop_nulls().to_list() == pytest.approx([1, 1, 0.973, 1], abs=0.01)
    detections = linked.detections
    assert (len(detections), int(detections["matched"].sum()), int(detections["ignored"].sum())) == (5, 4, 0)
    assert (linked.n_fields_only_in_run, linked.n_fields_only_in_cohort) == (0, 0)


def test_the_figures_of_a_slide_are_exact(made: SlideRun) -> None:
    (center,) = evaluated(made).centers
    assert center.figure("detection_recall").value.estimate == pytest.approx(4 / 5)
    assert center.figure("detection_precision").value.estimate == pytest.approx(4 / 5)
    ratios = evaluated(made).linked.ratios.row(0, named=True)
    assert (ratios["n_true_countable"], ratios["n_true_cblc"]) == (5, 2)
    assert (ratios["n_predicted_countable"], ratios["n_predicted_cblc"]) == (5, 3)


def test_without_its_plan_a_region_owns_what_it_shows(made: SlideRun) -> None:
    cohort = read_cohort(made.cohort, decode=False)
    fields, cells = read_table(made.run / "fields.parquet", "fields"), read_table(made.run / "cells.parquet", "cells")
    split, n_outside = split_slides((*cohort.fields, *cohort.slides), fields, CheckedRows.of(cells), None, 0.5)
    assert n_outside <= 1
    assert sum(len(field.annotations) for field in split) == len(made.truth) - n_outside


def test_photographs_stay_as_they_are(made: SlideRun) -> None:
    cohort = read_cohort(made.cohort, decode=False)
    fields, cells = read_table(made.run / "fields.parquet", "fields"), read_table(made.run / "cells.parquet", "cells")
    others = fields.with_columns(field_id=pl.lit("P1/other/") + pl.col("field_id"))
    split, n_outside = split_slides(cohort.fields, others, CheckedRows.of(cells), None, 0.5)
    assert (split, n_outside) == (list(cohort.fields), 0)


def test_annotations_are_shifted_into_their_regions(made: SlideRun) -> None:
    cohort = read_cohort(made.cohort, decode=False)
    fields, cells = read_table(made.run / "fields.parquet", "fields"), read_table(made.run / "cells.parquet", "cells")
    regions = read_table(made.run / "regions.parquet", "regions")
    split, _ = split_slides((*cohort.fields, *cohort.slides), fields, CheckedRows.of(cells), regions, 0.5)
    region = made.regions[1]
    (field,) = [item for item in split if item.field_id == f"P1/slide/x{region.x0}_y{region.y0}"]
    assert (field.width_px, field.height_px) == (region.width_px, region.height_px)
    back = {item.shape_index: item.contour_xy + np.array([region.x_px, region.y_px]) for item in field.annotations}
    assert set(back) == {3, 4}
    for index, contour in back.items():
        np.testing.assert_allclose(contour, made.truth[index].contour_xy, atol=1e-9)


def test_a_whole_slide_image_is_compared_and_is_no_photograph(tmp_path: Path) -> None:
    made = make_slide_run(tmp_path, ".svs")
    cohort = read_cohort(made.cohort)
    assert (cohort.fields, len(cohort.slides), len(cohort.patients)) == ((), 1, 1)
    assert (cohort.counts.images.n_in, cohort.counts.images.n_out, cohort.counts.shapes.n_out) == (1, 1, 6)
    assert evaluated(made).linked.expert["found"].sum() == 4
