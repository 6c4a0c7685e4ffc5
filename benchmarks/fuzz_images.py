"""Damaged image files of every kind: read as another library reads them, or refused in one sentence.

    python benchmarks/fuzz_images.py [--seeds 200] [--first 1000] [--only tiff]

Small valid files of every way a picture is stored are cut, overwritten, doubled in parts, and changed in the fields of
their headers; seed and kind give a file again (`tests.imaging.mutations`). What ours reads is compared with another
library: tifffile (LZW and JPEG strips decompressed by the test's own code and Pillow) for TIFF, Pillow for the rest.
A file that ours reads and the other library does not is counted as wrong. Exits with 1 for a traceback or a wrong
picture.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image
from tests.imaging.mutations import mutated, valid_files
from tests.imaging.second_reading import TOLERANCE, read_again

COLUMNS = ("tried", "read equal", "refused", "traceback", "wrong silently")


def main() -> None:
    """Mutate, read twice, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="damaged files of each kind")
    parser.add_argument("--first", type=int, default=1000, help="first seed; the test suite takes 0 to 59")
    parser.add_argument("--only", default="", help="kinds whose name begins so")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(", ".join(f"{name} {version(name)}" for name in ("opencv-python-headless", "pillow", "tifffile", "numpy")))
    print(f"seeds {given.first} to {given.first + given.seeds - 1} of each kind\n")
    print(f"{'kind':20}" + "".join(f"{column:>16}" for column in COLUMNS))
    start, total = time.perf_counter(), Counter[str]()
    for name, data in valid_files().items():
        if not name.startswith(given.only):
            continue
        counts = Counter[str]()
        for seed in range(given.first, given.first + given.seeds):
            outcome = judge(mutated(data, seed))
            counts.update(["tried", outcome])
            if outcome in COLUMNS[3:]:
                print(f"{name}, seed {seed}: {outcome}")
        print(f"{name:20}" + "".join(f"{counts[column]:>16}" for column in COLUMNS))
        total += counts
    print(f"{'all':20}" + "".join(f"{total[column]:>16}" for column in COLUMNS))
    print(f"{time.perf_counter() - start:.0f} s")
    if total["traceback"] or total["wrong silently"]:
        sys.exit(1)


def judge(data: bytes) -> str:
    """Read a file by ours and by the other library; gives the column it counts in."""
    try:
        image = decode_image(data, "f")
    except ImageError:
        return "refused"
    except Exception:  # noqa: BLE001 - whatever it is, it is counted
        return "traceback"
    other = read_again(data)
    is_equal = other is not None and other.shape == image.shape
    is_equal = is_equal and int(np.abs(image.astype(int) - other).max()) <= TOLERANCE
    return "read equal" if is_equal else "wrong silently"


if __name__ == "__main__":
    main()
