"""The scale of photographs from their erythrocytes, folder by folder, for images that state none.

Steps: measure the erythrocytes of each photograph in pixels; pool those of a folder, which one microscope and camera
are taken to have made; divide the mean diameter of normal erythrocytes by their median. The interval holds the choice
of fields and cells (a bootstrap over fields, over cells where there are few fields) and what is not known about the
normal mean. It does not hold the patient's anemia: small or large erythrocytes shift the scale as much.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cells.erythrocyte_size import MIN_POOLED, NORMAL_UM, erythrocyte_diameters_px, most_common
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, one_image, read_file
from marrowscope.slides import is_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NORMAL_SD_UM = 0.13
"""Means of normal blood on smears are 7.2 to 7.7 um by source; that range is taken as a 95% interval."""
_N_DRAWS = 2000
_MIN_FIELDS = 5
"""From this many fields with erythrocytes on, fields are drawn; below, cells."""
_SEED = 0
_LEVELS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class FolderScale:
    """The scale of one folder's photographs, None with fewer than MIN_POOLED erythrocytes, with its 95% interval.

    ``unread`` has a sentence for each photograph that could not be read; slides, which state their scale, are counted.
    """

    folder: Path
    n_images: int
    n_slides: int
    n_fields: int
    n_erythrocytes: int
    diameter_px: float | None
    um_per_px: float | None
    lower: float | None
    upper: float | None
    unread: tuple[str, ...]


def estimate_scales(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> tuple[FolderScale, ...]:
    """Estimate the scale of each folder with photographs in ``paths``, in their order.

    Raises InputError as ``collect_inputs`` does: for a path that does not exist or contains no image.
    """
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    images = collect_inputs(paths).images
    for image in images:
        folders[image.path.parent].append(image.path)
    scales: list[FolderScale] = []
    n_done = 0
    for folder, files in folders.items():
        photographs = [path for path in files if not is_slide(path)]
        diameters: list[NDArray[np.float64]] = []
        unread: list[str] = []
        for path in photographs:
            try:
                with one_image(path):
                    diameters.append(erythrocyte_diameters_px(decode_image(read_file(path), str(path))))
            except ImageError as error:
                unread.append(str(error))
            n_done += 1
            if progress:
                progress(n_done, len(images))
        n_done += len(files) - len(photographs)
        scales.append(_scale_of(folder, len(photographs), len(files) - len(photographs), diameters, unread))
    return tuple(scales)


def scale_interval(diameters_px: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Return the scale (um per px) of fields with these erythrocytes, and its 95% limits; at least one is measured."""
    fields = [field for field in diameters_px if len(field)]
    rng = np.random.default_rng(_SEED)
    pooled = np.concatenate(fields)
    medians = np.empty(_N_DRAWS)
    for draw in range(_N_DRAWS):
        if len(fields) >= _MIN_FIELDS:
            drawn = np.concatenate([fields[index] for index in rng.integers(0, len(fields), len(fields))])
        else:
            drawn = rng.choice(pooled, len(pooled))
        medians[draw] = np.median(drawn)
    lower, upper = np.quantile(rng.normal(NORMAL_UM, NORMAL_SD_UM, _N_DRAWS) / medians, _LEVELS)
    return NORMAL_UM / float(np.median(pooled)), float(lower), float(upper)


def _scale_of(
    folder: Path, n_images: int, n_slides: int, diameters: Sequence[NDArray[np.float64]], unread: Sequence[str]
) -> FolderScale:
    """Pool a folder's erythrocytes: of all its fields, only those around the most common diameter count."""
    common = most_common(np.concatenate(diameters)) if diameters else np.empty(0)
    fields = [field[np.isin(field, common)] for field in diameters]
    n_fields = sum(len(field) > 0 for field in fields)
    counts = (folder, n_images, n_slides, n_fields, len(common))
    if len(common) < MIN_POOLED:
        return FolderScale(*counts, None, None, None, None, tuple(unread))
    return FolderScale(*counts, float(np.median(common)), *scale_interval(fields), tuple(unread))
