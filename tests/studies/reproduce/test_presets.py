from __future__ import annotations

import pytest

from marrowscope.config import validate_config
from marrowscope.errors import ConfigError
from marrowscope.simulate.parameters import load_parameters
from marrowscope.simulate.writer import plan_patient
from marrowscope.studies.reproduce import PRESETS, Preset


def test_the_paper_preset_has_the_papers_numbers_of_patients() -> None:
    paper = PRESETS["paper"]
    assert (sum(paper.internal), sum(paper.external)) == (169, 89)
    assert (paper.internal_centers, paper.external_centers) == (("S1", "S2", "S3"), ("S4", "S5", "S6"))
    assert paper.n_folds == PRESETS["quick"].n_folds == 5
    assert paper.segmenter is not None
    assert PRESETS["quick"].segmenter is None


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_trains_in_two_stages_from_expert_to_predicted_contours(preset: Preset) -> None:
    stages = preset.classifier.stages
    assert [(stage.train_on, stage.select_on) for stage in stages] == [
        ("expert", "predicted"),
        ("predicted", "predicted"),
    ]
    assert min(stage.epochs for stage in stages) >= 1


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_patient_is_drawn_once_and_in_its_center(preset: Preset) -> None:
    config, parameters = preset.simulation(), load_parameters()
    numbers = {center: preset.patient_numbers(center) for center in preset.patients_by_center}
    drawn = [number for of_center in numbers.values() for number in of_center]
    assert len(drawn) == len(set(drawn)) == sum(preset.internal) + sum(preset.external)
    assert max(drawn) < config.patients
    for center, of_center in numbers.items():
        assert {plan_patient(config, number, parameters).center for number in (of_center[0], of_center[-1])} == {center}


def test_another_seed_changes_patients_folds_and_both_trainings() -> None:
    paper = PRESETS["paper"]
    other = paper.with_seed(7)
    assert other.segmenter is not None
    assert [other.seed, other.simulation().seed, other.classifier.seed, other.segmenter.seed] == [7] * 4
    assert other.model_dump(exclude={"seed", "classifier", "segmenter"}) == paper.model_dump(
        exclude={"seed", "classifier", "segmenter"}
    )
    assert paper.with_seed(None) is paper


def test_a_center_without_patients_is_refused() -> None:
    values = {"name": "x", "internal": (2, 0), "external": (1,), "fields": 1}
    with pytest.raises(ConfigError, match=r"found centers of \(2, 0\) and \(1,\) patients, expected at least one"):
        validate_config(Preset, values, where="test")
