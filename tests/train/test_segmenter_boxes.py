"""Box sets as labeled fields: the scale from erythrocytes, and every fault named."""

from pathlib import Path

import numpy as np
import pytest

from marrowscope.errors import ConfigError
from marrowscope.imaging import write_image
from marrowscope.train.segmenter_boxes import box_fields


def test_box_set_takes_its_scale_from_erythrocytes(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    write_image(tmp_path / "images" / "train" / "a.png", np.zeros((200, 400, 3), np.uint8))
    label = "0 0.5 0.5 0.25 0.4\n1 0.25 0.5 0.0875 0.175\n1 0.0 0.5 0.5 0.5\n2 0.7 0.5 0.01 0.02\n"
    (tmp_path / "labels" / "train" / "a.txt").write_text(label, encoding="utf-8")
    (field,) = box_fields(tmp_path)
    assert field.um_per_px == pytest.approx(7.7 / 35)
    (contour,) = field.contours_xy
    np.testing.assert_allclose([contour.min(0), contour.max(0)], [[149.5, 59.5], [249.5, 139.5]], atol=0.01)


def test_box_set_without_erythrocytes_is_refused(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    write_image(tmp_path / "images" / "a.png", np.zeros((20, 40, 3), np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.4\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="found no whole erythrocyte box among the images of 40 x 20 px"):
        box_fields(tmp_path)


@pytest.mark.parametrize(
    ("label", "found"), [("0 0.5 0.5\n", "3 columns"), ("0 0.5 wide 0.2 0.1\n", "could not convert")]
)
def test_box_file_that_is_no_table_of_boxes_is_named(tmp_path: Path, label: str, found: str) -> None:
    with pytest.raises(ConfigError, match="found no image with a label file"):
        box_fields(tmp_path)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    write_image(tmp_path / "images" / "a.png", np.zeros((20, 40, 3), np.uint8))
    (tmp_path / "labels" / "a.txt").write_text(label, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"a\.txt: found {found}.*expected rows of class, center and size"):
        box_fields(tmp_path)
