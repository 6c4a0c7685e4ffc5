"""What an expert's label says about a cell: one raw code, or less than one.

A coarse label stands for a set of codes. It is stored as a text that explains itself and never reads as one code:

    BLA{N,M,J,L; mainly N; cblc yes; countable yes}

the label's own name, the codes that the cell may be, the code that most such cells are where the mapping names it, and
the facts that the mapping declares. No table, file or bundle needs the mapping again to read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marrowscope.vocabulary.code import Code

RESERVED = "{};,"
"""Characters that neither a code nor the name of a coarse label may have."""

FORM = "NAME{CODE,CODE; mainly CODE; cblc yes|no; countable yes|no}, all but the codes optional"
_TEXT = re.compile(r"([^{}]*)\{([^{}]*)\}")
_PART = re.compile(r"(mainly|cblc|countable)\s+(\S+)")
_FLAGS = {"yes": True, "no": False}
_NAMES = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class CoarseLabel:
    """A label that says less than a code: the set of codes it stands for, and the facts declared for all its cells.

    ``cblc`` and ``countable`` are None where nothing is declared. ``mainly`` is the code of the set that most cells of
    the label have; training counts the label as a label of that code's category (train/imbalance.py).
    """

    name: str
    codes: tuple[str, ...]
    cblc: bool | None = None
    countable: bool | None = None
    mainly: str | None = None

    @property
    def text(self) -> str:
        """The stored form."""
        parts = [",".join(self.codes)]
        if self.mainly is not None:
            parts.append(f"mainly {self.mainly}")
        for name, value in (("cblc", self.cblc), ("countable", self.countable)):
            if value is not None:
                parts.append(f"{name} {_NAMES[value]}")
        return f"{self.name}{{{'; '.join(parts)}}}"


@dataclass(frozen=True, slots=True)
class ExpertLabel:
    """What a stored label says: ``codes`` the cell may have, and the facts that are known in spite of the choice.

    ``cblc`` and ``countable`` are those that all codes share, else those that the label declares, else None: undecided.
    ``plasma`` is what all codes share, else None.
    ``mainly`` is the category of the code that most cells of a coarse label have, None where it names none.
    """

    text: str
    codes: tuple[Code, ...]
    cblc: bool | None
    countable: bool | None
    mainly: str | None = None
    plasma: bool | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that the cell may have, each once."""
        return tuple(dict.fromkeys(code.category for code in self.codes))

    @property
    def is_coarse(self) -> bool:
        """Whether the label leaves several codes open."""
        return len(self.codes) > 1

    @property
    def short(self) -> str:
        """The label for tables and figures: without the declarations."""
        return (
            f"{self.text.split('{')[0]}{{{','.join(code.code for code in self.codes)}}}"
            if "{" in self.text
            else self.text
        )


def is_coarse(text: str) -> bool:
    """Tell whether a stored label has the form of a coarse one, correct or not."""
    return "{" in text or "}" in text


def parse_coarse(text: str) -> CoarseLabel:
    """Read a coarse label from its stored form; raises ValueError that names the part that does not fit.

    Spaces around the parts do not matter. Whether its codes exist is for the vocabulary to say.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None or not found[1].strip():
        message = "no name and one pair of braces"
        raise ValueError(message)
    first, *parts = (part.strip() for part in found[2].split(";"))
    declared: dict[str, str] = {}
    for part in parts:
        match = _PART.fullmatch(part)
        if match is None or match[1] in declared:
            message = f"the part {part!r}"
            raise ValueError(message)
        declared[match[1]] = match[2]
    for name in ("cblc", "countable"):
        if declared.get(name, "yes") not in _FLAGS:
            message = f"the part '{name} {declared[name]}'"
            raise ValueError(message)
    return CoarseLabel(
        name=found[1].strip(),
        codes=tuple(code.strip() for code in first.split(",") if code.strip()),
        cblc=_FLAGS.get(declared.get("cblc", "")),
        countable=_FLAGS.get(declared.get("countable", "")),
        mainly=declared.get("mainly"),
    )


def label_of_code(code: Code) -> ExpertLabel:
    """Return what a label of one code says."""
    return ExpertLabel(code.code, (code,), code.cblc, code.countable, plasma=code.plasma)


def label_of_set(label: CoarseLabel, codes: tuple[Code, ...], mainly: Code | None) -> ExpertLabel:
    """Return what a coarse label says of a cell.

    A declared fact has priority over a shared one; both are the same where the vocabulary let the label pass. Every
    CBLC is countable, so a label that says CBLC says countable.
    """
    shared: dict[str, bool | None] = {}
    for name in ("cblc", "countable"):
        values = {getattr(code, name) for code in codes}
        declared = getattr(label, name)
        shared[name] = declared if declared is not None else values.pop() if len(values) == 1 else None
    cblc, countable = shared["cblc"], shared["countable"]
    if countable is None and cblc:
        countable = True
    if cblc is None and countable is False:
        cblc = False
    plasma = codes[0].plasma if len({code.plasma for code in codes}) == 1 else None
    return ExpertLabel(label.text, codes, cblc, countable, None if mainly is None else mainly.category, plasma)
