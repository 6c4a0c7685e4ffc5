"""Prevalence from imperfect calls: the share of CBLC a patient has, when the classifier errs in a known way.

A classifier that finds a share ``tpr`` of the CBLC and calls a share ``fpr`` of the other cells CBLC shows
p = r tpr + (1 - r) fpr instead of the true share r. All methods here turn that round; they differ in what they count
and in what they take for granted about the patient.

* ``adjusted_ratio``: adjusted count (Forman, Data Min Knowl Disc 2008;17:164) on calls, and its probabilistic form
  (Bella et al., ICDM 2010) on mean probabilities. One pair of rates for every patient: biased where the composition of
  CBLC differs from the one the rates were measured on, since rates differ by category.
* ``expected_maximum``: the shares that make the probabilities likeliest (Saerens, Latinne, Decaestecker, Neural Comput
  2002;14:21), for two classes or for all categories. It needs the prior that the probabilities imply.
* ``composition``: the shares of kinds of cells that make the observed calls likeliest, from the matrix of call rates.

Shares are 0-1. Nothing here knows of uncertainty: see ``estimate``, which takes the first. The others stand here to be
compared with it (benchmarks/quantifiers.py): they erred more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]

MIN_CONTRAST = 0.3
"""Smallest tpr - fpr that allows a correction: below it, noise in p is blown up more than threefold."""

_MAX_STEPS, _TOLERANCE, _COARSE = 1000, 1e-8, 1e-5


def adjusted_ratio(p: RealArray | float, tpr: RealArray | float, fpr: RealArray | float) -> RealArray:
    """Return the true share behind the observed share ``p``: (p - fpr) / (tpr - fpr), cut to 0-1; broadcast.

    NaN where tpr <= fpr: calls that tell nothing, or the opposite.
    """
    contrast = np.asarray(tpr, dtype=np.float64) - fpr
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.clip((np.asarray(p) - fpr) / contrast, 0.0, 1.0)
    return np.asarray(np.where(contrast > 0, ratio, np.nan), dtype=np.float64)


def undo_detection(
    ratio: RealArray | float, recall_cblc: RealArray | float, recall_other: RealArray | float
) -> RealArray:
    """Share among all cells, from the share among found ones: found cells are divided by how often each kind is found.

    r = (q / a) / (q / a + (1 - q) / b) for recalls a of CBLC and b of other countable cells, both above 0.
    """
    found = np.asarray(ratio, dtype=np.float64)
    cblc, other = found / recall_cblc, (1 - found) / recall_other
    return np.asarray(cblc / (cblc + other), dtype=np.float64)


def expected_maximum(probabilities: NDArray[np.floating[Any]], prior: RealArray) -> RealArray:
    """Shares (k,) of the classes among n cells that make their ``probabilities`` (n, k) likeliest.

    ``prior`` (k,) is the one the probabilities assume; a class without a share in it stays without one. Without cells
    nothing is known: NaN. The start is the prior, the likelihood is concave, so the end does not depend on it.
    """
    likelihood = np.asarray(probabilities, dtype=np.float64)
    prior = np.asarray(prior, dtype=np.float64)
    if not len(likelihood):
        return np.full(prior.shape, np.nan)
    likelihood = np.divide(likelihood, prior, out=np.zeros_like(likelihood), where=prior > 0)
    shares = prior / prior.sum()
    for _ in range(_MAX_STEPS):
        joint = likelihood * shares
        total = joint.sum(axis=1, keepdims=True)
        new = np.divide(joint, total, out=np.broadcast_to(shares, joint.shape).copy(), where=total > 0).mean(axis=0)
        moved = float(np.abs(new - shares).max())
        shares = new
        if moved < _TOLERANCE:
            break
    return np.asarray(shares, dtype=np.float64)


def composition(called: RealArray, rates: RealArray) -> RealArray:
    """Shares (k,) of the true kinds that make the ``called`` cells (c,), a number for each call, likeliest.

    ``rates`` (c, k): how often each kind gets each call, columns sum to 1. A mixture of multinomials, fitted by
    expectation-maximization (Dempster, Laird, Rubin, J R Stat Soc B 1977;39:1). A kind without a rate (a column of NaN)
    gets no share; without a cell all kinds have the same.
    """
    known = np.asarray(np.isfinite(rates).all(axis=0), dtype=bool)
    system = np.where(known, np.nan_to_num(rates), 0.0)
    shares: RealArray = known / max(int(known.sum()), 1)
    for _ in range(_MAX_STEPS):
        expected = system @ shares
        weights = np.divide(called, expected, out=np.zeros(len(expected)), where=expected > 0)
        new = shares * (weights @ system)
        total = new.sum()
        if total <= 0:
            return shares
        new = new / total
        moved = float(np.abs(new - shares).max())
        shares = new
        if moved < _COARSE:
            break
    return np.asarray(shares, dtype=np.float64)
