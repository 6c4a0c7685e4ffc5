"""Patients by diagnosis, subtype, age group, sex and specimen: n, ratio error, coverage and AUC of each subgroup.

Each subgroup is measured as the whole center is, on fewer patients. No difference between subgroups is tested, and many
are looked at: one that stands out may do so by chance. A subgroup of one diagnosis or subtype has only one class. Its
AUC is of its patients against all patients of the other class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.patient_scores import diagnosed
from marrowscope.evaluate.scorer import Scorer
from marrowscope.records import Interval
from marrowscope.statistics import metrics
from marrowscope.statistics.delong import auc_interval
from marrowscope.statistics.intervals import wilson_interval

if TYPE_CHECKING:
    from marrowscope.evaluate.link import EvaluateConfig

ATTRIBUTES = ("diagnosis", "subtype", "age_group", "sex", "specimen")
"""Columns of the table of ratios that make subgroups, in the order of printing."""

SUBGROUP_NOT_STATED = "not stated"
_OF_THE_DISEASE = ("diagnosis", "subtype")


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The patients of a center with one value of an attribute; NaN where the data do not define a figure.

    ``n_ratio`` patients have the annotated and the counted ratio (``mae``, ``bias``), ``n_interval`` the annotated
    ratio and the interval of the corrected one (``coverage``). ``auc`` is by the counted ratio, of ``n_aml`` against
    ``n_other``; ``against_all``: one of these two counts is of the whole center.
    """

    attribute: str
    value: str
    n_patients: int
    n_ratio: int
    mae: Interval
    bias: Interval
    n_interval: int
    coverage: Interval
    n_aml: int
    n_other: int
    against_all: bool
    auc: Interval


def subgroups(ratios: pl.DataFrame, config: EvaluateConfig) -> tuple[Subgroup, ...]:
    """Measure every subgroup of the attributes that divide the patients; one with a single value divides nothing."""
    rows = []
    for attribute in ATTRIBUTES:
        stated = pl.col(attribute).str.strip_chars()
        known = ratios.with_columns(
            value=pl.when(stated.str.len_chars() > 0).then(stated).otherwise(pl.lit(SUBGROUP_NOT_STATED))
        ).with_columns(value=pl.col("value").fill_null(SUBGROUP_NOT_STATED))
        found = set(known["value"])
        names = sorted(found - {SUBGROUP_NOT_STATED}) + [SUBGROUP_NOT_STATED] * (SUBGROUP_NOT_STATED in found)
        if len(names) > 1:
            rows += [_subgroup(known, attribute, name, config) for name in names]
    return tuple(rows)


def _subgroup(ratios: pl.DataFrame, attribute: str, value: str, config: EvaluateConfig) -> Subgroup:
    here = ratios.filter(pl.col("value") == value)
    both = here.drop_nulls(["true_ratio", "predicted_ratio"])
    error = both["predicted_ratio"].to_numpy() - both["true_ratio"].to_numpy()
    scorer = Scorer(both["patient_id"].to_list(), config.n_resamples, config.seed)
    mae, bias = scorer.of_columns(
        np.stack([np.ones(len(both)), np.abs(error), error], axis=1),
        lambda total: metrics.shares(total[:, 1:], np.repeat(total[:, :1], 2, axis=1)),
    )
    covered = here.drop_nulls(["annotated_inside"])["annotated_inside"]
    nothing = Interval(math.nan, math.nan, math.nan)
    everyone = diagnosed(ratios, config).drop_nulls("run_ratio")
    mine = everyone.filter(pl.col("value") == value)
    against_all = attribute in _OF_THE_DISEASE and mine["is_aml"].n_unique() == 1
    if against_all:
        mine = pl.concat([mine, everyone.filter(pl.col("is_aml") != mine["is_aml"][0])])
    return Subgroup(
        attribute=attribute,
        value=value,
        n_patients=len(here),
        n_ratio=len(both),
        mae=mae,
        bias=bias,
        n_interval=len(covered),
        coverage=wilson_interval(int(covered.sum()), len(covered)) if len(covered) else nothing,
        n_aml=int(mine["is_aml"].sum()),
        n_other=int((~mine["is_aml"]).sum()),
        against_all=against_all,
        auc=auc_interval(mine["is_aml"].to_numpy(), mine["run_ratio"].to_numpy()),
    )
