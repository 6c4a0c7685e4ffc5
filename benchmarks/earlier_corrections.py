"""Prevalence from imperfect calls: estimate a patient's share of CBLC from the classifier's known error rates.

A classifier with true positive rate ``tpr`` and false positive rate ``fpr`` for CBLC observes
p = r tpr + (1 - r) fpr instead of the true share r. All methods here invert this. They differ in what they count and in
what they assume about the patient.

* ``adjusted_ratio``: adjusted count (Forman, Data Min Knowl Disc 2008;17:164) on calls, and its probabilistic form
  (Bella et al., ICDM 2010) on mean probabilities. One pair of rates for all patients: biased if the composition of CBLC
  differs from that of the patients the rates were measured on, since rates differ by category.
* ``expected_maximum``: maximum likelihood shares given the probabilities (Saerens, Latinne, Decaestecker, Neural Comput
  2002;14:21), for two classes or for all categories. It needs the prior that the probabilities assume.
* ``composition``: maximum likelihood shares of the kinds of cells given the calls, from the matrix of call rates.

Shares are 0-1, and there is no uncertainty. The first method gave the printed ratio until the posterior
(``marrowscope.patient.quantify.posterior``); all are compared in quantifiers.py and adjusted_count.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]

_MAX_STEPS, _TOLERANCE, _COARSE = 1000, 1e-8, 1e-5


def adjusted_ratio(p: RealArray | float, tpr: RealArray | float, fpr: RealArray | float) -> RealArray:
    """Estimate the true share from the observed share ``p``: (p - fpr) / (tpr - fpr), clipped to 0-1; broadcasts.

    NaN where tpr <= fpr: the calls are uninformative, or inverted.
    """
    contrast = np.asarray(tpr, dtype=np.float64) - fpr
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.clip((np.asarray(p) - fpr) / contrast, 0.0, 1.0)
    return np.asarray(np.where(contrast > 0, ratio, np.nan), dtype=np.float64)


def undo_detection(
    ratio: RealArray | float, recall_cblc: RealArray | float, recall_other: RealArray | float
) -> RealArray:
    """Share among all cells, from the share among found cells and the recall of each kind.

    r = (q / a) / (q / a + (1 - q) / b) for recalls a of CBLC and b of other countable cells, both above 0.
    """
    found = np.asarray(ratio, dtype=np.float64)
    cblc, other = found / recall_cblc, (1 - found) / recall_other
    return np.asarray(cblc / (cblc + other), dtype=np.float64)


def expected_maximum(probabilities: NDArray[np.floating[Any]], prior: RealArray) -> RealArray:
    """Maximum likelihood shares (k,) of the classes among n cells, from their ``probabilities`` (n, k).

    ``prior`` (k,) is the one the probabilities assume; a class with no share in it gets none. NaN without cells. The
    iteration starts at the prior; the likelihood is concave, so the result does not depend on the start.
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
    """Maximum likelihood shares (k,) of the true kinds, from the numbers of ``called`` cells (c,) per call.

    ``rates`` (c, k) is how often each kind gets each call; columns sum to 1. A mixture of multinomials, fitted by
    expectation-maximization (Dempster, Laird, Rubin, J R Stat Soc B 1977;39:1). A kind without a rate (a column of NaN)
    gets no share; without cells, all kinds get the same share.
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
