"""Agreement of readers on the same cells: Cohen's and Fleiss' kappa, by category and lineage too, and a confusion.

Only cells that all compared readers named enter; who named fewer is the caller's to say. Intervals are those of large
samples of independent cells; with cells of many patients, ``kappa_over_patients`` resamples whole patients instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.records import Interval
from marrowscope.statistics.intervals import bootstrap_sums
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]

_FEWEST_READERS = 2


@dataclass(frozen=True, slots=True)
class Kappa:
    """A kappa with its interval, the raw agreement (share of agreeing pairs of readers), and the cells it rests on.

    The estimate is NaN where chance alone agrees always: all readers gave all cells one name.
    """

    kappa: Interval
    agreement: float
    n_cells: int


@dataclass(frozen=True, slots=True)
class ReaderConfusion:
    """Cells by name: rows are the first reader's, columns the second's, both in the order of ``names``."""

    names: tuple[str, ...]
    counts: IntArray


def confuse_readers(first: Sequence[str], second: Sequence[str], names: Sequence[str]) -> ReaderConfusion:
    """Count the cells by what each of two readers named them; raises ValueError for unequal lengths or other names."""
    if len(first) != len(second):
        message = (
            f"found {len(first)} and {count_of(len(second), 'name')}, expected both readers' names of the same cells"
        )
        raise ValueError(message)
    place = {name: index for index, name in enumerate(names)}
    unknown = sorted({*first, *second} - place.keys())
    if unknown:
        message = f"found the name {unknown[0]!r}, expected one of {', '.join(names)}"
        raise ValueError(message)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, ([place[name] for name in first], [place[name] for name in second]), 1)
    return ReaderConfusion(tuple(names), counts)


def cohen_kappa(counts: IntArray, level: float = 0.95) -> Kappa:
    """Cohen's kappa (Educ Psychol Meas 1960;20:37) of a confusion (k, k).

    Standard error for samples that are not of chance agreement: Fleiss, Cohen, Everitt, Psychol Bull 1969;72:323.
    """
    n = int(counts.sum())
    if n == 0:
        return Kappa(_nothing(), math.nan, 0)
    p = counts / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    agreed, chance = float(np.trace(p)), float(rows @ columns)
    if chance >= 1:
        return Kappa(_nothing(), agreed, n)
    kappa = (agreed - chance) / (1 - chance)
    diagonal = float((np.diag(p) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    # The first reader's row i meets the second reader's row sum of j, and the reverse.
    crossed = (columns[:, None] + rows[None, :]) ** 2
    off = float((p * crossed).sum() - (np.diag(p) * np.diag(crossed)).sum()) * (1 - kappa) ** 2
    error = math.sqrt(max(0.0, diagonal + off - (kappa - chance * (1 - kappa)) ** 2) / n) / (1 - chance)
    return Kappa(_limits(kappa, error, level), agreed, n)


def fleiss_kappa(ratings: IntArray, level: float = 0.95) -> Kappa:
    """Fleiss' kappa (Psychol Bull 1971;76:378) of ratings (n, k): how many readers gave each cell each name.

    Each cell needs the same number of readers, at least two. Standard error: Gwet, Br J Math Stat Psychol 2008;61:29,
    which holds for any kappa, unlike that of Fleiss for kappa 0. Raises ValueError for other ratings.
    """
    ratings = np.asarray(ratings, dtype=np.int64)
    n = len(ratings)
    readers = ratings.sum(axis=1)
    if n and (readers.min() != readers.max() or readers[0] < _FEWEST_READERS):
        message = (
            f"found cells with {readers.min()} to {readers.max()} readers, expected the same number for each, "
            f"at least {_FEWEST_READERS}; leave out the cells that not everyone named"
        )
        raise ValueError(message)
    if n == 0:
        return Kappa(_nothing(), math.nan, 0)
    m = int(readers[0])
    shares = ratings.sum(axis=0) / (n * m)
    agreed_by_cell = ((ratings**2).sum(axis=1) - m) / (m * (m - 1))
    agreed, chance = float(agreed_by_cell.mean()), float((shares**2).sum())
    if chance >= 1:
        return Kappa(_nothing(), agreed, n)
    kappa = (agreed - chance) / (1 - chance)
    chance_by_cell = ratings @ shares / m
    by_cell = (agreed_by_cell - chance) / (1 - chance) - 2 * (1 - kappa) * (chance_by_cell - chance) / (1 - chance)
    error = math.sqrt(float(((by_cell - kappa) ** 2).sum()) / (n * (n - 1))) if n > 1 else math.nan
    return Kappa(_limits(kappa, error, level), agreed, n)


def count_ratings(named: Sequence[Sequence[str]], names: Sequence[str]) -> IntArray:
    """Count the readers by name for each cell, (n, k): ``named`` holds each reader's names of the same cells."""
    if len({len(of_reader) for of_reader in named}) > 1:
        message = "found readers who named different numbers of cells, expected the same cells from each"
        raise ValueError(message)
    pairs = [confuse_readers(of_reader, of_reader, names) for of_reader in named]  # refuses names that are unknown
    place = {name: index for index, name in enumerate(names)}
    ratings = np.zeros((len(named[0]) if pairs else 0, len(names)), dtype=np.int64)
    for of_reader in named:
        ratings[np.arange(len(of_reader)), [place[name] for name in of_reader]] += 1
    return ratings


