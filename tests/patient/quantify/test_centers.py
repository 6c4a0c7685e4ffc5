"""A center's own rates, and how many of its annotated ratios its intervals hold."""

from __future__ import annotations

import polars as pl

from marrowscope.patient.quantify.centers import review_centers
from marrowscope.patient.quantify.estimate import count_fields
from marrowscope.statistics.clusters import pooled_correlation
from tests.patient.quantify.patients import VOCABULARY
from tests.patient.quantify.test_fit_rates import outcomes

SHARES = {f"P{index}": 0.1 + 0.1 * (index % 6) for index in range(12)}
CORRELATION = 0.02


def test_a_center_of_equal_patients_holds_all_its_ratios() -> None:
    found = review_centers(outcomes(SHARES), dict.fromkeys(SHARES, "A"), VOCABULARY, CORRELATION)
    assert list(found) == ["A"]
    assert (found["A"].n_patients, found["A"].n_outside) == (12, 0)
    assert found["A"].rates.call_rate(cblc=True) == 0.9


def test_a_patient_unlike_the_others_lies_outside() -> None:
    """Nine patients with few false calls, and one of whose other cells six in ten are called CBLC."""
    strange = outcomes({"X": 0.1}, fpr=0.6)
    found = review_centers(
        pl.concat([outcomes(SHARES), strange]), dict.fromkeys([*SHARES, "X"], "A"), VOCABULARY, CORRELATION
    )
    assert (found["A"].n_patients, found["A"].n_outside) == (13, 1)


def test_the_correlation_a_patient_is_judged_with_is_that_of_the_others() -> None:
    """Cells of one patient that cluster by field must not widen the interval that the patient is held against."""
    strange = outcomes({"X": 0.1}, fpr=0.4).sort("called_cblc").with_row_index()
    strange = strange.with_columns(field_id=pl.format("X/{}", pl.col("index") // 40)).drop("index")
    table = pl.concat([outcomes(SHARES), strange])
    center_of = dict.fromkeys([*SHARES, "X"], "A")
    counts = [count_fields(own, "called_cblc") for _, own in table.group_by("patient_id", maintain_order=True)]
    pooled = [
        pooled_correlation([item.cblc_by_field for item in some], [item.countable_by_field for item in some])
        for some in (counts, counts[:-1])
    ]
    assert pooled[0] > pooled[1] + 0.02
    found = review_centers(table, center_of, VOCABULARY, pooled[0])["A"]
    assert found.n_outside == 1
    assert found.rates.correlation == pooled[0]
    assert review_centers(table, center_of, VOCABULARY, 0.95)["A"].n_outside == 1  # which would hold any ratio


def test_each_center_has_its_own_rates_and_small_ones_have_none() -> None:
    good, bad, few = outcomes(SHARES), outcomes({f"Q{i}": 0.3 for i in range(4)}, tpr=0.5), outcomes({"R": 0.5})
    center_of = {name: name[0] for name in [*SHARES, "Q0", "Q1", "Q2", "Q3", "R"]}
    found = review_centers(pl.concat([good, bad, few]), center_of, VOCABULARY, CORRELATION)
    assert set(found) == {"P", "Q"}
    assert found["P"].rates.call_rate(cblc=True) == 0.9
    assert found["Q"].rates.call_rate(cblc=True) == 0.5


def test_a_patient_without_a_ratio_to_compare_counts_as_outside() -> None:
    """One of whom nothing was counted, and one with smudges alone."""
    missed = outcomes({"X": 0.5}).with_columns(counted=pl.lit(value=False))
    smudges = outcomes({"Y": 0.5}).with_columns(code=pl.lit("V"))
    table = pl.concat([outcomes(SHARES), missed, smudges])
    found = review_centers(table, dict.fromkeys([*SHARES, "X", "Y"], "A"), VOCABULARY, CORRELATION)
    assert (found["A"].n_patients, found["A"].n_outside) == (14, 2)
