"""What the engine is given, one field after the other: photographs as they are, slides region by region.

Steps for a slide: open it; make the plan of its regions, which is kept with the run's parts; give the regions worth
reading, the best first, until those that are predicted hold the wanted number of cells. A slide that cannot be opened,
or has nothing worth reading, is one field with a sentence that says so.

Invariant: what is given and what is accepted follows from the order of the fields alone. The engine is a few fields
ahead of what is finished; what it predicted of a slide that has its cells already is refused.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.cohort.images import metadata_scale
from marrowscope.errors import DependencyError, ImageError, ScaleError
from marrowscope.imaging import read_header, sha256_file
from marrowscope.patient.flags import field_flags
from marrowscope.records import Region
from marrowscope.runs.tables import conform
from marrowscope.slides import LargeImage, SeamMemory, is_slide, open_slide, plan_regions, rank_regions, to_slide
from marrowscope.streaming.photograph import scale_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from marrowscope.cohort.inputs import InputImage
    from marrowscope.patient.flags import FlagRules
    from marrowscope.records import ContourArray
    from marrowscope.runs.parts import RunParts
    from marrowscope.slides import RankedRegion, Slide, SlideCache, SlideConfig
    from marrowscope.streaming.rows import FieldRows
    from marrowscope.streaming.worker import PredictConfig

CELLS_OF_A_SLIDE = 500
"""Kept cells of a whole-slide image that are read unless another number is asked for: an adequate differential."""
_CELLS_OF_A_REGION = 4
"""So few are in the poorest regions worth reading: that many regions are looked at for the wanted number of cells."""
_CORE = {"core_x0_px": "x0", "core_y0_px": "y0", "core_x1_px": "x1", "core_y1_px": "y1"}
_READ = {"region_x_px": "x_px", "region_y_px": "y_px", "width_px": "width_px", "height_px": "height_px"}


@dataclass(slots=True)
class _Reading:
    """A slide that is being read: how many cells are wanted (None is all), and what was found."""

    n_wanted: int | None
    seams: SeamMemory
    n_cells: int = 0

    @property
    def has_enough(self) -> bool:
        return self.n_wanted is not None and self.n_cells >= self.n_wanted


class FieldSource:
    """The fields of ``images`` that ``parts`` does not hold yet, in order; iterate it once."""

    def __init__(
        self,
        images: Sequence[InputImage],
        slides: SlideCache,
        parts: RunParts,
        *,
        config: PredictConfig,
        slide_config: SlideConfig,
        flag_rules: FlagRules,
    ) -> None:
        self._images, self._slides, self._parts = images, slides, parts
        self._config, self._slide_config, self._flag_rules = config, slide_config, flag_rules
        self._done = parts.n_cells_by_field()
        self._under_way: dict[str, tuple[_Reading, Region]] = {}  # by field
        self._series: set[tuple[str, str]] = set()
        self.n_done = len(self._done)
        self.n_expected = len(images)

    def __iter__(self) -> Iterator[InputImage]:
        """Give the fields; slides are opened and planned when it is their turn."""
        for index, item in enumerate(self._images):
            if is_slide(item.path):
                yield from self._fields_of_slide(index, item)
            elif item.field_id not in self._done:
                yield item

    def accept(self, rows: FieldRows) -> bool:
        """Take the rows of a field that was given, in that order; says whether they belong to the run.

        Of a region, cells that an earlier region gave are dropped, and its counts set right. A region of a slide that
        has its cells already is refused.
        """
        if (under_way := self._under_way.pop(rows.row["field_id"], None)) is not None:
            reading, region = under_way
            if reading.has_enough:
                return False
            contours = [_contour(cell["contour_xy"], region) for cell in rows.cells]
            _keep(rows, reading.seams.take(contours, region), self._flag_rules)
            reading.n_cells += rows.row["n_cells"]
        self.n_done += 1
        return True

    def _fields_of_slide(self, index: int, item: InputImage) -> Iterator[InputImage]:
        if item.field_id in self._done:  # recorded as unreadable by an earlier call
            return
        plan = self._plan(index, item)
        if isinstance(plan, str):
            yield replace(item, problem=plan)
            return
        if plan is None:
            self.n_expected -= 1
            return
        to_read = plan.filter(pl.col("place").is_not_null()).sort("place")
        if to_read.is_empty():
            yield replace(item, problem=_nothing_to_read(item, plan))
            return
        um_per_px, n_wanted = to_read["um_per_px"].item(0), self._wanted_of(plan)
        reading = _Reading(n_wanted, SeamMemory(um_per_px))
        rows = [(row, _region(row)) for row in to_read.iter_rows(named=True)]
        self._go_on(reading, rows)
        self.n_expected += len(rows) - 1
        for n_given, (row, region) in enumerate(rows):
            if reading.has_enough:
                self.n_expected -= len(rows) - n_given
                break
            if row["field_id"] not in self._done:
                self._under_way[row["field_id"]] = reading, region
                yield replace(
                    item, field_id=row["field_id"], um_per_px=um_per_px, region=region, sha256=row["sha256"] or ""
                )

    def _plan(self, index: int, item: InputImage) -> pl.DataFrame | str | None:
        """Give the table of a slide's regions, kept from an earlier call or made now.

        Where the slide cannot be read it is a sentence, and for a further file of a slide that was read already None.
        """
        try:
            with self._slides.slide(item.path) as slide:
                if slide.identity is not None:
                    series = (item.patient_id, slide.identity)
                    if series in self._series:
                        return None
                    self._series.add(series)
                plan = self._parts.read_regions(index)
                if plan is None:
                    plan = self._make_plan(item, slide)
                    self._parts.write_regions(index, plan)
                return plan
        except (ImageError, ScaleError, DependencyError) as error:
            return str(error)
        except MemoryError:
            return f"{item.path}: found too little memory, expected room for its pixels; save it as a pyramidal TIFF"

    def _make_plan(self, item: InputImage, slide: Slide) -> pl.DataFrame:
        um_per_px = slide_scale(item, slide, self._config)
        planned: list[RankedRegion | Region]
        n_wanted = _n_wanted(slide, self._config)
        if n_wanted is None:
            planned = [*plan_regions(slide.width_px, slide.height_px, um_per_px, self._slide_config)]
        else:
            n_judged = max(self._slide_config.max_judged, n_wanted // _CELLS_OF_A_REGION)
            config = self._slide_config.model_copy(update={"max_judged": n_judged})
            planned = [*rank_regions(slide, config, um_per_px)]
        of_slide = {
            "patient_id": item.patient_id,
            "path": str(item.path),
            "sha256": _digest(item.path),
            "um_per_px": um_per_px,
        }
        rows = [_plan_row(item, place, region) | of_slide for place, region in enumerate(planned, start=1)]
        return conform(pl.DataFrame(rows, infer_schema_length=None), "regions")

    def _wanted_of(self, plan: pl.DataFrame) -> int | None:
        """Give the number of cells to stop at: a plan without scores is of a slide that is read whole."""
        if plan["score"].null_count() == plan.height:
            return None
        return self._config.cells or CELLS_OF_A_SLIDE

    def _go_on(self, reading: _Reading, rows: Sequence[tuple[dict[str, Any], Region]]) -> None:
        """Take what earlier calls found in the slide as if it had been accepted now."""
        done = {row["field_id"]: region for row, region in rows if row["field_id"] in self._done}
        reading.n_cells = sum(self._done[field_id] for field_id in done)
        if not done or reading.has_enough or len(done) == len(rows):
            return
        cells = self._parts.read_cells(done.keys())
        for field_id, region in done.items():
            if field_id in cells:
                reading.seams.take([_contour(points, region) for points in cells[field_id]["contour_xy"]], region)


def slide_scale(item: InputImage, slide: Slide, config: PredictConfig) -> float:
    """Scale of a slide: what it states itself, else patients.csv, else the configuration's default.

    Raises ScaleError where none of them states one.
    """
    stated = metadata_scale(slide.path.read_bytes()) if isinstance(slide, LargeImage) else slide.um_per_px
    return scale_of(item, stated, config.um_per_px)


def refuse_missing_scale(images: Sequence[InputImage], config: PredictConfig) -> None:
    """Refuse an image without any scale, and a slide without OpenSlide, before a network is opened.

    A file is read for it only where its own scale decides; what cannot be read is recorded when it is its turn.
    """
    openslide_is_there = False
    for item in images:
        scale_is_known = config.um_per_px is not None or item.um_per_px is not None
        try:
            if is_slide(item.path):
                if not (scale_is_known and openslide_is_there):
                    with closing(open_slide(item.path)) as slide:
                        openslide_is_there = openslide_is_there or not isinstance(slide, LargeImage)
                        slide_scale(item, slide, config)
            elif not scale_is_known:
                data = item.path.read_bytes()
                read_header(data, str(item.path))  # what is no picture is recorded when it is its turn
                scale_of(item, metadata_scale(data), config.um_per_px)
        except (ImageError, OSError):
            continue


def _digest(path: Path) -> str:
    """Hash a slide's file; ImageError where it can no longer be read."""
    try:
        return sha256_file(path)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); check the file's permissions"
        raise ImageError(message) from error


