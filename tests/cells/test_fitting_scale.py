"""The scale of folders from their erythrocytes: known disks, several folders, nothing to measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cells.fitting_scale import estimate_scales, scale_interval
from marrowscope.errors import InputError
from marrowscope.imaging import write_image
from tests.cells.test_erythrocyte_size import field

if TYPE_CHECKING:
    from pathlib import Path


def test_each_folder_has_its_own_scale(tmp_path: Path) -> None:
    for name, diameter in (("a", 50.0), ("b", 25.0)):
        (tmp_path / name).mkdir()
        for number in range(2):
            write_image(tmp_path / name / f"{number}.png", field(diameter, n=60 + number))
    coarse, fine = estimate_scales([tmp_path / "b", tmp_path / "a"])
    assert (coarse.folder.name, fine.folder.name) == ("b", "a")
    assert coarse.um_per_px == pytest.approx(0.30, rel=0.04)
    assert fine.um_per_px == pytest.approx(0.15, rel=0.04)
    assert fine.n_images == fine.n_fields == 2
    assert fine.lower is not None
    assert fine.upper is not None
    assert fine.lower < 0.15 < fine.upper


def test_without_erythrocytes_there_is_no_scale(tmp_path: Path) -> None:
    write_image(tmp_path / "empty.png", np.full((300, 400, 3), 230, dtype=np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (found,) = estimate_scales([tmp_path])
    assert (found.n_erythrocytes, found.diameter_px, found.um_per_px, found.lower, found.upper) == (0, *[None] * 4)
    assert len(found.unread) == 1
    assert "broken.png" in found.unread[0]


def test_no_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no image"):
        estimate_scales([tmp_path])


def test_the_interval_holds_what_is_not_known_about_the_normal_mean() -> None:
    exact = [np.full(200, 50.0)] * 10
    scale, lower, upper = scale_interval(exact)
    assert scale == pytest.approx(0.15)
    assert (lower, upper) == pytest.approx((7.5 / 50 - 1.96 * 0.13 / 50, 7.5 / 50 + 1.96 * 0.13 / 50), rel=0.005)


def test_the_interval_is_wider_where_fields_differ() -> None:
    rng = np.random.default_rng(0)
    fields = [rng.normal(rng.normal(50, 5), 3, 20) for _ in range(12)]
    alike = [rng.permutation(np.concatenate(fields))[:20] for _ in range(12)]
    _, lower, upper = scale_interval(fields)
    _, lower_alike, upper_alike = scale_interval(alike)
    assert upper - lower > 1.2 * (upper_alike - lower_alike)
