"""One distribution over what a cell can be, from three heads that answer for themselves.

A cell is one of the triples (category, cblc, countable) that some raw code has. The probability of triple t is

    P(t) = share(t) * product over the heads h of (p_h(t) / q_h(t)) ** w_h / normalization

``p_h(t)`` is the probability that head h gives to t's answer, and ``q_h(t)`` the share that this probability assumes:
their ratio is what the image says, each share counts once. The weights w_h say how much of what the heads say is said
once: all read the same features, so that their plain product counts the same evidence up to three times. This is a
log-linear pool (Genest and Zidek, Statistical Science 1986); the weights are those of least negative log-likelihood on
cells that the networks never saw (``statistics.joint_fit``). A cell of which no head says anything has the shares.

Without a rule, weights and offsets are those of a plain sum of the heads' log-probabilities (w = 1, no shares).

The probabilities of CBLC, of countable and of each category are sums over P, so that they never contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy.special import softmax

from marrowscope.config import StageConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.vocabulary import Vocabulary

RealArray = NDArray[np.float64]

JOINT_HEADS = ("category", "cblc", "countable")
"""The heads in the order of a triple's answers."""
_SMALLEST_P = 1e-12
_ROUNDING = 1e-3
"""Rounding error allowed above 1 in the softmax of a low-precision network."""


class TripleRule(StageConfig):
    """One triple that is called: its share, and what is added to the weighted log-probabilities of the heads."""

    category: str = Field(description="of the vocabulary")
    cblc: bool = Field(description="a CBLC")
    countable: bool = Field(description="in the denominator of the CBLC ratio")
    share: float = Field(gt=0, le=1, description="share of the cells that the joint probabilities assume")
    offset: float = Field(description="ln share - sum of weight * ln(share that the head assumes)")


class JointRule(StageConfig):
    """How the heads' probabilities become one distribution over triples; one that is not listed is never called."""

    weights: dict[str, float] = Field(description="head to its weight: category, cblc, countable")
    triples: tuple[TripleRule, ...] = Field(min_length=1, description="those with a share")

    @field_validator("weights")
    @classmethod
    def _one_for_each_head(cls, given: dict[str, float]) -> dict[str, float]:
        if set(given) != set(JOINT_HEADS) or not all(weight > 0 for weight in given.values()):
            message = f"found {given}, expected a weight above 0 for each of {', '.join(JOINT_HEADS)}"
            raise ValueError(message)
        return given

    def offsets(self, vocabulary: Vocabulary) -> RealArray:
        """Return the offset (t,) of each triple of the vocabulary; minus infinity for one that is not listed."""
        listed = {(item.category, item.cblc, item.countable): item.offset for item in self.triples}
        return np.array(
            [
                listed.get((vocabulary.categories[category], cblc, countable), -np.inf)
                for category, cblc, countable in vocabulary.call_triples
            ]
        )


class TripleShare(StageConfig):
    """The share of one triple among the labeled cells."""

    category: str
    cblc: bool
    countable: bool
    share: float = Field(gt=0, le=1)


class JointFit(StageConfig):
    """The joint calibration of a cross-fit: the part of calibration.json that holds for all heads together.

    The metrics are nested like those of a head. ``before`` is the plain sum of the calibrated heads' log-probabilities;
    both metrics are of p_cblc.
    """

    weights: dict[str, float] = Field(description="head to its weight, fitted on all out-of-fold cells")
    reason: str = Field(default="", description="why the weights are those of a plain sum")
    triples: tuple[TripleShare, ...] = Field(min_length=1, description="with a trained answer of each head")
    n_cells: int = Field(description="labeled out-of-fold cells of these triples")
    n_left_out: int = Field(description="cells without a label, or of other triples")
    nested_weights: dict[str, dict[str, float]] = Field(description="per fold, those fitted on the other folds")
    nll_before: float | None = Field(description="mean negative log-likelihood in nats of CBLC, plain sum")
    nll_after: float | None
    ece_before: float | None = Field(description="expected calibration error of p_cblc, plain sum")
    ece_after: float | None

    def rule(self, assumed: Mapping[str, RealArray], decision_tau: float, vocabulary: Vocabulary) -> JointRule:
        """Return the rule for heads that assume the class shares ``assumed``, head to (k,), those of ``decision_tau``.

        The shares of triples become share ** (1 - tau), as those of the heads do.
        """
        share_of = {(item.category, item.cblc, item.countable): item.share for item in self.triples}
        shares = np.array(
            [
                share_of.get((vocabulary.categories[category], cblc, countable), 0.0)
                for category, cblc, countable in vocabulary.call_triples
            ]
        )
        turned = np.where(shares > 0, shares ** (1 - decision_tau), 0.0)
        return joint_rule(self.weights, turned / turned.sum(), assumed, vocabulary)

    def sentence(self) -> str:
        """Sentence for a bundle's card."""
        weights = ", ".join(f"{head} {self.weights[head]:.2f}" for head in JOINT_HEADS)
        return f"The heads are weighed together ({weights}), fitted on the same cells."


