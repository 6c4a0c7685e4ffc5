"""What a bundle learned from photographs of real cells, and what from simulated ones alone.

A class that was learned from simulated cells alone may fail on real ones, and nobody has seen how. It is marked so
wherever it is printed, and no blast estimate is given that needs it. Of a bundle that does not state its sources
nobody knows either: it marks nothing, and estimates no blasts on real photographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.patient.differential import PLASMA_PART
from marrowscope.vocabulary.labels import is_coarse, parse_coarse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from marrowscope.vocabulary import Code, Vocabulary

NOTED_CODES = ("M", "M1", "R", "R1", "R2", "J", "J1")
"""Raw codes that are named besides the categories: rare in public sets, and most of them decide a CBLC ratio."""

_TWINS = {"N0": "N", "M0": "M"}
"""Blasts labelled normal: no cell's appearance tells them from the others, so one code's real cells teach both."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Raw codes with a real training cell, and what has training cells of which none is real.

    ``simulated_only`` are categories in the vocabulary's order, then ``plasma``; ``simulated_only_codes`` are those of
    ``NOTED_CODES``.
    """

    real_codes: frozenset[str]
    simulated_only: tuple[str, ...]
    simulated_only_codes: tuple[str, ...]
    blasts: tuple[Code, ...]

    def row(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of the patients table."""
        return {"simulated_only": self.simulated_only, "simulated_only_codes": self.simulated_only_codes}

    def blasts_not_learned(self, condition: str | None) -> tuple[str, ...]:
        """Return the codes that a blast estimate counts under ``condition`` and that have no real training cell."""
        needed = [code.code for code in self.blasts if code.who_blast or code.who_blast_if == condition]
        twin_of = {code: twin for twin, code in _TWINS.items()}
        return tuple(
            code
            for code in needed
            if not self.real_codes & {code, twin_of.get(code, code)} and _TWINS.get(code) not in needed
        )


def learned_from(sources: Iterable[tuple[bool, Mapping[str, int]]], vocabulary: Vocabulary) -> Learned | None:
    """Return what was learned from ``sources``, pairs of "is simulated" and training cells by label; None without any.

    A label is a raw code or the stored text of a coarse label. A coarse label teaches the code that it names as the
    main one, the category that all its codes share, and plasma where all its codes are plasma cells.
    """
    codes: dict[bool, set[str]] = {True: set(), False: set()}
    classes: dict[bool, set[str]] = {True: set(), False: set()}
    stated = False
    for simulated, n_cells in sources:
        stated = True
        for text, n in n_cells.items():
            if n:
                label = vocabulary.read_label(text)
                main = parse_coarse(text).mainly if is_coarse(text) else text
                category = label.mainly or (label.categories[0] if len(label.categories) == 1 else None)
                codes[simulated] |= {main} if main else set()
                classes[simulated] |= ({category} if category else set()) | ({PLASMA_PART} if label.plasma else set())
    if not stated:
        return None
    only = classes[True] - classes[False]
    return Learned(
        real_codes=frozenset(codes[False]),
        simulated_only=tuple(name for name in (*vocabulary.categories, PLASMA_PART) if name in only),
        simulated_only_codes=tuple(code for code in NOTED_CODES if code in codes[True] - codes[False]),
        blasts=tuple(code for code in vocabulary.codes.values() if code.who_blast or code.who_blast_if),
    )
