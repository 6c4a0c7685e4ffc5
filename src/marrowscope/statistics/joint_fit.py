"""Weights of the heads and shares of the triples, fitted together on held-out cells.

The heads' probabilities are those of the graphs, each with its own temperature. Their weights minimize the mean
negative log-likelihood of what the expert's label says of the triple: of the one triple of a raw code, or of the sum
over the triples that a coarse label leaves open. For raw codes it is convex in the weights.

Shares are those of the labeled cells, with half a cell more for each triple whose answers were all trained, so that
none of them is ruled out. A coarse cell goes to its main category; without one, it is divided over the triples of its
set by their shares (expectation-maximization).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from marrowscope.statistics.joint import (
    JOINT_HEADS,
    JointFit,
    TripleShare,
    joint_probabilities,
    joint_rule,
    log_assumed,
    marginals,
    triple_log_probabilities,
)
from marrowscope.statistics.temperature import MIN_CELLS, calibration_figures
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.statistics.joint import JointRule
    from marrowscope.vocabulary import Vocabulary

RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_MIN_WEIGHT, _MAX_WEIGHT = 0.05, 3.0
_START = 0.5
_ASSUMED_CELLS = 0.5
_STEPS = 100
_SMALLEST_P = 1e-12
_NEVER = -1e4
"""In place of minus infinity, so that a weight times it is a number."""


@dataclass(frozen=True, slots=True)
class LabelTriples:
    """What labels say of triples, both (n, t): those a cell may be, and those it counts as in the shares."""

    may_be: BoolArray
    counts_as: BoolArray


def label_triples(labels: Sequence[str | None], vocabulary: Vocabulary) -> LabelTriples:
    """Return the triples of ``vocabulary.call_triples`` that each stored label leaves open; none without a label."""
    texts = list(dict.fromkeys(labels))
    may_be = np.zeros((len(texts), len(vocabulary.call_triples)), dtype=np.bool_)
    counts_as = may_be.copy()
    for index, text in enumerate(texts):
        if text is None:
            continue
        label = vocabulary.read_label(text)
        codes = [
            code
            for code in label.codes
            if label.cblc in (None, code.cblc) and label.countable in (None, code.countable)
        ]
        main = [code for code in codes if label.mainly is None or code.category == label.mainly] or codes
        for chosen, row in ((codes, may_be[index]), (main, counts_as[index])):
            triples = {(vocabulary.categories.index(code.category), code.cblc, code.countable) for code in chosen}
            row[:] = [triple in triples for triple in vocabulary.call_triples]
    place = {text: index for index, text in enumerate(texts)}
    rows = np.array([place[text] for text in labels], dtype=np.int64)
    return LabelTriples(may_be[rows], counts_as[rows])


def trained_triples(heads: Mapping[str, RealArray], vocabulary: Vocabulary) -> BoolArray:
    """Return which triples (t,) have an answer of each head with a share in ``heads``, head to (k,)."""
    return np.array(
        [
            heads["category"][category] > 0 and heads["cblc"][int(cblc)] > 0 and heads["countable"][int(countable)] > 0
            for category, cblc, countable in vocabulary.call_triples
        ]
    )


def triple_shares(counts_as: BoolArray, trained: BoolArray) -> RealArray:
    """Estimate the share (t,) of each trained triple among labeled cells (n, t); 0 for the others."""
    sets, n = np.unique(counts_as & trained, axis=0, return_counts=True)
    shares: RealArray = trained / trained.sum()
    for _ in range(_STEPS):
        divided = sets * shares
        total = divided.sum(axis=1, keepdims=True)
        divided = np.divide(divided, total, out=np.zeros_like(divided), where=total > 0)
        counts = n @ divided + _ASSUMED_CELLS * trained
        shares = counts / counts.sum()
    return shares


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out cells as the joint fit needs them: ``labels`` (n,) as stored, ``cblc`` (n,) 1, 0 or -1, their ``fold``.

    ``shares`` are the class shares (k,) by head that the heads' probabilities assume.
    """

    labels: Sequence[str | None]
    cblc: IntArray
    fold: IntArray
    shares: Mapping[str, RealArray]