def kappa_by_name(ratings: IntArray, names: Sequence[str], level: float = 0.95) -> dict[str, Kappa]:
    """Fleiss' kappa of each name against all others; with two readers, Scott's pi, near Cohen's kappa."""
    return {
        name: fleiss_kappa(np.stack([ratings[:, k], ratings.sum(axis=1) - ratings[:, k]], axis=1), level)
        for k, name in enumerate(names)
    }


def cohen_by_name(confusion: ReaderConfusion, level: float = 0.95) -> dict[str, Kappa]:
    """Cohen's kappa of each name against all others."""
    counts, total = confusion.counts, confusion.counts.sum()
    kappas = {}
    for k, name in enumerate(confusion.names):
        both, first, second = counts[k, k], counts[k].sum(), counts[:, k].sum()
        table = np.array([[both, first - both], [second - both, total - first - second + both]], dtype=np.int64)
        kappas[name] = cohen_kappa(table, level)
    return kappas


def group_confusion(confusion: ReaderConfusion, group_of: Mapping[str, str]) -> ReaderConfusion:
    """Merge names into groups, such as categories into lineages; groups in the order of their first name."""
    groups = tuple(dict.fromkeys(group_of[name] for name in confusion.names))
    member = np.array([[group_of[name] == group for name in confusion.names] for group in groups], dtype=np.int64)
    return ReaderConfusion(groups, member @ confusion.counts @ member.T)


def group_ratings(
    ratings: IntArray, names: Sequence[str], group_of: Mapping[str, str]
) -> tuple[IntArray, tuple[str, ...]]:
    """Merge the columns of ratings into groups; returns (n, groups) and the groups' names."""
    groups = tuple(dict.fromkeys(group_of[name] for name in names))
    member = np.array([[group_of[name] == group for group in groups] for name in names], dtype=np.int64)
    return ratings @ member, groups


def kappa_over_patients(
    by_patient: Sequence[IntArray], *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Cohen's kappa of all patients' confusions (k, k) together, with whole patients resampled.

    Cells of one patient are alike and their readers err alike, so that independent cells would claim too much. The
    limits are NaN with fewer than two patients.
    """

    def statistic(total: IntArray) -> float:
        return cohen_kappa(total).kappa.estimate

    stacked = np.stack(by_patient).astype(np.int64)
    return bootstrap_sums(stacked, statistic, confidence=level, n_resamples=n_resamples, seed=seed)


def _limits(kappa: float, error: float, level: float) -> Interval:
    if math.isnan(error):
        return Interval(kappa, math.nan, math.nan)
    half = NormalDist().inv_cdf(0.5 + level / 2) * error
    return Interval(kappa, max(-1.0, kappa - half), min(1.0, kappa + half))


def _nothing() -> Interval:
    return Interval(math.nan, math.nan, math.nan)
