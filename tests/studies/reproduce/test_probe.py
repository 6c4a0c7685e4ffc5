"""The probe calls what scikit-learn's logistic regression calls, and stands on what a crop shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.studies.reproduce.probe import N_FEATURES, cell_features, fit_probe, load_features
from tests.crop_sets import write_crop_set

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c", "d")], ids=["two classes", "four classes"])
def test_calls_and_probabilities_are_those_of_scikit_learn(classes: tuple[str, ...]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(1)
    labels = random.choice(classes, 300)
    centers = random.normal(size=(len(classes), 5))
    features = centers[[classes.index(label) for label in labels]] + random.normal(size=(300, 5))
    features = features * [1.0, 20.0, 0.1, 300.0, 1.0] + [0.0, 100.0, 0.0, -50.0, 2.0]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, tol=1e-8)).fit(features, labels)
    ours = fit_probe(features, labels.tolist())
    assert ours.classes == tuple(theirs.classes_)
    assert np.abs(ours.probabilities(features) - theirs.predict_proba(features)).max() < 1e-3
    assert ours.predict(features) == theirs.predict(features).tolist()
    assert ours.probabilities(features).sum(axis=1) == pytest.approx(1.0)


def test_a_column_without_spread_and_a_single_class_are_no_obstacle() -> None:
    features = np.column_stack([np.ones(6), np.arange(6.0)])
    probe = fit_probe(features, list("aaabbb"))
    assert probe.predict(features) == list("aaabbb")
    assert fit_probe(features, ["a"] * 6).predict(features) == ["a"] * 6


def test_features_of_a_painted_disc() -> None:
    y, x = np.mgrid[:64, :64]
    mask = (x - 32) ** 2 + (y - 32) ** 2 < 15**2
    crop = np.full((64, 64, 3), 255, np.uint8)
    crop[mask] = (90, 40, 130)
    values = cell_features(crop, mask)
    assert len(values) == N_FEATURES
    assert values[:6] == [90.0, 40.0, 130.0, 0.0, 0.0, 0.0]
    assert values[6] == pytest.approx(np.sqrt(mask.sum()))
    assert values[7] == pytest.approx(1.0, abs=0.15)  # circularity
    assert values[9] == pytest.approx(0.0, abs=0.05)  # elongation
    assert cell_features(crop, np.zeros_like(mask)) == [0.0] * N_FEATURES


def test_one_source_of_a_crop_set_is_read_in_its_order(tmp_path: Path) -> None:
    features, cells = load_features(write_crop_set(tmp_path / "crops", patients=2, crops_per_patient=5), "predicted")
    assert features.shape == (10, N_FEATURES)
    assert cells["source"].unique().to_list() == ["predicted"]
    probe = fit_probe(features, cells["expert_code"].to_list())
    assert probe.predict(features) == cells["expert_code"].to_list()
