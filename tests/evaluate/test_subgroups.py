"""Subgroups: each is measured as a whole is, and those of one class against all of the other."""

from __future__ import annotations

import math

import polars as pl
import pytest

from marrowscope.evaluate.ratio_scores import ratio_figures
from marrowscope.evaluate.subgroups import Subgroup, subgroups
from marrowscope.statistics.delong import auc_interval
from marrowscope.statistics.intervals import wilson_interval
from tests.evaluate.patient_rows import CONFIG, frame, patient, random_patients


def cohort() -> pl.DataFrame:
    rows = random_patients(24)
    n = len(rows)
    return rows.with_columns(
        sex=pl.Series([["female", "male", " "][k % 3] for k in range(n)]),
        age_group=pl.Series(["adult"] * n),
        subtype=pl.Series(["M3" if k % 5 == 0 else None for k in range(n)]),
        annotated_inside=pl.Series([k % 4 != 0 for k in range(n)]),
    )


def by_name(rows: pl.DataFrame) -> dict[tuple[str, str], Subgroup]:
    found = subgroups(rows, CONFIG)
    return {(item.attribute, item.value): item for item in found}


def test_each_value_has_a_row_and_the_rest_is_not_stated() -> None:
    rows = cohort()
    found = subgroups(rows, CONFIG)
    names = [(item.attribute, item.value) for item in found]
    assert names == [
        ("diagnosis", "AML"),
        ("diagnosis", "control"),
        ("subtype", "M3"),
        ("subtype", "not stated"),
        ("sex", "female"),
        ("sex", "male"),
        ("sex", "not stated"),
    ]
    for attribute in {name for name, _ in names}:
        assert sum(item.n_patients for item in found if item.attribute == attribute) == len(rows)


def test_a_subgroup_is_measured_as_if_it_were_alone() -> None:
    rows = cohort()
    women = rows.filter(sex="female")
    found = by_name(rows)[("sex", "female")]
    alone = {figure.key: figure.value for figure in ratio_figures(women, CONFIG)}
    for value, key in ((found.mae, "patient_ratio_mae"), (found.bias, "patient_ratio_bias")):
        assert (value.estimate, value.lower, value.upper) == pytest.approx(
            (alone[key].estimate, alone[key].lower, alone[key].upper)
        )
    assert found.auc == auc_interval((women["diagnosis"] == "AML").to_numpy(), women["run_ratio"].to_numpy())
    assert found.coverage == wilson_interval(int(women["annotated_inside"].sum()), len(women))
    assert (found.n_patients, found.n_ratio, found.n_interval) == (len(women),) * 3
    assert not found.against_all


def test_a_diagnosis_is_compared_with_all_of_the_other_class() -> None:
    rows = frame(
        patient("P1", "AML", 0.5, 0.5),
        patient("P2", "AML-M3", 0.5, 0.9),
        patient("P3", "MDS", 0.1, 0.6),
        patient("P4", "control", 0.1, 0.1),
        patient("P5", None, 0.1, 0.1),
    )
    config = CONFIG.model_copy(update={"aml_diagnoses": ("AML", "AML-M3")})
    found = {item.value: item for item in subgroups(rows, config)}
    assert list(found) == ["AML", "AML-M3", "MDS", "control", "not stated"]
    values = [found[name] for name in ("AML", "AML-M3", "MDS")]
    assert [(item.n_aml, item.n_other, item.auc.estimate) for item in values] == [(1, 2, 0.5), (1, 2, 1.0), (2, 1, 0.5)]
    assert found["AML"].against_all
    assert math.isnan(found["not stated"].auc.estimate)


def test_other_attributes_of_one_class_have_no_auc() -> None:
    rows = frame(patient("P1", "AML", 0.5, 0.5, sex="male"), patient("P2", "MDS", None, None, sex="female"))
    found = by_name(rows)
    assert math.isnan(found[("sex", "male")].auc.estimate)
    assert math.isnan(found[("sex", "female")].mae.estimate)
    assert math.isnan(found[("sex", "female")].coverage.estimate)
    assert (found[("sex", "female")].n_patients, found[("sex", "female")].n_ratio) == (1, 0)


def test_without_any_patient_there_is_none() -> None:
    assert subgroups(frame(), CONFIG) == ()
