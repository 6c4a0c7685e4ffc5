"""A site's rates: weighted by hand, unbiased over audits, and read by the quantifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope.patient.quantify import PatientCounts, estimate_ratio
from marrowscope.patient.quantify.rates import Kind
from marrowscope.review.site_rates import AuditedCell, AuditedPatient, carry_rounding, ratios_outside, site_rates
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()


def cell(code: str | None, *, cblc: bool, countable: bool = True, weight: float = 1.0) -> AuditedCell:
    return AuditedCell(code, countable, "N" if cblc else "N5", cblc, weight)


def patients(cells: list[AuditedCell], n: int = 20, missed: tuple[str, ...] | None = ()) -> list[AuditedPatient]:
    return [AuditedPatient(f"P{i:02}", tuple(cells), (1, 2), (10, 10), missed, 5.0) for i in range(n)]


def test_weights_of_one_leave_plain_counts() -> None:
    cells = (
        [cell("N", cblc=True)] * 8
        + [cell("N", cblc=False)] * 2
        + [cell("N5", cblc=True)]
        + [cell("N5", cblc=False)] * 9
    )
    cells += [cell("V", cblc=True), cell(None, cblc=False), cell("N", cblc=True, countable=False)]
    site = site_rates(patients(cells), VOCABULARY)
    rates = site.rates
    assert rates.call_rate(cblc=True) == 0.8
    assert rates.call_rate(cblc=False) == 0.1
    assert rates.recall(cblc=True) == pytest.approx(10 / 11)
    assert rates.wrongly_counted == (2,) * 20
    assert rates.wrongly_called == (1,) * 20
    assert rates.wrong_calls[rates.kinds.index(Kind("N", cblc=True))] == 20
    assert (site.n_patients, site.n_cells) == (20, 460)
    assert site.n_effective == pytest.approx(460)
    assert not site.found_cells_only


def test_certain_calls_weigh_what_they_stand_for() -> None:
    """Of 100 certain N5 calls 10 are audited, all right; of 10 uncertain ones all, half of them wrongly CBLC."""
    cells = [cell("N5", cblc=False, weight=10)] * 10 + [cell("N5", cblc=True)] * 5 + [cell("N5", cblc=False)] * 5
    rates = site_rates(patients(cells), VOCABULARY).rates
    assert rates.call_rate(cblc=False) == pytest.approx(5 / 110, abs=0.002)
    per_patient = sum(rates.counted[0])
    assert per_patient == round(110**2 / (10 * 100 + 10))  # Kish: 12 cells, not 110 and not 20


def test_what_rounding_cuts_off_is_carried_on() -> None:
    counts = carry_rounding(np.full((20, 1), 0.3))
    assert counts.sum() == 6
    assert set(counts[:, 0].tolist()) == {0, 1}


@given(st.lists(st.floats(0, 50, allow_nan=False), min_size=1, max_size=60))
@settings(deadline=None)
def test_running_totals_stay_within_a_half(counts: list[float]) -> None:
    whole = carry_rounding(np.array(counts)[:, None])[:, 0]
    assert np.all(whole >= 0)
    assert np.abs(np.cumsum(whole) - np.cumsum(counts)).max() <= 0.5 + 1e-9


def test_rates_are_unbiased_over_audits_and_unweighted_ones_are_not() -> None:
    """300 cells a patient: 240 certain and 60 uncertain calls of N5, wrong in 1 and 30 of 100; 20 of each audited."""
    rng = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(40):
        site = []
        for i in range(25):
            wrong = [rng.random(240) < 0.01, rng.random(60) < 0.3]
            cells = [
                cell("N5", cblc=bool(part[k]), weight=len(part) / 20)
                for part in wrong
                for k in rng.choice(len(part), 20, replace=False)
            ]
            site.append(AuditedPatient(f"P{i}", tuple(cells), (1, 2), (10, 10), ()))
        found.append(site_rates(site, VOCABULARY).rates.call_rate(cblc=False))
        plain.append(np.mean([one.called_cblc for patient in site for one in patient.cells]))
    truth = (240 * 0.01 + 60 * 0.3) / 300
    assert np.mean(found) == pytest.approx(truth, abs=0.005)
    assert np.mean(plain) > 2 * truth


def test_missed_cells_count_as_often_as_fields_stand_for_others() -> None:
    cells = [cell("N", cblc=True)] * 10 + [cell("N5", cblc=False)] * 10
    rates = site_rates(patients(cells, missed=("N", "V")), VOCABULARY).rates
    assert rates.recall(cblc=True) == pytest.approx(10 / 15)
    assert rates.recall(cblc=False) == 1


def test_one_patient_without_checked_fields_leaves_all_missed_cells_out() -> None:
    group = patients([cell("N", cblc=True)] * 10, missed=("N",))
    site = site_rates([*group[:-1], replace(group[-1], missed=None)], VOCABULARY)
    assert site.found_cells_only
    assert site.rates.recall(cblc=True) == 1


def test_the_order_of_patients_does_not_matter() -> None:
    group = patients([cell("N", cblc=True, weight=3.3), cell("N5", cblc=False, weight=7.1)])
    assert site_rates(group, VOCABULARY) == site_rates(group[::-1], VOCABULARY)


def test_the_quantifier_reads_them() -> None:
    cells = [cell("N", cblc=True, weight=2)] * 18 + [cell("N", cblc=False, weight=2)] * 2
    cells += [cell("N5", cblc=True, weight=4)] * 2 + [cell("N5", cblc=False, weight=4)] * 28
    rates = site_rates(patients(cells), VOCABULARY).rates
    ratio = estimate_ratio(PatientCounts(np.array([30.0, 40.0]), np.array([100.0, 120.0])), rates)
    assert 0 < ratio.lower < ratio.upper < 1


def test_a_reviewed_ratio_is_held_against_the_interval_of_the_other_patients_rates() -> None:
    """Calls are right in 19 of 20 cells, and 30 of 100 are called CBLC: near 28% true, and never 80%."""
    cells = (
        [cell("N", cblc=True)] * 19 + [cell("N", cblc=False)] + [cell("N5", cblc=True)] + [cell("N5", cblc=False)] * 19
    )
    group = [replace(one, called_by_field=(14, 16), counted_by_field=(50, 50)) for one in patients(cells, 6)]
    group[3] = replace(group[3], called_by_field=(), counted_by_field=())
    reviewed = {"P00": 0.28, "P01": 0.8, "P02": float("nan"), "P03": 0.3}
    assert ratios_outside(group, reviewed, VOCABULARY) == ("P01", "P02", "P03")


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (patients([cell("N", cblc=True)], 19), "found 19 audited patients, expected at least 20 of the site"),
        ([*patients([cell("N", cblc=True)]), *patients([cell("N", cblc=True)], 1)], "found patient P00 twice"),
        (patients([]), "patient P00: found no named cell"),
        (patients([cell("N", cblc=True, weight=0.5)]), "patient P00: found a weight of 0.5"),
        (patients([cell("N", cblc=True, weight=float("nan"))]), "found a weight of nan"),
        (
            patients([replace(cell("N", cblc=True), called_category="X")]),
            "P00: found a cell called 'X', CBLC and countable",
        ),
    ],
)
def test_what_gives_no_rates_is_refused(group: list[AuditedPatient], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        site_rates(group, VOCABULARY)
