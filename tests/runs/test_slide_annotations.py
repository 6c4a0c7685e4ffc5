"""A run of a slide goes out as one annotation of the whole slide, in its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cohort import read_cohort
from marrowscope.cohort.formats import format_named
from marrowscope.errors import InputError
from marrowscope.runs.to_annotations import export_run
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import circle
from tests.fake_slide_runs import HEIGHT, RADIUS_PX, WIDTH, make_slide_run

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = load_vocabulary()


@pytest.mark.parametrize("file_format", ["labelme", "coco", "geojson", "yolo", "labelstudio"])
def test_all_regions_are_in_one_file_in_pixels_of_the_slide(tmp_path: Path, file_format: str) -> None:
    made = make_slide_run(tmp_path)
    done = export_run(made.run, tmp_path / "out", file_format, VOCABULARY)
    assert (done.n_images, done.n_cells) == (1, 5)
    assert sorted(path.name for path in (tmp_path / "out/P1").glob("*.tif")) == ["slide.tif"]
    cohort = read_cohort(tmp_path / "out")
    assert cohort.faults == ()
    (field,) = (*cohort.fields, *cohort.slides)
    assert (field.width_px, field.height_px, field.exhaustive) == (WIDTH, HEIGHT, False)  # a region was not read
    right = next(item for item in field.annotations if item.contour_xy[:, 0].min() > made.regions[1].x0 + 100)
    expected = circle(made.regions[1].x0 + 150.0, 200.0, RADIUS_PX)
    np.testing.assert_allclose(right.contour_xy, expected, atol=0.01)


def test_a_slide_of_several_files_is_not_copied(tmp_path: Path) -> None:
    made = make_slide_run(tmp_path, ".dcm")
    with pytest.raises(InputError, match=r"slide.dcm: found a slide of several files, expected one file to copy"):
        export_run(made.run, tmp_path / "out", "geojson", VOCABULARY)
    export_run(made.run, tmp_path / "beside", "geojson", VOCABULARY, copy_images=False)
    assert (tmp_path / "beside/P1/slide.geojson").is_file()
    assert format_named("geojson").beside == (".geojson",)
