"""One raw code, and the facts derived from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One raw code with all facts derived from it.

    ``countable``: the cell is in the denominator of the CBLC ratio. ``ndc``: it counts in the nucleated differential (a
    promegakaryocyte is countable but not in the differential). ``who_blast``: it always counts in the WHO-style myeloid
    blast estimate. ``who_blast_if``: it counts only if this diagnosis is declared. ``plasma``: a cell of the plasma
    cell line, which reports list apart from the rest of its category.
    """

    code: str
    name: str
    category: str
    paper_group: str
    lineage: str
    cblc: bool
    countable: bool
    ndc: bool
    who_blast: bool
    who_blast_if: str | None = None
    plasma: bool = False
