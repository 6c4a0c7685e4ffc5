"""The scale that ImageJ and OME state is the scale of the file; Hypothesis for what is no description."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.errors import ImageError
from marrowscope.imaging import read_header
from marrowscope.imaging.scale import metadata_scale
from marrowscope.imaging.tiff_description import described_scales, n_channels, n_planes, um_per_unit
from tests.imaging.pictures import PICTURE, saved

BLANK = np.zeros((8, 9, 3), dtype=np.uint8)


def written(**options: Any) -> bytes:  # noqa: ANN401 - tifffile's own
    stream = io.BytesIO()
    tifffile.imwrite(stream, BLANK, photometric="rgb", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("unit", "per_unit", "um_per_px"),
    [
        ("um", 6.88, 1 / 6.88),
        ("micron", 6.88, 1 / 6.88),
        ("\\u00B5m", 6.88, 1 / 6.88),
        ("nm", 0.00688, 1e-3 / 0.00688),
        ("mm", 6880, 1000 / 6880),
        ("cm", 68_800, 10_000 / 68_800),
        ("inch", 174_752, 25_400 / 174_752),
        ("pixel", 6.88, None),
        ("um", 0, None),
    ],
)
def test_scale_of_imagej_is_its_unit_over_the_resolution(unit: str, per_unit: float, um_per_px: float | None) -> None:
    data = written(imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    found = metadata_scale(data)
    assert found == (pytest.approx(um_per_px, rel=1e-3) if um_per_px else None)


@pytest.mark.parametrize(
    ("size", "unit", "um_per_px"),
    [
        (0.1453, "µm", 0.1453),
        (145.3, "nm", 0.1453),
        (0.0001453, "mm", 0.1453),
        (0.1453, "pixel", None),
        (9.0, "m", None),
    ],
)
def test_scale_of_ome_is_the_physical_size_of_a_pixel(size: float, unit: str, um_per_px: float | None) -> None:
    data = written(ome=True, metadata={"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit})
    assert metadata_scale(data) == (pytest.approx(um_per_px) if um_per_px else None)


@pytest.mark.parametrize(("unit", "um_per_px"), [(1, None), (2, 0.254), (3, 0.1)])
def test_scale_of_a_plain_tiff_is_its_resolution_in_its_unit(unit: int, um_per_px: float | None) -> None:
    assert metadata_scale(written(resolution=(100_000, 100_000), resolutionunit=unit)) == um_per_px


def test_ome_that_states_a_size_without_a_unit_means_micrometers() -> None:
    assert described_scales('<OME><Image><Pixels SizeC="3" PhysicalSizeX="0.2"/></Image></OME>', (0, 0)) == (0.2, 0.2)
    prefixed = "<OME:OME><OME:Pixels PhysicalSizeXUnit='&#181;m' PhysicalSizeX='0.2' PhysicalSizeY='0.3'/></OME:OME>"
    assert described_scales(prefixed, (5, 5)) == (0.2, 0.3)


def test_channels_and_planes_are_those_that_are_stated() -> None:
    assert (n_channels("ImageJ=1.54f\nimages=6\nchannels=3\n"), n_planes("ImageJ=1.54f\nimages=6\n")) == (3, 6)
    assert n_channels('<OME><Pixels SizeC="4" SizeX="2"/></OME>') == 4
    assert (n_channels("channels=3"), n_planes("images=6"), n_channels("ImageJ=1\nchannels=" + "9" * 5000)) == (0, 1, 0)


@given(st.text(max_size=200), st.sampled_from(["", "ImageJ=1.54f\n", "<OME><Pixels "]))
def test_any_text_is_no_description_or_one(text: str, start: str) -> None:
    assert n_channels(start + text) >= 0
    assert n_planes(start + text) >= 0
    unit = um_per_unit(text)
    assert unit is None or unit > 0


UM = 1 / 0.1453
UNEVEN = {"axes": "YXS", "PhysicalSizeX": 0.1453, "PhysicalSizeXUnit": "um", "PhysicalSizeYUnit": "nm"}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(written(ome=True, metadata=UNEVEN | {"PhysicalSizeY": 290.6}), id="OME"),
        pytest.param(written(imagej=True, resolution=(UM, UM / 2), metadata={"unit": "um"}), id="ImageJ"),
        pytest.param(written(resolution=(68_823, 34_411), resolutionunit="CENTIMETER"), id="resolution"),
        pytest.param(saved(PICTURE, "PNG", dpi=(25_400 * UM, 12_700 * UM)), id="PNG"),
    ],
)
def test_pixels_that_are_not_square_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        read_header(data, "p1/f1")
    assert str(caught.value) == (
        "p1/f1: found pixels of 0.1453 x 0.2906 um in the image's metadata, expected square pixels; correct the wrong "
        "scale, or resample the picture to square pixels"
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(written(ome=True, metadata=UNEVEN | {"PhysicalSizeY": 145.3}), id="two units of one size"),
        pytest.param(written(ome=True, metadata=UNEVEN | {"PhysicalSizeY": 150}), id="nearly square"),
        pytest.param(written(ome=True, metadata=UNEVEN | {"PhysicalSizeY": 0.145}), id="down is no microscope's"),
        pytest.param(saved(PICTURE, "PNG", dpi=(25_400 * UM, 0)), id="nothing is stated for down"),
        pytest.param(saved(PICTURE, "PNG", dpi=(25_400 * UM, 96)), id="a camera's resolution down"),
    ],
)
def test_pixels_that_may_be_square_are_read_at_the_scale_across(data: bytes) -> None:
    assert read_header(data, "f").width_px > 0
    assert metadata_scale(data) == pytest.approx(0.1453, rel=1e-6)
