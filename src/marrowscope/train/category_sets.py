"""What a crop's label leaves open: the categories its cell may have, and those that its source can label at all.

A raw code leaves nothing open. A coarse label leaves a set of categories, of which one may be named as the main one.
Two numbers of training depend on how such a cell counts, the class shares and which categories are trained:

- A category is trained if a cell has it for certain, or if it is the main one of a coarse label. A category that only
  occurs among others in sets is not: nothing ever tells it from them, and its share cannot be known.
- A coarse cell's mass goes to its main category. Without one, it is divided over the trained categories of its set in
  proportion to their decided cells: among the cells of a set, a category's expected share is its share of the classes,
  and these shares are a fixed point of that rule (expectation-maximization without the images). Without a trained
  category it has no mass and no loss in the category head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CategorySets:
    """Sets of categories, a row per crop.

    ``may_be`` (n, k): the categories that the cell may have, none where nobody labeled it. ``can_label`` (n, k): those
    that its source can give, all where it does not say. ``mainly`` (n,): the main category of a coarse label, else -1.
    """

    may_be: BoolArray
    can_label: BoolArray
    mainly: IntArray

    @property
    def open(self) -> BoolArray:
        """Which cells (n,) may have one of several categories."""
        several: BoolArray = self.may_be.sum(axis=1) > 1
        return several

    def labels(self) -> IntArray:
        """Category (n,) of each cell; -1 where several are open or nobody labeled it."""
        return np.where(self.may_be.sum(axis=1) == 1, self.may_be.argmax(axis=1), -1).astype(np.int64)

    def at(self, rows: IntArray) -> CategorySets:
        """Return the sets of some rows."""
        return CategorySets(self.may_be[rows], self.can_label[rows], self.mainly[rows])

    def taken_as_main(self) -> CategorySets:
        """Return sets in which a coarse label with a main category is that category alone."""
        main = np.flatnonzero(self.open & (self.mainly >= 0))
        may_be = self.may_be.copy()
        may_be[main] = False
        may_be[main, self.mainly[main]] = True
        return CategorySets(may_be, self.can_label, self.mainly)

    def decided(self) -> FloatArray:
        """Cells (k,) that count for one category alone: those of a single one, and those with a main one."""
        counts: FloatArray = self._fixed().sum(axis=0)
        return counts

    def shares(self, decided: FloatArray) -> FloatArray:
        """How each cell is divided over the categories, (n, k); rows sum to 1, or to 0 for a cell without mass.

        ``decided`` are the ``decided`` cells of the training crops.
        """
        fixed = self._fixed()
        loose = (fixed.sum(axis=1) == 0)[:, None] * self.may_be * decided
        total = loose.sum(axis=1, keepdims=True)
        divided: FloatArray = fixed + np.divide(loose, total, out=np.zeros_like(loose), where=total > 0)
        return divided

    def _fixed(self) -> FloatArray:
        """One row per cell: 1 at the category that it counts for alone, else zeros."""
        place = np.where(self.open, self.mainly, self.labels())
        fixed = np.zeros(self.may_be.shape)
        known = np.flatnonzero(place >= 0)
        fixed[known, place[known]] = 1.0
        return fixed


def one_hot(labels: IntArray, n_classes: int) -> FloatArray:
    """Return (n, n_classes) with a 1 at each label; a row of zeros for the label -1."""
    rows: FloatArray = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
    return rows
