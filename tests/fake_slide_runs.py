"""A small run of a slide without any network: the regions of its plan, circles as cells, a truth that is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.cohort.formats.geojson import write_geojson
from marrowscope.imaging import sha256_file
from marrowscope.records import Annotation, Patient
from marrowscope.runs.parquet import conform, write_table
from marrowscope.slides import SlideConfig, plan_regions
from tests.fake_runs import VOCABULARY, FakeRun, circle, state_tables, write_run
from tests.slides.pyramids import write_pyramid

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray, Region

WIDTH, HEIGHT, UM_PER_PX, RADIUS_PX = 1300, 700, 0.25, 24.0
PATIENT = Patient("P1", "A", "AML")
CALLS = {"N": ("N", True, True), "N5": ("N5", False, True)}


@dataclass
class SlideRun:
    """A cohort with one annotated slide and the run of it; ``regions`` are those of the plan, all but the last read."""

    cohort: Path
    run: Path
    regions: list[Region]
    truth: list[Annotation]


def make_slide_run(root: Path, suffix: str = ".tif", image: ImageArray | None = None) -> SlideRun:
    """Write a slide, gray or ``image``, its annotation in slide pixels and a run of all regions but the last.

    Every expert cell is found where it is, but for three: one of region 0 is missed; one lies in the region that was
    not read; the one on the seam has its expert's center in region 0, and was found in region 1, half a pixel to the
    right. One contour of region 1 is no expert cell.
    """
    folder = root / "cohort" / "P1"
    folder.mkdir(parents=True)
    slide = folder / f"slide{suffix}"
    pixels = np.full((HEIGHT, WIDTH, 3), 230, dtype=np.uint8) if image is None else image
    write_pyramid(slide, pixels, UM_PER_PX)
    (root / "cohort/patients.csv").write_text("patient_id,center,diagnosis\nP1,A,AML\n", encoding="utf-8")
    regions = plan_regions(WIDTH, HEIGHT, UM_PER_PX, SlideConfig(side_um=120))
    first, second, last = regions[0], regions[1], regions[-1]
    seam_x = first.x1 - 0.5
    places = [
        (100.0, 90.0, "N", first),
        (200.5, 210.25, "N5", first),
        (300.0, 100.0, "N5", None),
        (seam_x - 0.25, 150.0, "N", second),
        (second.x0 + 150.0, 200.0, "N5", second),
        ((last.x0 + last.x1) / 2, (last.y0 + last.y1) / 2, "N", None),
    ]
    truth = [Annotation(code, circle(x, y, RADIUS_PX), number) for number, (x, y, code, _) in enumerate(places)]
    write_geojson(folder / "slide.geojson", slide.name, WIDTH, HEIGHT, truth)
    found = [(x + 0.5 * (code == "N" and x > 200), y, code, owner) for x, y, code, owner in places if owner is not None]
    found.append((second.x0 + 60.0, 90.0, "N", second))
    run = FakeRun(root / "run", root / "cohort")
    sha256 = sha256_file(slide)
    for region in regions[:-1]:
        where = {"field_id": f"P1/slide/x{region.x0}_y{region.y0}", "patient_id": "P1"}
        cells = []
        for index, (x, y, code, owner) in enumerate(found):
            if owner is region:
                contour = circle(x, y, RADIUS_PX) - [region.x_px, region.y_px]
                category, is_cblc, is_countable = CALLS[code]
                p_category = [float(category == name) for name in VOCABULARY.categories]
                cells.append(
                    where
                    | {"cell_id": f"{index:020x}", "contour_xy": contour.ravel().tolist(), "score": 0.9}
                    | {"p_cblc": float(is_cblc), "p_countable": 1.0, "p_category": p_category, "category": category}
                    | {"is_cblc": is_cblc, "is_countable": is_countable, "contradiction": False}
                )
        run.cells += cells
        size = {"width_px": region.width_px, "height_px": region.height_px}
        place = {"region_x_px": region.x_px, "region_y_px": region.y_px, "um_per_px": UM_PER_PX}
        counts = {"status": "ok", "n_contours": len(cells), "n_cells": len(cells)}
        run.fields.append(where | size | place | counts | {"center": "A", "path": str(slide), "sha256": sha256})
    write_run(run, [PATIENT])
    plan = [
        {
            "field_id": f"P1/slide/x{region.x0}_y{region.y0}",
            "patient_id": "P1",
            "path": str(slide),
            "sha256": sha256,
            "um_per_px": UM_PER_PX,
            "region_x_px": region.x_px,
            "region_y_px": region.y_px,
            "width_px": region.width_px,
            "height_px": region.height_px,
            "core_x0_px": region.x0,
            "core_y0_px": region.y0,
            "core_x1_px": region.x1,
            "core_y1_px": region.y1,
            "place": number,
            "reason_skipped": "enough_cells" if region is last else None,
        }
        for number, region in enumerate(regions, start=1)
    ]
    write_table(run.folder / "regions.parquet", conform(pl.DataFrame(plan), "regions"), "regions")
    state_tables(run.folder)
    return SlideRun(root / "cohort", run.folder, regions, truth)
