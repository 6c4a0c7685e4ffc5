"""Which patients give a center its error rates."""

from __future__ import annotations

import pytest

from marrowscope.bundle.center_rates import main_specimens, measure_centers
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.quantify.threshold import StudyThreshold
from tests.patient.quantify.patients import N5, VOCABULARY, N, make_rates
from tests.patient.quantify.test_centers import SHARES
from tests.patient.quantify.test_fit_rates import outcomes

POOLED = Quantification(source="a test", rates=make_rates({N: 0.9, N5: 0.05}))


def test_a_center_that_is_not_stated_has_no_rates() -> None:
    cells = outcomes(SHARES)
    stated, _ = measure_centers(cells, dict.fromkeys(SHARES, "A"), VOCABULARY, POOLED)
    assert list(stated) == ["A"]
    for name in ("unknown", " Unknown"):
        assert measure_centers(cells, dict.fromkeys(SHARES, name), VOCABULARY, POOLED) == ({}, {})


def test_a_center_is_measured_on_patients_of_one_specimen() -> None:
    cells, center_of = outcomes(SHARES), dict.fromkeys(SHARES, "A")
    specimen_of = dict.fromkeys(SHARES, "blood") | dict.fromkeys(list(SHARES)[:3], "marrow")
    n_blood = len(SHARES) - 3
    assert n_blood > 3
    sections, files = measure_centers(cells, center_of, VOCABULARY, POOLED, specimen_of=specimen_of)
    assert (sections["A"].specimen, sections["A"].n_patients) == ("blood", n_blood)
    assert f"{n_blood} patients of this center" in files["rates/1.json"].decode()
    unstated = dict.fromkeys(SHARES, "unknown")
    assert measure_centers(cells, center_of, VOCABULARY, POOLED, specimen_of=unstated) == ({}, {})


def test_a_center_of_another_specimen_has_no_threshold() -> None:
    cells, center_of = outcomes(SHARES), dict.fromkeys(SHARES, "A")
    learned = StudyThreshold(value=0.2, n_aml=10, n_other=10, specimen="marrow")
    pooled = POOLED.model_copy(update={"threshold": learned})
    for specimen, threshold in (("marrow", learned), ("blood", None)):
        specimen_of = dict.fromkeys(SHARES, specimen)
        _, files = measure_centers(cells, center_of, VOCABULARY, pooled, specimen_of=specimen_of)
        own = Quantification.model_validate_json(files["rates/1.json"])
        assert own.threshold == threshold
    assert "learned on marrow" in own.threshold_missing


@pytest.mark.parametrize(
    ("specimens", "expected"),
    [
        (["marrow", "blood"], {"A": "marrow"}),
        (["blood", "blood", "marrow"], {"A": "blood"}),
        (["unknown", "unknown", "blood"], {"A": "blood"}),
        (["unknown"], {}),
        ([], {}),
    ],
)
def test_the_specimen_is_the_one_that_most_patients_have(specimens: list[str], expected: dict[str, str]) -> None:
    specimen_of = {str(index): name for index, name in enumerate(specimens)}
    assert main_specimens(dict.fromkeys(specimen_of, "A"), specimen_of) == expected
