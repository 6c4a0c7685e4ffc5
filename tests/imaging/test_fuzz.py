"""A fixed number of damaged files of every kind: a picture as another library reads it, or one sentence.

``benchmarks/fuzz_images.py`` is the same with other seeds and more of them.
"""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, read_header
from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX, metadata_scale
from tests.imaging.mutations import mutated, valid_files
from tests.imaging.second_reading import TOLERANCE, read_again

FILES = valid_files()
SEEDS = range(60)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")  # what the other library says of a damaged file
def test_valid_file_is_read_as_another_library_reads_it(name: str) -> None:
    other = read_again(FILES[name])
    assert other is not None
    assert np.abs(decode_image(FILES[name], "f").astype(int) - other).max() <= TOLERANCE


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_file_is_read_as_another_library_reads_it_or_refused(name: str) -> None:
    n_read = 0
    for seed in SEEDS:
        data = mutated(FILES[name], seed)
        scale = metadata_scale(data)
        assert scale is None or PLAUSIBLE_UM_PER_PX[0] <= scale <= PLAUSIBLE_UM_PER_PX[1], seed
        try:
            image = decode_image(data, "f")
        except ImageError as error:
            assert str(error).startswith("f: found "), seed  # noqa: PT017 - either outcome is right
            assert error.fault is not None, seed  # noqa: PT017
            continue
        n_read += 1
        header, other = read_header(data, "f"), read_again(data)
        assert image.shape == (header.height_px, header.width_px, 3), seed
        assert other is not None, f"seed {seed}: the other library refuses it"
        assert image.shape == other.shape, seed
        assert np.abs(image.astype(int) - other).max() <= TOLERANCE, seed
    assert 0 < n_read < len(SEEDS)
