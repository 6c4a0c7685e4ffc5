"""Read a slide region by region: which regions are predicted, and which of their cells are new.

Steps: open the slide; plan its regions and keep the plan with the run's parts; hand out the regions worth reading, best
first, a few at a time; take the cells found in each until the wanted number is reached. A slide that cannot be opened,
or has nothing worth reading, becomes one field with an error message.

Invariant: the cells taken depend only on the order of the regions. Some regions beyond the wanted number of cells are
predicted too; their cells are discarded.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.errors import DependencyError, ImageError, ScaleError
from marrowscope.imaging import one_image, read_file, read_header, sha256_file
from marrowscope.imaging.scale import choose_scale, metadata_scale
from marrowscope.records import Region
from marrowscope.runs.parquet import conform
from marrowscope.slides import (
    LargeImage,
    SeamMemory,
    is_slide,
    open_slide,
    plan_regions,
    rank_regions,
    read_large_file,
    to_slide,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from marrowscope.records import ContourArray, FoundField, InputImage
    from marrowscope.runs.parts import RunParts
    from marrowscope.slides import RankedRegion, Slide, SlideCache, SlideConfig

_CELLS_OF_A_SLIDE = 500
"""Default number of kept cells to read from a whole-slide image: an adequate differential."""
_CELLS_OF_A_REGION = 4
"""Cells in the poorest regions worth reading; it gives how many regions to examine for the wanted number of cells."""
_CORE = {"core_x0_px": "x0", "core_y0_px": "y0", "core_x1_px": "x1", "core_y1_px": "y1"}
_READ = {"region_x_px": "x_px", "region_y_px": "y_px", "width_px": "width_px", "height_px": "height_px"}


@dataclass(frozen=True, slots=True)
class SlidePlans:
    """What determines the plans of a run's slides: the run's parts, open slides, and how regions are chosen.

    ``cells`` is the number of kept cells to read per slide: 0 is all, None is 500 of a whole-slide image and all of a
    plain image. ``um_per_px`` is the scale of slides that do not state one.
    """

    parts: RunParts
    slides: SlideCache
    config: SlideConfig
    cells: int | None = None
    um_per_px: float | None = None


class SlideReading:
    """One slide being read: ``next_fields`` returns the regions to predict next, ``take`` keeps their cells."""

    def __init__(self, fields: Sequence[InputImage], n_wanted: int | None, um_per_px: float = 1.0) -> None:
        self._fields, self._n_wanted = tuple(fields), n_wanted
        self._left = list(fields)
        self._seams = SeamMemory(um_per_px)
        self._n_cells = self._n_taken = 0

    @property
    def n_fields(self) -> int:
        """Number of regions worth reading, including those that an earlier call predicted."""
        return len(self._fields)

    @property
    def has_enough(self) -> bool:
        """Whether the wanted number of cells is reached."""
        return self._n_wanted is not None and self._n_cells >= self._n_wanted

    @property
    def n_left(self) -> int:
        """Number of regions not taken yet."""
        return len(self._fields) - self._n_taken

    def resume(self, done: Mapping[str, int], parts: RunParts) -> None:
        """Take the cells that earlier calls found; ``done`` maps fields to their number of kept cells."""
        mine = {item.field_id: item.region for item in self._fields if item.field_id in done}
        self._left = [item for item in self._fields if item.field_id not in mine]
        self._n_cells = sum(done[field_id] for field_id in mine)
        self._n_taken = len(mine)
        if not mine or self.has_enough or len(mine) == len(self._fields):
            return
        cells = parts.read_cells(mine.keys())
        for field_id, region in mine.items():
            if field_id in cells and region is not None:
                self._seams.take([_contour(points, region) for points in cells[field_id]["contour_xy"]], region)

    def next_fields(self, n: int) -> list[InputImage]:
        """Return the next regions, at most ``n`` (all regions if all cells are wanted); none once there are enough."""
        if self.has_enough:
            return []
        n_next = len(self._left) if self._n_wanted is None else n
        fields, self._left = self._left[:n_next], self._left[n_next:]
        return fields

    def take(self, found: FoundField) -> FoundField | None:
        """Return ``found`` without the cells of earlier regions; None if there are enough cells already."""
        if self.has_enough:
            return None
        self._n_taken += 1
        region = found.source.region
        if region is not None and found.error is None:
            new = self._seams.take([to_slide(cell.contour_xy, region) for cell in found.cells], region)
            found = replace(found, cells=tuple(found.cells[index] for index in new))
        self._n_cells += found.n_kept
        return found


def read_slide(index: int, item: InputImage, plans: SlidePlans, series: set[tuple[str, str]]) -> SlideReading | None:
    """Open the slide that is image ``index`` of the input, and plan its reading; the plan is kept with the parts.

    ``series`` has the (patient, identity) of slides read so far. Returns None for another file of the same slide.
    """
    if item.problem is not None:
        return SlideReading([item], None)
    try:
        with one_image(item.path), plans.slides.slide(item.path) as slide:
            if slide.identity is not None:
                if (item.patient_id, slide.identity) in series:
                    return None
                series.add((item.patient_id, slide.identity))
            plan = plans.parts.read_regions(index)
            if plan is None:
                plan = _make_plan(item, slide, plans)
                plans.parts.write_regions(index, plan)
    except (ImageError, ScaleError, DependencyError) as error:
        return SlideReading([replace(item, problem=str(error))], None)
    to_read = plan.filter(pl.col("place").is_not_null()).sort("place")
    if to_read.is_empty():
        return SlideReading([replace(item, problem=_nothing_to_read(item, plan))], None)
    um_per_px = to_read["um_per_px"].item(0)
    fields = [
        replace(item, field_id=row["field_id"], um_per_px=um_per_px, region=_region(row), sha256=row["sha256"] or "")
        for row in to_read.iter_rows(named=True)
    ]
    # A plan without scores belongs to a slide that is read whole.
    is_whole = plan["score"].null_count() == plan.height
    return SlideReading(fields, None if is_whole else plans.cells or _CELLS_OF_A_SLIDE, um_per_px)


def slide_scale(item: InputImage, slide: Slide, default_um_per_px: float | None) -> float:
    """Scale of a slide: from its own metadata, else patients.csv, else the default.

    Raises ScaleError if there is none.
    """
    stated = metadata_scale(read_large_file(slide.path)) if isinstance(slide, LargeImage) else slide.um_per_px
    return choose_scale(item.path, stated, item.um_per_px, default_um_per_px)


def refuse_missing_scale(images: Sequence[InputImage], default_um_per_px: float | None) -> None:
    """Refuse an image without any scale, or a slide without OpenSlide, before a network is opened.

    A file is read only if its own scale decides. An unreadable file is recorded later, when its turn comes.
    """
    openslide_is_there = False
    for item in images:
        scale_is_known = default_um_per_px is not None or item.um_per_px is not None
        try:
            with one_image(item.path):
                if not is_slide(item.path):
                    if not scale_is_known:
                        data = read_file(item.path)
                        read_header(data, str(item.path))  # what is no picture is recorded when it is its turn
                        choose_scale(item.path, metadata_scale(data))
                elif not (scale_is_known and openslide_is_there):
                    with closing(open_slide(item.path)) as slide:
                        openslide_is_there = openslide_is_there or not isinstance(slide, LargeImage)
                        slide_scale(item, slide, default_um_per_px)
        except ImageError:
            continue


def _make_plan(item: InputImage, slide: Slide, plans: SlidePlans) -> pl.DataFrame:
    um_per_px = slide_scale(item, slide, plans.um_per_px)
    planned: list[RankedRegion | Region]
    n_wanted = _n_wanted(slide, plans.cells)
    if n_wanted is None:
        planned = [*plan_regions(slide.width_px, slide.height_px, um_per_px, plans.config)]
    else:
        n_judged = max(plans.config.max_judged, n_wanted // _CELLS_OF_A_REGION)
        planned = [*rank_regions(slide, plans.config.model_copy(update={"max_judged": n_judged}), um_per_px)]
    of_slide = {
        "patient_id": item.patient_id,
        "path": item.place,
        "sha256": _digest(item.path),
        "um_per_px": um_per_px,
    }
    rows = [_plan_row(item, place, region) | of_slide for place, region in enumerate(planned, start=1)]
    return conform(pl.DataFrame(rows, infer_schema_length=None), "regions")


def _digest(path: Path) -> str:
    """Hash a slide's file; raises ImageError if it can no longer be read."""
    try:
        return sha256_file(path)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); check the file's permissions"
        raise ImageError(message) from error


def _n_wanted(slide: Slide, cells: int | None) -> int | None:
    """Return the number of kept cells to read from a slide, None for all of them."""
    if cells is None:
        return None if isinstance(slide, LargeImage) else _CELLS_OF_A_SLIDE
    return cells or None


def _plan_row(item: InputImage, place: int, planned: RankedRegion | Region) -> dict[str, Any]:
    """Return a region's row of the table; a region that was not measured has no measures."""
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


def _nothing_to_read(item: InputImage, plan: pl.DataFrame) -> str:
    """Return the message that no region of a slide is worth reading, with the reasons."""
    counted = Counter(plan["reason_skipped"].to_list())
    reasons = ", ".join(f"{n} {str(reason).replace('_', ' ')}" for reason, n in counted.most_common())
    return (
        f"{item.path}: found no region worth reading among {plan.height} ({reasons}), expected parts in focus with "
        "well-spread nucleated cells; check the slide, or read all of it with --cells 0"
    )
