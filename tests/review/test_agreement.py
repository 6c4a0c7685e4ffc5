"""Kappas against the tables of the papers that introduced them, scikit-learn, and the jackknife."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from marrowscope.review.agreement import (
    Kappa,
    cohen_by_name,
    cohen_kappa,
    confuse_readers,
    count_ratings,
    fleiss_kappa,
    group_confusion,
    group_ratings,
    kappa_by_name,
    kappa_over_patients,
)

if TYPE_CHECKING:
    from marrowscope.records import Interval

# Cohen 1960, table 1: two judges, 200 patients; kappa -0.09.
COHEN_1960 = np.array([[50, 26, 24], [24, 4, 32], [6, 30, 4]])
# Fleiss, Cohen and Everitt 1969, table 1: kappa 0.429, variance 0.002885.
FLEISS_COHEN_EVERITT_1969 = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
# The example of SAS's PROC FREQ that statsmodels tests against: 0.4842, ASE 0.1380, 0.2137 to 0.7547.
SAS = np.array([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
# Fleiss 1971, table 1: 30 patients, six psychiatrists each; depression, personality disorder, schizophrenia, neurosis,
# other. Names of the raters by patient, as the R package irr ships them (its value: 0.4302445).
DIAGNOSES = (
    "444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 144444 224445 "
    "333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 111155 224444 133333 555555"
)
FLEISS_1971 = np.array([[row.count(name) for name in "12345"] for row in DIAGNOSES.split()])
# The worked example of Fleiss' kappa with 14 raters and ten subjects: 0.210.
FOURTEEN_RATERS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
Z = NormalDist().inv_cdf(0.975)


def half_width(interval: Interval) -> float:
    return (interval.upper - interval.lower) / 2


def test_cohens_table_of_1960() -> None:
    found = cohen_kappa(COHEN_1960)
    assert found.agreement == pytest.approx(0.29)
    assert found.kappa.estimate == pytest.approx((0.29 - 0.35) / (1 - 0.35))


def test_variance_of_fleiss_cohen_and_everitt() -> None:
    found = cohen_kappa(FLEISS_COHEN_EVERITT_1969)
    assert found.kappa.estimate == pytest.approx(0.429, abs=5e-4)
    assert (half_width(found.kappa) / Z) ** 2 == pytest.approx(0.002885, abs=5e-7)


def test_the_interval_that_sas_prints() -> None:
    found = cohen_kappa(SAS).kappa
    assert [found.estimate, found.lower, found.upper] == pytest.approx([0.4842, 0.2137, 0.7547], abs=5e-5)


def test_cohen_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    names = ["N", "N1", "L2", "E"]
    first = rng.choice(names, 300)
    second = np.where(rng.random(300) < 0.6, first, rng.choice(names, 300))
    found = cohen_kappa(confuse_readers(list(first), list(second), names).counts)
    assert found.kappa.estimate == pytest.approx(cohen_kappa_score(first, second))
    assert found.agreement == pytest.approx((first == second).mean())


def test_cohens_interval_holds_the_true_kappa() -> None:
    """2,000 samples of 200 cells from a fixed table, whose own kappa is the truth."""
    p = FLEISS_COHEN_EVERITT_1969 / 200
    rng = np.random.default_rng(1)
    truth = cohen_kappa(FLEISS_COHEN_EVERITT_1969).kappa.estimate
    found = [cohen_kappa(rng.multinomial(200, p.ravel()).reshape(3, 3)).kappa for _ in range(2000)]
    assert 0.935 < np.mean([interval.lower <= truth <= interval.upper for interval in found]) < 0.965


def test_fleiss_diagnoses_of_1971() -> None:
    assert FLEISS_1971.sum(axis=0).tolist() == [26, 26, 30, 55, 43]
    found = fleiss_kappa(FLEISS_1971)
    assert found.kappa.estimate == pytest.approx(0.4302445, abs=5e-8)
    assert found.agreement == pytest.approx(0.556, abs=5e-4)  # the paper: 0.5556
    by_name = kappa_by_name(FLEISS_1971, ["depression", "personality", "schizophrenia", "neurosis", "other"])
    kappas = [kappa.kappa.estimate for kappa in by_name.values()]
    assert kappas == pytest.approx([0.245, 0.245, 0.520, 0.471, 0.566], abs=5e-4)


def test_fourteen_raters_of_ten_subjects() -> None:
    assert fleiss_kappa(FOURTEEN_RATERS).kappa.estimate == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize("ratings", [FLEISS_1971, FOURTEEN_RATERS])
def test_fleiss_error_is_near_the_jackknife(ratings: np.ndarray) -> None:
    n = len(ratings)
    left_out = np.array([fleiss_kappa(np.delete(ratings, row, axis=0)).kappa.estimate for row in range(n)])
    jackknife = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert half_width(fleiss_kappa(ratings).kappa) / Z == pytest.approx(jackknife, rel=0.12)


def test_fleiss_of_two_readers_is_scotts_pi() -> None:
    rng = np.random.default_rng(2)
    first = rng.choice(["a", "b", "c"], 100).tolist()
    second = [name if rng.random() < 0.7 else "a" for name in first]
    counts = confuse_readers(first, second, ["a", "b", "c"]).counts
    agreed = np.trace(counts) / 100
    chance = (((counts.sum(axis=0) + counts.sum(axis=1)) / 200) ** 2).sum()
    found = fleiss_kappa(count_ratings([first, second], ["a", "b", "c"]))
    assert found.kappa.estimate == pytest.approx((agreed - chance) / (1 - chance))


def test_readers_may_change_places_and_names_their_order() -> None:
    here, there = cohen_kappa(SAS), cohen_kappa(SAS.T)
    turned = cohen_kappa(SAS[::-1, ::-1])
    for other in (there, turned):
        assert half_width(other.kappa) == pytest.approx(half_width(here.kappa))
        assert other.kappa.estimate == pytest.approx(here.kappa.estimate)
    assert fleiss_kappa(FLEISS_1971[:, ::-1]).kappa.estimate == pytest.approx(0.4302445, abs=5e-8)


def test_perfect_agreement_is_one_without_spread() -> None:
    found = cohen_kappa(np.diag([5, 9, 2]))
    assert (found.kappa.estimate, found.kappa.lower, found.kappa.upper) == pytest.approx((1, 1, 1))
    assert fleiss_kappa(np.array([[3, 0], [0, 3], [3, 0]])).kappa.estimate == pytest.approx(1)


@pytest.mark.parametrize("found", [cohen_kappa(np.array([[7, 0], [0, 0]])), fleiss_kappa(np.array([[3, 0], [3, 0]]))])
def test_one_name_for_everything_has_no_kappa(found: Kappa) -> None:
    assert math.isnan(found.kappa.estimate)
    assert found.agreement == 1


def test_no_cell_has_no_kappa() -> None:
    assert cohen_kappa(np.zeros((2, 2), dtype=int)).n_cells == 0
    assert math.isnan(fleiss_kappa(np.zeros((0, 3), dtype=int)).agreement)


def test_a_single_cell_has_a_kappa_without_limits() -> None:
    found = fleiss_kappa(np.array([[1, 1]])).kappa
    assert found.estimate == pytest.approx(-1)
    assert math.isnan(half_width(found))


def test_by_name_is_the_two_by_two_table() -> None:
    confusion = confuse_readers(["a", "a", "b", "c", "a", "c"], ["a", "b", "b", "c", "a", "a"], ["a", "b", "c"])
    assert confusion.counts.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    by_name = cohen_by_name(confusion)
    assert by_name["a"] == cohen_kappa(np.array([[2, 1], [1, 2]]))
    assert by_name["c"] == cohen_kappa(np.array([[1, 1], [0, 4]]))


def test_lineages_merge_categories() -> None:
    lineage = {"N": "granulocytic", "R": "erythroid", "N1": "granulocytic"}
    confusion = confuse_readers(["N", "N1", "R"], ["N1", "N1", "N"], ["N", "R", "N1"])
    merged = group_confusion(confusion, lineage)
    assert merged.names == ("granulocytic", "erythroid")
    assert merged.counts.tolist() == [[2, 0], [1, 0]]
    ratings, names = group_ratings(np.array([[1, 1, 1], [0, 3, 0]]), ["N", "R", "N1"], lineage)
    assert names == merged.names
    assert ratings.tolist() == [[2, 1], [0, 3]]


def test_patients_who_differ_widen_the_interval() -> None:
    good, bad = np.array([[40, 2], [2, 56]]), np.array([[25, 25], [25, 25]])
    together = cohen_kappa(2 * good + 2 * bad)
    resampled = kappa_over_patients([good, bad, good, bad])
    assert resampled.estimate == pytest.approx(together.kappa.estimate)
    assert half_width(resampled) > 2 * half_width(together.kappa)
    assert math.isnan(kappa_over_patients([good]).lower)


@pytest.mark.parametrize("ratings", [np.array([[2, 1], [1, 1]]), np.array([[1, 0], [0, 1]])])
def test_cells_that_not_everyone_named_are_refused(ratings: np.ndarray) -> None:
    with pytest.raises(ValueError, match="leave out the cells that not everyone named"):
        fleiss_kappa(ratings)


def test_names_of_other_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="expected both readers' names of the same cells"):
        confuse_readers(["a"], ["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="found the name 'x', expected one of a, b"):
        confuse_readers(["a"], ["x"], ["a", "b"])
    with pytest.raises(ValueError, match="different numbers of cells"):
        count_ratings([["a"], ["a", "b"]], ["a", "b"])
