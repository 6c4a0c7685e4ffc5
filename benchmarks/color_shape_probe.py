"""A plain probe beside every classifier figure: logistic regression on the mean colors and the shape of a cell.

    python benchmarks/color_shape_probe.py --train TRAIN_CROPS --test TEST_CROPS [--source expert]

Crop sets come from `marrowscope prepare`. Prints, per center of the test set, CBLC weighted F1 (and what calling
every cell negative would give), positive-class F1, AUC, and 16-category weighted and macro F1, as one JSON object.
The probe is the one `marrowscope reproduce` puts beside its own figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from marrowscope.studies.reproduce.probe import fit_probe, load_features
from marrowscope.vocabulary import load_vocabulary

CBLC, OTHER = "CBLC", "other"


def run_probe(train: Path, test: Path, source: str) -> dict[str, Any]:
    """Fit on one crop set, test on another; return figures per center."""
    codes = load_vocabulary().codes
    (x_train, train_cells), (x_test, test_cells) = load_features(train, source), load_features(test, source)
    cblc_probe = fit_probe(x_train, [CBLC if codes[code].cblc else OTHER for code in train_cells["expert_code"]])
    category_probe = fit_probe(x_train, [codes[code].category for code in train_cells["expert_code"]])
    cblc_score = cblc_probe.probabilities(x_test)[:, cblc_probe.classes.index(CBLC)]
    figures: dict[str, Any] = {}
    for center in sorted(test_cells["center"].unique()):
        chosen = (test_cells["center"] == center).to_numpy()
        cells = test_cells.filter(chosen)["expert_code"]
        cblc = np.array([codes[code].cblc for code in cells])
        category = np.array([codes[code].category for code in cells])
        called = np.array(cblc_probe.predict(x_test[chosen])) == CBLC
        named = category_probe.predict(x_test[chosen])
        figures[center] = {
            "n_cells": int(chosen.sum()),
            "n_cblc": int(cblc.sum()),
            "cblc_weighted_f1": f1_score(cblc, called, average="weighted"),
            "cblc_weighted_f1_all_negative": f1_score(cblc, np.zeros_like(cblc), average="weighted"),
            "cblc_positive_f1": f1_score(cblc, called, zero_division=0.0),
            "cblc_auc": roc_auc_score(cblc, cblc_score[chosen]),
            "category_weighted_f1": f1_score(category, named, average="weighted", zero_division=0.0),
            "category_macro_f1": f1_score(
                category, named, average="macro", labels=sorted(set(category)), zero_division=0.0
            ),
        }
    return figures


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--source", choices=("expert", "predicted"), default="expert")
    arguments = parser.parse_args()
    print(json.dumps(run_probe(arguments.train, arguments.test, arguments.source), indent=2))


if __name__ == "__main__":
    main()
