"""The field's way to the network's grid and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.errors import ScaleError
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.letterbox import Letterbox, letterbox

CONFIG = SegmenterConfig(um_per_px=0.3)


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    um_per_px=st.floats(0.05, 1.2),
    x=st.floats(-0.5, 400),
    y=st.floats(-0.5, 400),
)
def test_points_return_to_where_they_were(width: int, height: int, um_per_px: float, x: float, y: float) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    canvas, transform = letterbox(image, um_per_px, CONFIG)
    assert canvas.shape[1] % 32 == canvas.shape[2] % 32 == 0
    assert transform.height_px <= canvas.shape[1] < transform.height_px + 32
    assert transform.width_px <= canvas.shape[2] < transform.width_px + 32
    points = np.array([[x, y]])
    np.testing.assert_allclose(transform.to_field(transform.to_canvas(points)), points, atol=1e-9)


def test_a_blob_is_where_the_transform_says() -> None:
    """The center of mass of a drawn disc, measured on the canvas, is the mapped center of the disc."""
    y, x = np.mgrid[:300, :400]
    image = np.where(np.hypot(x - 151.0, y - 96.5) < 40, 0, 255).astype(np.uint8)
    canvas, transform = letterbox(np.repeat(image[..., None], 3, axis=2), 0.12, CONFIG)
    darkness = 1 - canvas[0, : transform.height_px, : transform.width_px, 0] / 255
    rows, columns = np.mgrid[: transform.height_px, : transform.width_px]
    found = np.array([(darkness * columns).sum(), (darkness * rows).sum()]) / darkness.sum()
    np.testing.assert_allclose(found, transform.to_canvas(np.array([[151.0, 96.5]]))[0], atol=0.02)


def test_padding_is_gray_and_colors_keep_their_order() -> None:
    image = np.zeros((20, 50, 3), dtype=np.uint8)
    image[..., 0] = 255
    canvas, _ = letterbox(image, 0.3, CONFIG)
    assert canvas.shape == (1, 32, 64, 3)
    assert canvas[0, 10, 10].tolist() == [255, 0, 0]
    assert canvas[0, 31, 63].tolist() == [114] * 3


def test_corners_of_the_image_map_to_corners_of_the_canvas() -> None:
    transform = Letterbox(factor_x=0.5, factor_y=0.25, width_px=50, height_px=20)
    np.testing.assert_allclose(
        transform.to_canvas(np.array([[-0.5, -0.5], [99.5, 79.5]])), [[-0.5, -0.5], [49.5, 19.5]]
    )


@pytest.mark.parametrize("um_per_px", [0.0, -0.1, float("nan"), float("inf"), 5.0])
def test_a_scale_without_sense_is_refused(um_per_px: float) -> None:
    with pytest.raises(ScaleError, match=r"expected more than 0 and at most 1\.2; check the image's scale"):
        letterbox(np.zeros((10, 10, 3), dtype=np.uint8), um_per_px, CONFIG)
