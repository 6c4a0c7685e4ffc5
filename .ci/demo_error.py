"""Fail where the demonstration's simulated patients are too few, too small or too far from the truth.

python .ci/demo_error.py demo.json    # what `marrowscope demo --json` printed
"""

import json
import sys
from pathlib import Path

_PATIENTS = 6
_LARGEST_MEAN_ERROR = 0.12
_FEWEST_CELLS = 150

patients = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["patients"]
error = sum(abs(patient["ratio"] - patient["true_ratio"]) for patient in patients) / len(patients)
fewest = min(patient["true_n_countable"] for patient in patients)
print(f"{len(patients)} simulated patients, at least {fewest} countable cells, mean error of the ratio {error:.3f}")
sys.exit(len(patients) != _PATIENTS or fewest < _FEWEST_CELLS or error >= _LARGEST_MEAN_ERROR)
