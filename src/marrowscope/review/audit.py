"""A random audit of one patient's cells: which cells a reader names without seeing the machine's calls.

1. The frame is frozen: every kept cell with its call, how sure the machine was, and whether a reader named it before.
2. Cells named before are a take-all stratum. They were chosen for some reason, so they say nothing about the others.
3. The others form strata by call and certainty; cells called not countable are one stratum.
4. Each stratum is put into a random order. The cells of a look are the first of each order, so a later look contains
   every earlier one, and each is a simple random sample without replacement.

Invariant: who is drawn depends on the seed and the cell ids alone. The order is that of the SHA-256 of seed and id:
anyone can draw it again, on any machine and with any version, and neither the rows' order nor the other cells matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from marrowscope.config import FrozenModel, validate_config
from marrowscope.errors import ConfigError, ReviewError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.vocabulary import Vocabulary

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]

CBLC, OTHER, NOT_COUNTABLE = 0, 1, 2
"""What a cell is for the ratio: in numerator and denominator, in the denominator alone, in neither."""

N_SIDES = 3
LOOKS = (50, 100, 200)
"""Sizes of an audit, and the only moments at which a growing one may be looked at."""

FEWEST_DRAWN = LOOKS[0]
"""Cells that chance must have drawn before an audit says anything; where fewer are left, all of them are named."""

FEWEST_PER_STRATUM = 10
CERTAIN = 0.9
"""From this probability of the call on, a call is certain. A fixed value, so that strata mean the same everywhere."""

StratumKey = Literal["cblc_certain", "cblc_uncertain", "other_certain", "other_uncertain", "not_countable"]
STRATUM_KEYS: tuple[StratumKey, ...] = get_args(StratumKey)


@dataclass(frozen=True, slots=True)
class FrameCell:
    """One cell of the frame as it stands when the audit is drawn. ``p_cblc`` is the machine's probability, 0-1."""

    cell_id: str
    called_cblc: bool
    called_countable: bool
    p_cblc: float
    reviewed: bool = False

    @property
    def stratum(self) -> StratumKey:
        """The stratum by call and certainty."""
        if not self.called_countable:
            return "not_countable"
        if self.called_cblc:
            return "cblc_certain" if self.p_cblc >= CERTAIN else "cblc_uncertain"
        return "other_certain" if 1 - self.p_cblc >= CERTAIN else "other_uncertain"


class AuditStratum(FrozenModel):
    """One stratum: how many cells it has, and those drawn, in the order they were drawn.

    ``n_by_look`` says how many of ``drawn`` belong to each look of the audit.
    """

    key: StratumKey
    n_cells: int
    drawn: tuple[str, ...]
    n_by_look: tuple[int, ...]

    def inclusion(self, look: int) -> float:
        """Probability that a cell of this stratum was drawn by look number ``look``, the first being 0."""
        return self.n_by_look[look] / self.n_cells


class Audit(FrozenModel):
    """A drawn audit, frozen: what its event stores, and all that the estimate needs besides the answers.

    ``sizes`` are the cells of each look. ``reviewed`` are the cells that were named before it was drawn.
    """

    seed: str
    sizes: tuple[int, ...]
    reviewed: tuple[str, ...]
    strata: tuple[AuditStratum, ...]

    @model_validator(mode="after")
    def _add_up(self) -> Audit:
        for stratum in self.strata:
            rising = list(stratum.n_by_look) == sorted(stratum.n_by_look)
            if len(stratum.n_by_look) != len(self.sizes) or not rising:
                message = f"stratum {stratum.key}: n_by_look has not one rising number for each look"
                raise ValueError(message)
            if (
                not len(set(stratum.drawn))
                == len(stratum.drawn)
                == max(stratum.n_by_look, default=0)
                <= stratum.n_cells
            ):
                message = f"stratum {stratum.key}: its drawn cells are not as many different ones as its last look has"
                raise ValueError(message)
        if [sum(stratum.n_by_look[look] for stratum in self.strata) for look in range(len(self.sizes))] != [
            *self.sizes
        ]:
            message = "the strata's cells do not add up to the sizes of the looks"
            raise ValueError(message)
        return self

    @property
    def n_cells(self) -> int:
        """Cells of the frame."""
        return len(self.reviewed) + sum(stratum.n_cells for stratum in self.strata)

    def cells_of_look(self, look: int) -> tuple[str, ...]:
        """Cells that look number ``look`` adds to those before it, in the order to show them.

        All strata are mixed: a reader who sees the cells of one stratum in a row could guess the call.
        """
        added = [
            cell_id
            for stratum in self.strata
            for cell_id in stratum.drawn[stratum.n_by_look[look - 1] if look else 0 : stratum.n_by_look[look]]
        ]
        return tuple(sorted(added, key=lambda cell_id: _place(f"{self.seed}:shown", cell_id)))


class DrawnAudit(FrozenModel):
    """What the event of a drawn audit stores: the audit, the fields to check, and who was named what before.

    Events of earlier versions have no ``named``.
    """

    audit: Audit
    fields: tuple[str, ...]
    named: dict[str, str | None] | None = None


def check_drawn(value: Any, where: str) -> None:  # noqa: ANN401 - any value of JSON
    """Raise ReviewError unless ``value`` is what the event ``where`` of a drawn audit stores."""
    try:
        validate_config(DrawnAudit, value, where=where)
    except ConfigError as error:
        message = f"{error}; ask `marrowscope review verify` whether it was edited, and restore a backup"
        raise ReviewError(message) from error


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """Answers by stratum, (H,) and (H, 3): what the estimate reads. Cells named before are a stratum seen in full."""

    n_cells: IntArray
    named: IntArray

    @property
    def n_named(self) -> IntArray:
        """Named cells of each stratum, (H,)."""
        return np.asarray(self.named.sum(axis=-1), dtype=np.int64)


