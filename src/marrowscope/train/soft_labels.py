"""Soft labels for codes that experts confuse: label smoothing, restricted to stated groups.

A cell whose code is in a group gives a share of its label to the group's other codes, evenly, in every head: each head
gets what it says of those codes (category, CBLC, countable). The share of a class without a training cell stays with
the cell's own class. Cells of other codes keep their label alone, as does every cell without a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from marrowscope.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from marrowscope.vocabulary import Vocabulary

Shares = dict[str, "NDArray[np.float32]"]


def check_groups(groups: Sequence[Sequence[str]], vocabulary: Vocabulary) -> None:
    """Raise ConfigError for a code that the vocabulary does not have, a code in two groups, or a group of one."""
    codes = [code for group in groups for code in group]
    for code in codes:
        if code not in vocabulary.codes:
            message = f"confusable: found code {code!r}, expected codes of {vocabulary.name}; correct it"
            raise ConfigError(message)
        if codes.count(code) > 1:
            message = f"confusable: found code {code!r} twice, expected each code in one group at most; remove it"
            raise ConfigError(message)
    if any(len(group) < 2 for group in groups):  # noqa: PLR2004  a code alone has nothing to be confused with
        message = "confusable: found a group of one code, expected at least two; add a code or remove the group"
        raise ConfigError(message)


def given_away(
    codes: Sequence[str | None],
    labels: Mapping[str, NDArray[np.int64]],
    groups: Sequence[Sequence[str]],
    smoothing: float,
    trained: Mapping[str, Sequence[bool]],
) -> Shares:
    """Return by head the part of each crop's label (n, k) that goes to the group's other codes; 0 for most crops.

    ``codes`` (n,) are the crops' raw codes, None for an unlabeled one, and ``labels`` (n,) by head what they mean: a
    code without a crop gets nothing. ``trained`` (k,) tells which classes of a head have a training cell.
    """
    first: dict[str, int] = {}
    for place, code in enumerate(codes):
        if code is not None:
            first.setdefault(code, place)
    of_code: dict[str, dict[str, NDArray[np.float64]]] = {}
    for group in groups:
        present = [code for code in group if code in first]
        for code in present:
            others = [first[other] for other in present if other != code]
            of_code[code] = {
                head: _even_share(labels[head][others], smoothing, np.asarray(known)) for head, known in trained.items()
            }
    given = {head: np.zeros((len(codes), len(known)), dtype=np.float32) for head, known in trained.items()}
    for place, found in enumerate(codes):
        if found is not None and found in of_code:
            for head in trained:
                given[head][place] = of_code[found][head]
    return given


def _even_share(classes: NDArray[np.int64], smoothing: float, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Spread ``smoothing`` evenly over ``classes`` (m,), as (k,); what an untrained class would get is not given."""
    if len(classes) == 0:
        return np.zeros(len(known))
    share = np.bincount(classes, minlength=len(known)) * (smoothing / len(classes))
    return np.asarray(np.where(known, share, 0.0))


def soften(hard: Tensor, adjusted: Tensor, given: Tensor) -> Tensor:
    """Turn the cross-entropy (n,) of hard labels into that of soft ones.

    ``adjusted`` (n, k) are the logits that the hard loss was computed from, minus infinity for an untrained class;
    ``given`` (n, k) is the part of each label that other classes get.
    """
    elsewhere = -(given * torch.log_softmax(adjusted, dim=1).masked_fill(given == 0, 0.0)).sum(dim=1)
    return (1 - given.sum(dim=1)) * hard + elsewhere