def _n_wanted(slide: Slide, config: PredictConfig) -> int | None:
    """Give the number of kept cells to read of a slide, None for all of them."""
    if config.cells is None:
        return None if isinstance(slide, LargeImage) else CELLS_OF_A_SLIDE
    return config.cells or None


def _plan_row(item: InputImage, place: int, planned: RankedRegion | Region) -> dict[str, Any]:
    """Give a region's row of the table; a region that is read without having been measured has none of the measures."""
    region = planned if isinstance(planned, Region) else planned.region
    row: dict[str, Any] = {"field_id": f"{item.field_id}/x{region.x0}_y{region.y0}", "place": place}
    row |= {column: getattr(region, name) for column, name in (_READ | _CORE).items()}
    if isinstance(planned, Region):
        return row
    measures = asdict(planned)
    del measures["region"]
    if planned.sharpness is not None and np.isnan(planned.sharpness):
        measures["sharpness"] = None
    return row | measures | ({"place": None} if planned.reason_skipped else {})


def _region(row: dict[str, Any]) -> Region:
    return Region(**{name: row[column] for column, name in (_READ | _CORE).items()})


def _contour(points: Sequence[float], region: Region) -> ContourArray:
    return to_slide(np.asarray(points, dtype=np.float64).reshape(-1, 2), region)


def _keep(rows: FieldRows, kept: Collection[int], flag_rules: FlagRules) -> None:
    """Keep some of a region's cells, by position, and count the row anew."""
    if len(kept) == len(rows.cells):
        return
    rows.cells = [rows.cells[index] for index in kept]
    rows.n_parts = [rows.n_parts[index] for index in kept]
    counted = Counter(cell["reject_reason"] for cell in rows.cells)
    rows.row |= {
        "n_contours": len(rows.cells),
        **{f"n_rejected_{reason}": counted[reason] for reason in REJECT_REASONS},
        "n_split": sum(n > 1 for n in rows.n_parts),
        "n_cells": counted[None],
    }
    rows.row |= {"flags": field_flags(rows.row, flag_rules)}


def _nothing_to_read(item: InputImage, plan: pl.DataFrame) -> str:
    """Say why no region of a slide is worth reading."""
    counted = Counter(plan["reason_skipped"].to_list())
    reasons = ", ".join(f"{n} {str(reason).replace('_', ' ')}" for reason, n in counted.most_common())
    return (
        f"{item.path}: found no region worth reading among {plan.height} ({reasons}), expected parts in focus with "
        "well spread nucleated cells; look at the slide, or read all of it with --cells 0"
    )