@dataclass(frozen=True, slots=True)
class Marginals:
    """Sums over the triples: ``p_category`` (..., k), ``p_cblc`` (...), ``p_countable`` (...), 0-1."""

    p_category: RealArray
    p_cblc: RealArray
    p_countable: RealArray


def joint_probabilities(
    p_category: NDArray[np.floating[Any]],
    p_cblc: NDArray[np.floating[Any]],
    p_countable: NDArray[np.floating[Any]],
    vocabulary: Vocabulary,
    rule: JointRule | None = None,
) -> RealArray:
    """Compute the probability (..., t) of each of ``vocabulary.call_triples`` from the heads' own.

    ``p_category`` (..., k), ``p_cblc`` (...), ``p_countable`` (...), 0-1; a category with probability exactly 0 (never
    trained) has none. Raises ValueError for shapes that do not belong together or values outside 0-1.
    """
    evidence = triple_log_probabilities(p_category, p_cblc, p_countable, vocabulary)
    if rule is None:
        probabilities: RealArray = softmax(evidence.sum(axis=0), axis=-1)
        return probabilities
    scores = sum(rule.weights[head] * part for head, part in zip(JOINT_HEADS, evidence, strict=True))
    weighted: RealArray = softmax(scores + rule.offsets(vocabulary), axis=-1)
    return weighted


def triple_log_probabilities(
    p_category: NDArray[np.floating[Any]],
    p_cblc: NDArray[np.floating[Any]],
    p_countable: NDArray[np.floating[Any]],
    vocabulary: Vocabulary,
) -> RealArray:
    """Return what each head says of each triple, (3, ..., t) in the order of ``JOINT_HEADS``: its ln p."""
    category = np.asarray(p_category, dtype=np.float64)
    binary = [np.asarray(values, dtype=np.float64) for values in (p_cblc, p_countable)]
    expected = (*binary[0].shape, len(vocabulary.categories))
    if category.shape != expected or binary[0].shape != binary[1].shape:
        message = f"p_category: found shape {category.shape[-2:]}, expected {expected[-2:]}"
        raise ValueError(message)
    if not all(np.all((values >= 0) & (values <= 1 + _ROUNDING)) for values in (category, *binary)):
        message = "found probabilities outside 0-1 or not finite, expected softmax outputs of the three heads"
        raise ValueError(message)
    triples = np.array(vocabulary.call_triples, dtype=np.int64)
    with np.errstate(divide="ignore"):
        log_p = [np.log(category)[..., triples[:, 0]]]
    for values, column in zip(binary, (1, 2), strict=True):
        log_yes, log_no = (np.log(np.maximum(p, _SMALLEST_P))[..., None] for p in (values, 1 - values))
        log_p.append(np.where(triples[:, column] == 1, log_yes, log_no))
    return np.stack(log_p)


def marginals(probabilities: RealArray, vocabulary: Vocabulary) -> Marginals:
    """Sum the probabilities (..., t) of triples to those of CBLC, of countable and of each category.

    A cell's sums do not depend on the other cells beside it, to the last bit: so no product of matrices.
    """
    triples = np.array(vocabulary.call_triples, dtype=np.int64)
    first_of_category = np.searchsorted(triples[:, 0], np.arange(len(vocabulary.categories)))
    sums = (
        np.add.reduceat(probabilities, first_of_category, axis=-1),
        (probabilities * triples[:, 1]).sum(axis=-1),
        (probabilities * triples[:, 2]).sum(axis=-1),
    )
    # Sums of floats may end a last bit above 1.
    return Marginals(*(np.minimum(values, 1.0) for values in sums))


def joint_rule(
    weights: Mapping[str, float], shares: RealArray, assumed: Mapping[str, RealArray], vocabulary: Vocabulary
) -> JointRule:
    """Return the rule of ``shares`` (t,) for heads that assume the class shares ``assumed``, head to (k,)."""
    offsets = np.array([weights[head] for head in JOINT_HEADS]) @ -log_assumed(assumed, vocabulary)
    return JointRule(
        weights=dict(weights),
        triples=tuple(
            TripleRule(
                category=vocabulary.categories[category],
                cblc=cblc,
                countable=countable,
                share=float(share),
                offset=float(offset + np.log(share)),
            )
            for (category, cblc, countable), share, offset in zip(vocabulary.call_triples, shares, offsets, strict=True)
            if share > 0
        ),
    )


def log_assumed(assumed: Mapping[str, RealArray], vocabulary: Vocabulary) -> RealArray:
    """Return ln of the share (3, t) that each head assumes for its answer in each triple; 0 for one never trained."""
    triples = np.array(vocabulary.call_triples, dtype=np.int64)
    of_triples = np.stack([assumed[head][triples[:, column]] for column, head in enumerate(JOINT_HEADS)])
    logs: RealArray = np.log(np.where(of_triples > 0, of_triples, 1.0))
    return logs
