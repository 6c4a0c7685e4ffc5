"""What puts a patient out of depth: the sum over the scores, the erythrocytes alone, or a score that is missing."""

from __future__ import annotations

import pytest

from marrowscope.patient.depth import DepthScores, Domain, DomainScore, judge_depth

DOMAIN = Domain(
    measured_on="a test",
    n_patients=20,
    max_distance=4.0,
    scores={
        "sharpness": DomainScore(mean=1.0, standard_deviation=0.1, lower_limit=0.6, upper_limit=1.4, n=20),
        "middling": DomainScore(mean=0.1, standard_deviation=0.1, square_root=True, upper_limit=0.25, n=20),
    },
)


def reason(scores: DepthScores, domain: Domain | None = DOMAIN) -> str | None:
    return judge_depth(scores, domain).reason


@pytest.mark.parametrize(
    ("sharpness", "middling", "expected"),
    [
        (1.0, 0.01, None),
        (1.39, 0.0, None),  # 3.9 standard deviations; a low share subtracts nothing
        (1.41, 0.0, "depth_sharpness"),
        (0.59, 0.0, "depth_sharpness"),  # either side
        (1.0, 0.24, None),
        (1.0, 0.26, "depth_middling"),  # the root of 0.25 is 4 beyond 0.1
        (1.19, 0.0841, None),  # 1.9 + 1.9
        (1.22, 0.09, "depth_sharpness"),  # 2.2 + 2: neither alone is beyond, and the larger is named
        (1.2, 0.0961, "depth_middling"),  # 2 + 2.1
    ],
)
def test_the_sum_over_the_scores_decides_and_the_largest_is_named(
    sharpness: float, middling: float, expected: str | None
) -> None:
    assert reason(DepthScores(sharpness=sharpness, middling=middling)) == expected


def test_the_row_has_every_score_with_its_limits_and_the_distance_last() -> None:
    row = judge_depth(DepthScores(sharpness=1.2, middling=0.09, stain=3.0), DOMAIN).row()
    checks = {item.pop("score"): item for item in row["depth"]}
    assert row["fitting_um_per_px"] is None
    assert checks["sharpness"] == {"value": 1.2, "usual": 1.0, "lower_limit": 0.6, "upper_limit": 1.4}
    assert checks["middling"]["usual"] == pytest.approx(0.01)
    assert checks["stain"] == {"value": 3.0, "usual": None, "lower_limit": None, "upper_limit": None}
    assert list(checks)[-1] == "distance"
    assert checks["distance"]["value"] == pytest.approx(4.0)
    assert checks["distance"]["upper_limit"] == 4.0


def test_a_score_of_the_domain_that_is_missing_puts_out_of_depth() -> None:
    assert reason(DepthScores(sharpness=1.0)) == "depth_not_measured"
    assert reason(DepthScores()) == "depth_not_measured"


@pytest.mark.parametrize(("diameter", "beyond"), [(5.4, True), (5.5, False), (9.5, False), (9.6, True), (None, False)])
@pytest.mark.parametrize("domain", [DOMAIN, None])
def test_erythrocytes_of_a_wrong_size_come_before_everything_and_name_the_scale(
    diameter: float | None, domain: Domain | None, *, beyond: bool
) -> None:
    far = DepthScores(sharpness=9.0, middling=0.9, erythrocyte_diameter_um=diameter, fitting_um_per_px=0.2)
    found = judge_depth(far, domain)
    if beyond:
        assert found.reason == "depth_erythrocyte_diameter_um"
        assert found.row()["fitting_um_per_px"] == 0.2
    else:
        assert found.reason == ("depth_sharpness" if domain else None)
        assert found.row()["fitting_um_per_px"] is None


def test_a_domain_of_before_has_no_allowance_for_few_cells() -> None:
    score = DomainScore(mean=0.1, standard_deviation=0.1, square_root=True, upper_limit=0.25, n=20)
    assert score.beyond(0.16, 0.03) == score.beyond(0.16) == pytest.approx(3.0)
    allowing = score.model_copy(update={"sampling_variance": 0.0})
    assert allowing.beyond(0.16, 0.03) == pytest.approx(1.5)


def test_without_a_domain_nothing_but_the_scale_is_judged() -> None:
    found = judge_depth(DepthScores(sharpness=9.0, middling=0.9), None)
    assert found.reason is None
    limited = [item["score"] for item in found.row()["depth"] if item["upper_limit"] is not None]
    assert limited == ["erythrocyte_diameter_um"]


def test_a_score_that_nobody_knows_is_refused() -> None:
    score = DOMAIN.scores["sharpness"]
    for name in ("smell", "erythrocyte_diameter_um"):
        with pytest.raises(ValueError, match=f"found the scores {name}, expected only stain, background"):
            Domain(measured_on="a test", n_patients=1, max_distance=1.0, scores={name: score})
