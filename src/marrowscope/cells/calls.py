"""From the probabilities of the three heads to one call per cell: category, CBLC and countable.

Steps: each member's heads become probabilities of the triples (category, cblc, countable) that some raw code has
(``statistics.joint``); the ensemble's are the mean over its members; p_cblc, p_countable and p_category are sums over
them. A cell is called CBLC when p_cblc is at least 0.5 and countable when p_countable is, and gets the most probable
triple with these two answers: a call never contradicts its own probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cells.embedding import EMBEDDING, embedding_distances
from marrowscope.errors import BundleError
from marrowscope.records import Call
from marrowscope.statistics.joint import joint_probabilities, marginals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.cells.embedding import ClassStatistics
    from marrowscope.records import FloatArray
    from marrowscope.statistics.joint import JointRule
    from marrowscope.vocabulary import Vocabulary

_ROUNDING = 1e-3
"""Rounding error allowed above 1 in the softmax of a low-precision network."""
_YES = 0.5


@dataclass(frozen=True, slots=True)
class Calls:
    """One call per cell and its probabilities (0-1), arrays of length n; ``p_category`` (n, k).

    ``contradiction`` marks cells whose heads, each taken alone, give a combination that no raw code has. These cells
    are counted too, with their joint call. ``member_spread`` is the standard deviation of p_cblc over the members.
    """

    p_category: NDArray[np.float64]
    p_cblc: NDArray[np.float64]
    p_countable: NDArray[np.float64]
    category_index: NDArray[np.int64]
    is_cblc: NDArray[np.bool_]
    is_countable: NDArray[np.bool_]
    contradiction: NDArray[np.bool_]
    member_spread: NDArray[np.float64]


def call_cells(
    members: Sequence[Mapping[str, FloatArray]],
    n_cells: int,
    vocabulary: Vocabulary,
    rule: JointRule | None = None,
    statistics: ClassStatistics | None = None,
    *,
    predicts_plasma: bool = False,
) -> list[Call]:
    """Call the first ``n_cells`` crops of a batch from the network outputs of each ensemble member.

    A member's outputs are ``p_cblc`` (n, 2), ``p_countable`` (n, 2) and ``p_category`` (n, 16); the first member's
    ``embedding`` too where there are ``statistics``. ``rule`` is the bundle's joint calibration. ``predicts_plasma``:
    the bundle was trained to, and each member also gives ``p_plasma`` (n, 2). Raises BundleError if a network returns
    other shapes, or values that are not numbers.
    """
    _check_answers(members, n_cells, {"p_cblc": 2, "p_countable": 2, "p_category": len(vocabulary.categories)})
    p_category, p_cblc, p_countable = (
        np.stack([member[name][:n_cells] for member in members]) for name in ("p_category", "p_cblc", "p_countable")
    )
    calls = decode_calls(p_category, p_cblc[..., 1], p_countable[..., 1], vocabulary, rule)
    plasma: list[tuple[float | None, bool | None]] = [(None, None)] * n_cells
    if predicts_plasma:
        plasma = _call_plasma(members, n_cells, calls, vocabulary)
    distances: list[float | None] = [None] * n_cells
    if statistics is not None:
        embedding = _embedding(members[0], n_cells, statistics)
        found = embedding_distances(embedding, calls.category_index, statistics)
        distances = [None if np.isnan(value) else float(value) for value in found]
    return [
        Call(
            p_cblc=float(calls.p_cblc[index]),
            p_countable=float(calls.p_countable[index]),
            p_category=tuple(calls.p_category[index].tolist()),
            category=vocabulary.categories[calls.category_index[index]],
            is_cblc=bool(calls.is_cblc[index]),
            is_countable=bool(calls.is_countable[index]),
            contradiction=bool(calls.contradiction[index]),
            member_spread=float(calls.member_spread[index]) if len(members) > 1 else None,
            p_plasma=plasma[index][0],
            is_plasma=plasma[index][1],
            embedding_distance=distances[index],
        )
        for index in range(n_cells)
    ]


def _call_plasma(
    members: Sequence[Mapping[str, FloatArray]], n_cells: int, calls: Calls, vocabulary: Vocabulary
) -> list[tuple[float | None, bool | None]]:
    """Return each cell's probability of being a plasma cell, and whether it is called one.

    It is where that is at least 0.5 and the cell's call is one that a plasma cell has (``Vocabulary.plasma_triples``).
    """
    _check_answers(members, n_cells, {"p_plasma": 2})
    p = np.stack([member["p_plasma"][:n_cells, 1] for member in members]).mean(axis=0, dtype=np.float64)
    triples = zip(calls.category_index.tolist(), calls.is_cblc.tolist(), calls.is_countable.tolist(), strict=True)
    fits = np.array([triple in vocabulary.plasma_triples for triple in triples], dtype=np.bool_)
    return list(zip(p.tolist(), ((p >= _YES) & fits).tolist(), strict=True))


def _check_answers(members: Sequence[Mapping[str, FloatArray]], n_cells: int, widths: Mapping[str, int]) -> None:
    """Refuse probabilities of other shapes than ``widths``, and what is no probability."""
    for index, member in enumerate(members):
        for name, width in widths.items():
            found = member[name]
            if found.ndim != 2 or len(found) < n_cells or found.shape[1] != width:  # noqa: PLR2004  cells x classes
                message = f"classifier {index} gives {name} {found.shape}, expected ({n_cells}, {width})"
            elif not np.all((found >= 0) & (found <= 1 + _ROUNDING)):
                message = f"classifier {index} gives {name} outside 0-1 or NaN, expected probabilities"
            elif not found.any(axis=1).all():
                message = f"classifier {index} gives {name} of 0 for every class, expected probabilities"
            else:
                continue
            message += "; do not use the bundle, export it again"
            raise BundleError(message)


def _embedding(member: Mapping[str, FloatArray], n_cells: int, statistics: ClassStatistics) -> FloatArray:
    """Return the embeddings of the first cells; refuse others than the statistics are of."""
    found = member.get(EMBEDDING)
    width = statistics.n_dimensions
    if found is None or found.ndim != 2 or len(found) < n_cells or found.shape[1] != width:  # noqa: PLR2004  cells x width
        shape = "nothing" if found is None else found.shape
        message = f"classifier 0 gives {EMBEDDING} {shape}, expected ({n_cells}, {width})"
    elif not np.isfinite(found[:n_cells]).all():
        message = f"classifier 0 gives {EMBEDDING} with values that are not finite, expected numbers"
    else:
        return found[:n_cells]
    message += "; do not use the bundle, export it again"
    raise BundleError(message)


def decode_calls(
    p_category: NDArray[np.floating[Any]],
    p_cblc: NDArray[np.floating[Any]],
    p_countable: NDArray[np.floating[Any]],
    vocabulary: Vocabulary,
    rule: JointRule | None = None,
) -> Calls:
    """Call each cell from the heads' probabilities: of one network (n, 16), (n,), (n,), or of m members (m, n, ...).

    The mean over the members is that of their joint probabilities: each member's are the ones that were calibrated,
    and the ensemble's p_cblc is then the mean of theirs. Of exactly equal triples the first is called. A category with
    a probability of exactly 0 (not trained) is never called. Raises ValueError for mismatched shapes or values outside
    0-1.
    """
    one = np.ndim(p_cblc) == 1
    category, cblc, countable = (
        np.asarray(values, dtype=np.float64)[None] if one else np.asarray(values, dtype=np.float64)
        for values in (p_category, p_cblc, p_countable)
    )
    of_members = joint_probabilities(category, cblc, countable, vocabulary, rule)
    joint = of_members.mean(axis=0)
    found = marginals(joint, vocabulary)
    triples = np.array(vocabulary.call_triples, dtype=np.int64)
    is_cblc = found.p_cblc >= _YES
    is_countable = is_cblc | (found.p_countable >= _YES)  # every CBLC is countable; a last bit must not part them
    agrees = (triples[:, 1] == is_cblc[:, None]) & (triples[:, 2] == is_countable[:, None])
    best = triples[np.argmax(joint + 2 * agrees, axis=1)]
    heads = category.mean(axis=0), cblc.mean(axis=0), countable.mean(axis=0)
    alone = np.stack([np.argmax(heads[0], axis=1), heads[1] >= _YES, heads[2] >= _YES], axis=1)
    exists = (alone[:, None, :] == triples[None, :, :]).all(axis=2).any(axis=1)
    return Calls(
        p_category=found.p_category,
        p_cblc=found.p_cblc,
        p_countable=found.p_countable,
        category_index=best[:, 0],
        is_cblc=best[:, 1] == 1,
        is_countable=best[:, 2] == 1,
        contradiction=~exists,
        member_spread=np.std(marginals(of_members, vocabulary).p_cblc, axis=0),
    )