def fit_joint(
    cells: HeldOut, heads_without: Callable[[int | None], Mapping[str, RealArray]], vocabulary: Vocabulary
) -> tuple[JointFit, RealArray, RealArray]:
    """Fit the weights and shares, and measure their effect on cells they were not fitted on.

    ``heads_without`` gives the heads' probabilities (n, k) of all cells, at temperatures fitted without a fold (None:
    on all cells). Returns the record, and p_cblc (n,) of the plain sum and of the nested rules.
    """
    labels = label_triples(cells.labels, vocabulary)
    trained = trained_triples(cells.shares, vocabulary)
    before, after = np.empty(len(cells.cblc)), np.empty(len(cells.cblc))
    nested = {}
    for fold in np.unique(cells.fold):
        inside = cells.fold == fold
        heads = heads_without(int(fold))
        outside = LabelTriples(labels.may_be[~inside], labels.counts_as[~inside])
        shares = triple_shares(outside.counts_as, trained)
        weights = fit_weights(_rows(heads, ~inside), outside.may_be, shares, cells.shares, vocabulary).weights
        rule = joint_rule(weights, shares, cells.shares, vocabulary)
        before[inside] = _p_cblc(_rows(heads, inside), vocabulary, None)
        after[inside] = _p_cblc(_rows(heads, inside), vocabulary, rule)
        nested[str(fold)] = weights
    shares = triple_shares(labels.counts_as, trained)
    fit = fit_weights(heads_without(None), labels.may_be, shares, cells.shares, vocabulary)
    known = cells.cblc >= 0
    (nll_before, ece_before), (nll_after, ece_after) = (
        calibration_figures(yes_and_no(p[known]), cells.cblc[known]) for p in (before, after)
    )
    record = JointFit(
        weights=fit.weights,
        reason=fit.reason,
        triples=tuple(
            TripleShare(category=vocabulary.categories[category], cblc=cblc, countable=countable, share=float(share))
            for (category, cblc, countable), share in zip(vocabulary.call_triples, shares, strict=True)
            if share > 0
        ),
        n_cells=fit.n_cells,
        n_left_out=len(cells.cblc) - fit.n_cells,
        nested_weights=nested,
        nll_before=nll_before,
        nll_after=nll_after,
        ece_before=ece_before,
        ece_after=ece_after,
    )
    return record, before, after


@dataclass(frozen=True, slots=True)
class WeightFit:
    """Fitted weights by head; if the cells do not allow a fit, they are 1 and ``reason`` explains why."""

    weights: dict[str, float]
    n_cells: int
    reason: str = ""


def fit_weights(
    heads: Mapping[str, RealArray],
    may_be: BoolArray,
    shares: RealArray,
    assumed: Mapping[str, RealArray],
    vocabulary: Vocabulary,
) -> WeightFit:
    """Fit the weights in 0.05..3 that minimize the mean negative log-likelihood of the triples that cells may be.

    ``heads`` are probabilities (n, k), ``may_be`` (n, t) what the labels leave open, ``shares`` (t,) those of the
    triples, ``assumed`` those of the heads. With fewer than 50 cells, or one triple alone, the weights are 1.
    """
    listed = shares > 0
    evidence = triple_log_probabilities(heads["category"], heads["cblc"][:, 1], heads["countable"][:, 1], vocabulary)
    evidence = evidence[..., listed] - log_assumed(assumed, vocabulary)[:, None, listed]
    evidence = np.maximum(evidence, _NEVER)  # a category that its own fold never saw
    open_to = may_be[:, listed] & (evidence[0] > _NEVER)
    known = open_to.any(axis=1)
    evidence, open_to, n_cells = evidence[:, known], open_to[known], int(known.sum())
    plain = dict.fromkeys(JOINT_HEADS, 1.0)
    if n_cells < MIN_CELLS:
        return WeightFit(plain, n_cells, f"{count_of(n_cells, 'labeled cell')}, fewer than {MIN_CELLS}")
    if (open_to == open_to[0]).all():
        return WeightFit(plain, n_cells, f"only one answer among {count_of(n_cells, 'cell')}")
    log_shares = np.log(shares[listed])

    def loss(weights: RealArray) -> tuple[float, RealArray]:
        scores = np.tensordot(weights, evidence, axes=1) + log_shares
        all_of, right = logsumexp(scores, axis=1), logsumexp(np.where(open_to, scores, -np.inf), axis=1)
        expected = np.exp(scores - all_of[:, None]) - np.where(open_to, np.exp(scores - right[:, None]), 0.0)
        slope: RealArray = (evidence * expected).sum(axis=(1, 2)) / n_cells
        return float((all_of - right).mean()), slope

    bounds = [(_MIN_WEIGHT, _MAX_WEIGHT)] * len(JOINT_HEADS)
    found = minimize(loss, np.full(len(JOINT_HEADS), _START), jac=True, method="L-BFGS-B", bounds=bounds)
    return WeightFit(dict(zip(JOINT_HEADS, found.x.tolist(), strict=True)), n_cells)


def yes_and_no(p: RealArray) -> RealArray:
    """Return the probabilities (n, 2) of no and yes for those of yes (n,)."""
    return np.stack([1 - p, p], axis=1)


def _p_cblc(heads: Mapping[str, RealArray], vocabulary: Vocabulary, rule: JointRule | None) -> RealArray:
    joint = joint_probabilities(heads["category"], heads["cblc"][:, 1], heads["countable"][:, 1], vocabulary, rule)
    # A figure over cells is not to hang on one that a rounding made certain.
    return np.clip(marginals(joint, vocabulary).p_cblc, _SMALLEST_P, 1 - _SMALLEST_P)


def _rows(heads: Mapping[str, RealArray], chosen: BoolArray) -> dict[str, RealArray]:
    return {head: values[chosen] for head, values in heads.items()}
