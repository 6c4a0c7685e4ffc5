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
from marrowscope.train.config import HEADS

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
    groups: Sequence[Sequence[str]],
    smoothing: float,
    trained: Mapping[str, Sequence[bool]],
    vocabulary: Vocabulary,
) -> Shares:
    """Return by head the part of each crop's label (n, k) that goes to the group's other codes; 0 for most crops.

    ``codes`` (n,) are the crops' raw codes, None for an unlabeled one; ``trained`` (k,) tells which classes of a head
    have a training cell.
    """
    rows = {head: np.zeros((len(codes), len(known)), dtype=np.float32) for head, known in trained.items()}
    of_code: dict[str, dict[str, NDArray[np.float32]]] = {}
    for group in groups:
        for code in group:
            others = [vocabulary.lookup(other) for other in group if other != code]
            facts = {
                "cblc": [int(entry.cblc) for entry in others],
                "countable": [int(entry.countable) for entry in others],
                "category": [vocabulary.categories.index(entry.category) for entry in others],
            }
            of_code[code] = {}
            for head in HEADS:
                known = np.asarray(trained[head])
                share = np.bincount(facts[head], minlength=len(known)) * (smoothing / len(others))
                of_code[code][head] = np.where(known, share, 0.0).astype(np.float32)
    for place, found in enumerate(codes):
        if found is not None and found in of_code:
            for head in HEADS:
                rows[head][place] = of_code[found][head]
    return rows


def soften(hard: Tensor, adjusted: Tensor, given: Tensor) -> Tensor:
    """Turn the cross-entropy (n,) of hard labels into that of soft ones.

    ``adjusted`` (n, k) are the logits that the hard loss was computed from, minus infinity for an untrained class;
    ``given`` (n, k) is the part of each label that other classes get.
    """
    elsewhere = -(given * torch.log_softmax(adjusted, dim=1).masked_fill(given == 0, 0.0)).sum(dim=1)
    return (1 - given.sum(dim=1)) * hard + elsewhere
