"""How much of each annotated outline is straight along its bounding box (train/boxy_outlines.py), as one JSON object.

    python benchmarks/boxy_outlines.py COHORT [COHORT ...] [--max-box-share 0.3]

A circle has 0.14. Contours that a network drew and outlines drawn by hand are listed apart.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from marrowscope.cohort import read_cohort
from marrowscope.train.boxy_outlines import box_share
from marrowscope.vocabulary import load_vocabulary


def shares_of(source: Path) -> dict[str, list[float]]:
    """Measure every contour of a cohort, by who drew it."""
    shares: dict[str, list[float]] = defaultdict(list)
    for field in read_cohort(source, vocabulary=load_vocabulary()).fields:
        for item in field.annotations:
            name = "network" if item.network_contour else "drawn"
            shares[name].append(box_share(item.contour_xy, field.um_per_px or 0.3))
    return shares


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--max-box-share", type=float, default=0.3)
    arguments = parser.parse_args()
    figures = {}
    for source in arguments.sources:
        for name, shares in sorted(shares_of(source).items()):
            figures[f"{source.name}, {name}"] = {
                "n": len(shares),
                "mean": float(np.mean(shares)),
                "median": float(np.median(shares)),
                "over_limit": float(np.mean(np.array(shares) > arguments.max_box_share)),
            }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