def draw_audit(frame: Sequence[FrameCell], seed: str, sizes: Sequence[int] = LOOKS) -> Audit:
    """Draw an audit of the cells that nobody named, for looks at ``sizes`` cells.

    ``seed`` should come from a source that the reader cannot choose. A patient with fewer cells than a size gets all of
    them: its looks end there. Raises ValueError for an empty frame, two cells of one id, or sizes that do not rise.
    """
    if not frame:
        message = "found a patient without a cell, expected cells to audit; predict fields that show some"
        raise ValueError(message)
    if len({cell.cell_id for cell in frame}) != len(frame):
        message = f"found {count_of(len(frame), 'cell')}, some with the same id, expected an id of its own for each"
        raise ValueError(message)
    if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        message = f"found sizes {list(sizes)} of an audit, expected rising numbers of cells, such as 50, 100, 200"
        raise ValueError(message)
    members: dict[StratumKey, list[str]] = {key: [] for key in STRATUM_KEYS}
    for cell in frame:
        if not cell.reviewed:
            members[cell.stratum].append(cell.cell_id)
    n_cells = np.array([len(members[key]) for key in STRATUM_KEYS], dtype=np.int64)
    n_open = int(n_cells.sum())
    reached = tuple(sorted({min(size, n_open) for size in sizes}))
    by_look = np.array([allocate(n_cells, size) for size in reached])
    strata = []
    for index, key in enumerate(STRATUM_KEYS):
        if n_cells[index]:
            order = sorted(members[key], key=lambda cell_id: _place(seed, cell_id))
            n_by_look = tuple(by_look[:, index].tolist())
            drawn = tuple(order[: n_by_look[-1]])
            strata.append(AuditStratum(key=key, n_cells=int(n_cells[index]), drawn=drawn, n_by_look=n_by_look))
    reviewed = tuple(sorted(cell.cell_id for cell in frame if cell.reviewed))
    return Audit(seed=seed, sizes=reached, reviewed=reviewed, strata=tuple(strata))


def allocate(n_cells: IntArray, size: int, spread: RealArray | float = 1.0) -> IntArray:
    """Share ``size`` cells among strata of ``n_cells`` (..., H): min(10, N_h) each, the rest in proportion to N_h.

    The next cell goes to the stratum with the highest N_h / sqrt(n_h (n_h + 1)): the exact optimum in whole cells where
    strata vary alike (Wright, Am Stat 2012;66:217), and a larger size never takes a cell from a stratum. A size below
    the sum of the minima is dealt in turns. ``spread`` (..., H) weighs strata by how much they vary (Neyman); audits
    leave it at 1, because it would have to come from the machine's own probabilities, and these may be wrong in exactly
    the patients who need an audit.
    """
    n_cells = np.asarray(n_cells, dtype=np.int64)
    n_strata = n_cells.shape[-1]
    longest = min(int(n_cells.max(initial=0)), size)
    k = np.arange(longest, dtype=np.float64)
    weight = (n_cells * np.broadcast_to(spread, n_cells.shape))[..., None]
    turn = 1e12 * (FEWEST_PER_STRATUM - k) + n_cells[..., None]
    worth = np.where(k < FEWEST_PER_STRATUM, turn, weight / np.sqrt(np.maximum(k * (k + 1), 1.0)))
    worth = np.where(k < n_cells[..., None], worth, -1.0).reshape(*n_cells.shape[:-1], n_strata * longest)
    best = np.argsort(-worth, axis=-1, kind="stable")[..., :size]
    taken = np.take_along_axis(worth, best, axis=-1) >= 0
    owner = best // max(longest, 1)
    return np.stack([((owner == h) & taken).sum(axis=-1) for h in range(n_strata)], axis=-1)


def count_answers(audit: Audit, sides: Mapping[str, int], look: int = -1) -> AuditCounts:
    """Count the answers of a look, the last one by default, by stratum; ``sides`` maps each named cell to its side.

    Cells outside the audit are ignored, also those named after it was drawn: only what chance chose may speak for
    others. Raises ValueError if a cell of the look, or one named before, has no answer: no cell may be skipped.
    """
    look = range(len(audit.sizes))[look]
    rows = [(len(audit.reviewed), audit.reviewed)] if audit.reviewed else []
    rows += [(stratum.n_cells, stratum.drawn[: stratum.n_by_look[look]]) for stratum in audit.strata]
    missing = sum(cell_id not in sides for _, cells in rows for cell_id in cells)
    if missing:
        message = (
            f"found {count_of(missing, 'cell')} of the audit without an answer, expected none; "
            "name every cell, as not a cell where it is none"
        )
        raise ValueError(message)
    named = [np.bincount([sides[cell_id] for cell_id in cells], minlength=N_SIDES) for _, cells in rows]
    return AuditCounts(
        np.array([n_cells for n_cells, _ in rows], dtype=np.int64),
        np.array(named, dtype=np.int64).reshape(-1, N_SIDES),
    )


def side_of(code: str | None, vocabulary: Vocabulary) -> int:
    """Side of a named cell; None is what a reader says is not a cell."""
    if code is None:
        return NOT_COUNTABLE
    facts = vocabulary.codes[code]
    if not facts.countable:
        return NOT_COUNTABLE
    return CBLC if facts.cblc else OTHER


def sides_of(codes: Mapping[str, str | None], vocabulary: Vocabulary) -> dict[str, int]:
    """Sides of many named cells."""
    return {cell_id: side_of(code, vocabulary) for cell_id, code in codes.items()}


def _place(seed: str, cell_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{cell_id}".encode()).digest()
