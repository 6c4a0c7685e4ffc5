"""The limit of the domain: one in twenty of further patients at most, whatever the shape of their scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from marrowscope.patient.depth import DepthScores, fit_domain, judge_depth
from marrowscope.patient.depth.domain_limit import FEWEST_PATIENTS


def draw(rng: np.random.Generator, n: int, stain: float | None = None) -> list[DepthScores]:
    """Give patients whose shares are skewed, as those of real runs are."""
    return [
        DepthScores(
            background=rng.normal(0.87, 0.04),
            sharpness=rng.normal(1.1, 0.1),
            contradictions=float(rng.beta(0.3, 40)),
            middling=float(rng.beta(0.8, 30)),
            uncertainty=float(rng.beta(4, 30)),
            stain=stain,
        )
        for _ in range(n)
    ]


def test_at_most_one_in_twenty_of_further_patients_is_withheld() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(200):
        domain = fit_domain(draw(rng, FEWEST_PATIENTS), "a test")
        further = draw(rng, 20)
        shares.append(np.mean([judge_depth(scores, domain).reason is not None for scores in further]))
    # The farthest of 20 is any of them; those left out lie a little farther out than further ones.
    assert 0.02 < np.mean(shares) < 0.05
    assert np.std(shares) / np.sqrt(len(shares)) < 0.006


def test_patients_unlike_the_known_ones_are_withheld() -> None:
    rng = np.random.default_rng(4)
    domain = fit_domain(draw(rng, 60), "a test")
    for known, far in zip(draw(rng, 40), draw(rng, 40), strict=True):
        odd = DepthScores(**{name: getattr(far, name) for name in ("background", "sharpness", "uncertainty")},
                          contradictions=0.2, middling=0.4)  # fmt: skip
        assert judge_depth(odd, domain).reason in {"depth_contradictions", "depth_middling"}, known


def test_a_score_at_its_limit_has_the_whole_distance() -> None:
    domain = fit_domain(draw(np.random.default_rng(5), 40), "a test")
    for name, score in domain.scores.items():
        assert score.n == 40
        for limit in (score.lower_limit, score.upper_limit):
            if limit is not None and limit != 1.0:  # a share ends at 1
                assert score.beyond(limit) == pytest.approx(domain.max_distance), name
    assert domain.scores["sharpness"].lower_limit is not None
    assert domain.scores["middling"].lower_limit is None


def test_a_score_that_few_have_sets_no_limit() -> None:
    rng = np.random.default_rng(6)
    patients = draw(rng, FEWEST_PATIENTS) + draw(rng, FEWEST_PATIENTS - 1, stain=2.0)
    domain = fit_domain(patients, "a test")
    assert "stain" not in domain.scores
    assert "member_spread" not in domain.scores
    assert domain.n_patients == 2 * FEWEST_PATIENTS - 1
    assert "stain" in fit_domain([*patients, *draw(rng, 1, stain=2.5)], "a test").scores


@pytest.mark.parametrize("n", [0, FEWEST_PATIENTS - 1])
def test_too_few_patients_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"found {n} patients? with scores, expected at least 19"):
        fit_domain(draw(np.random.default_rng(7), n), "a test")


def test_patients_that_happen_to_agree_set_no_limit_at_the_rounding_error() -> None:
    domain = fit_domain([DepthScores(background=0.5, contradictions=0.0)] * 30, "a test")
    assert domain.max_distance == 1.0
    assert judge_depth(DepthScores(background=0.504, contradictions=0.0001), domain).reason is None
    assert judge_depth(DepthScores(background=0.52, contradictions=0.0), domain).reason == "depth_background"


def counted(rng: np.random.Generator, n_patients: int, n_cells: int) -> list[DepthScores]:
    """Give patients whose shares are counts of ``n_cells``, with the sampling variance that goes with them."""
    found = []
    for _ in range(n_patients):
        shares = {
            name: rng.binomial(n_cells, rng.beta(a, b)) / n_cells
            for name, a, b in (("contradictions", 2, 100), ("middling", 4, 150))
        }
        variance = {name: (1 - share) / (4 * n_cells) for name, share in shares.items() if share}
        found.append(DepthScores(background=rng.normal(0.87, 0.04), **shares, sampling_variance=variance))
    return found


def test_patients_of_few_cells_are_not_withheld_for_what_chance_does() -> None:
    rng = np.random.default_rng(8)
    share: dict[bool, float] = {}
    for allowed in (True, False):
        alarms = []
        for _ in range(60):
            known, few = counted(rng, 40, 300), counted(rng, 40, 25)
            if not allowed:
                known, few = ([replace(item, sampling_variance={}) for item in part] for part in (known, few))
            domain = fit_domain(known, "a test")
            alarms += [judge_depth(scores, domain).reason is not None for scores in few]
        share[allowed] = float(np.mean(alarms))
    assert share[True] < 0.05
    assert share[False] > 0.1, "the allowance is what keeps them"


def test_few_cells_that_are_plainly_odd_are_withheld_all_the_same() -> None:
    domain = fit_domain(counted(np.random.default_rng(9), 40, 300), "a test")

    def of_55(x: int) -> str | None:
        share = x / 55
        odd = {"contradictions": (1 - share) / (4 * 55)}
        return judge_depth(
            DepthScores(background=0.87, contradictions=share, middling=0.02, sampling_variance=odd), domain
        ).reason

    assert of_55(3) is None
    assert of_55(20) == "depth_contradictions"
