"""From the probabilities of the three heads to one call per cell: category, CBLC and countable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.errors import BundleError
from marrowscope.records import Call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import FloatArray
    from marrowscope.vocabulary import Vocabulary

_SMALLEST_P = 1e-12
_ROUNDING = 1e-3
"""Rounding error allowed above 1 in the softmax of a low-precision network."""


@dataclass(frozen=True, slots=True)
class Calls:
    """One call per cell, arrays of length n.

    ``contradiction`` marks cells whose heads, each taken alone, give a combination that no raw code has. These cells
    are counted too, with their joint call.
    """

    category_index: NDArray[np.int64]
    is_cblc: NDArray[np.bool_]
    is_countable: NDArray[np.bool_]
    contradiction: NDArray[np.bool_]


def call_cells(
    members: Sequence[Mapping[str, FloatArray]], n_cells: int, vocabulary: Vocabulary, *, predicts_plasma: bool = False
) -> list[Call]:
    """Call the first ``n_cells`` crops of a batch from the network outputs of each ensemble member.

    A member's outputs are ``p_cblc`` (n, 2), ``p_countable`` (n, 2) and ``p_category`` (n, 16). The ensemble's
    probabilities are the means over the members. ``predicts_plasma``: the bundle was trained to, and each member also
    gives ``p_plasma`` (n, 2). Raises
    BundleError if a network returns other shapes, or values that are not numbers.
    """
    _check_answers(members, n_cells, {"p_cblc": 2, "p_countable": 2, "p_category": len(vocabulary.categories)})
    p_cblc, p_countable, p_category = (
        np.asarray(np.mean([member[name][:n_cells] for member in members], axis=0), dtype=np.float64)
        for name in ("p_cblc", "p_countable", "p_category")
    )
    spread = [None] * n_cells
    if len(members) > 1:
        spread = np.std([member["p_cblc"][:n_cells, 1] for member in members], axis=0).tolist()
    calls = decode_calls(p_category, p_cblc[:, 1], p_countable[:, 1], vocabulary)
    plasma = _call_plasma(members, n_cells, calls, vocabulary) if predicts_plasma else [(None, None)] * n_cells
    return [
        Call(
            p_cblc=float(p_cblc[index, 1]),
            p_countable=float(p_countable[index, 1]),
            p_category=tuple(p_category[index].tolist()),
            category=vocabulary.categories[calls.category_index[index]],
            is_cblc=bool(calls.is_cblc[index]),
            is_countable=bool(calls.is_countable[index]),
            contradiction=bool(calls.contradiction[index]),
            member_spread=spread[index],
            p_plasma=plasma[index][0],
            is_plasma=plasma[index][1],
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
    p = np.asarray(np.mean([member["p_plasma"][:n_cells, 1] for member in members], axis=0), dtype=np.float64)
    triples = zip(calls.category_index.tolist(), calls.is_cblc.tolist(), calls.is_countable.tolist(), strict=True)
    fits = np.array([triple in vocabulary.plasma_triples for triple in triples], dtype=np.bool_)
    return list(zip(p.tolist(), ((p >= 0.5) & fits).tolist(), strict=True))  # noqa: PLR2004


def _check_answers(members: Sequence[Mapping[str, FloatArray]], n_cells: int, widths: Mapping[str, int]) -> None:
    """Refuse probabilities of other shapes than ``widths``, and what is no probability."""
    for index, member in enumerate(members):
        for name, width in widths.items():
            found = member[name]
            if found.ndim != 2 or len(found) < n_cells or found.shape[1] != width:  # noqa: PLR2004  cells x classes
                message = f"classifier {index} gives {name} {found.shape}, expected ({n_cells}, {width})"
            elif not np.all((found >= 0) & (found <= 1 + _ROUNDING)):
                message = f"classifier {index} gives {name} outside 0-1 or NaN, expected probabilities"
            else:
                continue
            message += "; do not use the bundle, export it again"
            raise BundleError(message)


def decode_calls(
    p_category: NDArray[np.floating[Any]],
    p_cblc: NDArray[np.floating[Any]],
    p_countable: NDArray[np.floating[Any]],
    vocabulary: Vocabulary,
) -> Calls:
    """Call each cell with the most probable (category, cblc, countable) that some raw code has.

    ``p_category`` (n, 16), ``p_cblc`` (n,), ``p_countable`` (n,), probabilities 0-1. The heads' log-probabilities
    are summed for each triple in ``vocabulary.call_triples``, and the largest sum wins. A category with a probability
    of exactly 0 (not trained) is never called. Raises ValueError for mismatched shapes or values outside 0-1.
    """
    category = np.asarray(p_category, dtype=np.float64)
    heads = np.stack([np.asarray(p_cblc, dtype=np.float64), np.asarray(p_countable, dtype=np.float64)])
    n_categories = len(vocabulary.categories)
    if category.ndim != 2 or category.shape != (heads.shape[1], n_categories):  # noqa: PLR2004  cells x categories
        message = f"p_category: found shape {category.shape}, expected ({heads.shape[1]}, {n_categories})"
        raise ValueError(message)
    if not all(np.all((values >= 0) & (values <= 1 + _ROUNDING)) for values in (category, heads)):
        message = "found probabilities outside 0-1 or not finite, expected softmax outputs of the three heads"
        raise ValueError(message)
    triples = np.array(vocabulary.call_triples, dtype=np.int64)
    with np.errstate(divide="ignore"):
        log_category = np.where(category > 0, np.log(category), -np.inf)
    log_yes = np.log(np.maximum(heads, _SMALLEST_P))
    log_no = np.log(np.maximum(1 - heads, _SMALLEST_P))
    total = log_category[:, triples[:, 0]]
    for head, column in enumerate((1, 2)):
        total = total + np.where(triples[None, :, column] == 1, log_yes[head][:, None], log_no[head][:, None])
    best = triples[np.argmax(total, axis=1)]
    alone = np.stack([np.argmax(category, axis=1), heads[0] >= 0.5, heads[1] >= 0.5], axis=1)  # noqa: PLR2004
    exists = (alone[:, None, :] == triples[None, :, :]).all(axis=2).any(axis=1)
    return Calls(best[:, 0], best[:, 1] == 1, best[:, 2] == 1, ~exists)
