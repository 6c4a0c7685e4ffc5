"""The raw codes that experts write, and the facts derived from each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary.code import Code
from marrowscope.vocabulary.labels import (
    FORM,
    RESERVED,
    ExpertLabel,
    is_coarse,
    label_of_code,
    label_of_set,
    parse_coarse,
)
from marrowscope.vocabulary.toml_file import (
    DATA_DIR,
    read_document,
    refuse,
    require_keys,
    require_rows,
    require_text,
    require_texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from marrowscope.vocabulary.labels import CoarseLabel

DEFAULT_VOCABULARY = DATA_DIR / "vocabulary.toml"


@dataclass(frozen=True)
class Vocabulary:
    """A versioned list of codes; ``sha256`` is the hash of the file's bytes, stored with every result."""

    name: str
    version: str
    sha256: str
    codes: Mapping[str, Code]
    categories: tuple[str, ...]

    def lookup(self, code: str, where: str = "", shape_index: int | None = None) -> Code:
        """Return the facts of ``code``; raises VocabularyError with the place and the nearest known code."""
        found = self.codes.get(code)
        if found is None:
            expected = f"a code of vocabulary {self.name} {self.version}"
            raise VocabularyError(unknown_label_message(code, self.codes, expected, where, shape_index))
        return found

    def read_label(self, text: str, where: str = "", shape_index: int | None = None) -> ExpertLabel:
        """Return what a stored label says: that of a raw code, or of a coarse label.

        Raises VocabularyError with the place for an unknown code and a coarse label that cannot be: one without codes,
        with one twice, with a ``mainly`` outside of its set, or with facts that no code of its set has.
        """
        if not is_coarse(text):
            return label_of_code(self.lookup(text, where, shape_index))
        place = where if shape_index is None else f"{where}, shape {shape_index}"
        prefix = f"{place}: " if place else ""
        try:
            label = parse_coarse(text)
        except ValueError as error:
            message = f"{prefix}found label {text!r} ({error}), expected {FORM}; correct the label"
            raise VocabularyError(message) from error
        return self.read_coarse(label, f"{prefix}label {text!r}")

    def read_coarse(self, label: CoarseLabel, where: str) -> ExpertLabel:
        """Return what a coarse label says; raises VocabularyError for one that cannot be (see ``read_label``)."""
        codes = tuple(self.lookup(code, where) for code in label.codes)
        if not codes:
            refuse(where, "an empty set of codes", "at least one code")
        if len(set(label.codes)) != len(codes):
            refuse(where, f"the codes {', '.join(label.codes)}", "each code once")
        if label.mainly is not None and label.mainly not in label.codes:
            refuse(where, f"mainly {label.mainly}", f"one of its codes {', '.join(label.codes)}")
        declared = {
            name: value for name, value in (("cblc", label.cblc), ("countable", label.countable)) if value is not None
        }
        if not any(all(getattr(code, name) == value for name, value in declared.items()) for code in codes):
            facts = " and ".join(f"{name} {'yes' if value else 'no'}" for name, value in declared.items())
            refuse(where, f"{facts} declared", f"what at least one of the codes {', '.join(label.codes)} is")
        mainly = None if label.mainly is None else self.codes[label.mainly]
        return label_of_set(label, codes, mainly)

    def category_index(self, code: str) -> int:
        """Position (0-15) of the category of raw code ``code``."""
        return self.categories.index(self.lookup(code).category)

    @cached_property
    def call_triples(self) -> tuple[tuple[int, bool, bool], ...]:
        """All (category index, cblc, countable) that some code has, in ascending order of category."""
        triples = {(self.categories.index(c.category), c.cblc, c.countable) for c in self.codes.values()}
        return tuple(sorted(triples))

    @cached_property
    def plasma_triples(self) -> frozenset[tuple[int, bool, bool]]:
        """The ``call_triples`` that a plasma cell has: only a cell with such a call can be called a plasma cell."""
        return frozenset(
            (self.categories.index(c.category), c.cblc, c.countable) for c in self.codes.values() if c.plasma
        )

    def codes_where(self, **facts: object) -> tuple[str, ...]:
        """Codes whose facts match all of ``facts``, as in ``codes_where(cblc=True)``, in the file's order."""
        return tuple(
            code for code, row in self.codes.items() if all(getattr(row, key) == value for key, value in facts.items())
        )


def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Read and check a vocabulary file; None reads the one that ships with the package.

    Raises VocabularyError with the file and row for a missing or unknown key, a duplicate code, an undeclared category,
    group, lineage or condition, a category without codes, and a CBLC that is not countable (the ratio could exceed 1).
    """
    return _shipped_vocabulary() if path is None else _read_vocabulary(path)


@cache
def _shipped_vocabulary() -> Vocabulary:
    return _read_vocabulary(DEFAULT_VOCABULARY)


def _read_vocabulary(path: Path) -> Vocabulary:
    document, sha256 = read_document(path)
    require_keys(
        document,
        {"schema_version", "name", "version", "categories", "paper_groups", "lineages", "conditions", "codes"},
        str(path),
    )
    require_text(document, ("name", "version"), str(path))
    require_texts(document, ("categories", "paper_groups", "lineages", "conditions"), str(path))
    codes: dict[str, Code] = {}
    for number, row in enumerate(require_rows(document, "codes", str(path))):
        code = _read_code(row, f"{path}, codes[{number}]", document)
        if code.code in codes:
            refuse(f"{path}, codes[{number}]", f"code {code.code!r} a second time", "each code once")
        codes[code.code] = code
    categories = tuple(document["categories"])
    if len(set(categories)) != len(categories):
        refuse(str(path), f"categories {list(categories)}", "each category once")
    empty = [name for name in categories if all(code.category != name for code in codes.values())]
    if empty:
        refuse(str(path), f"no code of category {', '.join(empty)}", "at least one code for each category")
    return Vocabulary(
        name=document["name"],
        version=document["version"],
        sha256=sha256,
        codes=MappingProxyType(codes),
        categories=categories,
    )


def _read_code(row: dict[str, Any], where: str, document: dict[str, Any]) -> Code:
    texts = {"code", "name", "category", "paper_group", "lineage"}
    flags = {"cblc", "countable", "ndc", "who_blast"}
    require_keys(row, texts | flags, where, optional={"who_blast_if", "plasma"})
    require_text(row, [*sorted(texts), *(["who_blast_if"] if "who_blast_if" in row else [])], where)
    for key in sorted(flags | ({"plasma"} & row.keys())):
        if not isinstance(row[key], bool):
            refuse(where, f"{key} = {row[key]!r}", "true or false")
    for key, allowed in (
        ("category", document["categories"]),
        ("paper_group", document["paper_groups"]),
        ("lineage", document["lineages"]),
        ("who_blast_if", [*document["conditions"], None]),
    ):
        if row.get(key) not in allowed:
            refuse(where, f"{key} = {row.get(key)!r}", f"one of {', '.join(str(item) for item in allowed)}")
    if any(character in row["code"] for character in RESERVED):
        refuse(where, f"code {row['code']!r}", f"a code without any of {' '.join(RESERVED)}")
    if row["cblc"] and not row["countable"]:
        refuse(where, f"code {row['code']!r} with cblc and not countable", "every CBLC to be countable")
    if row["who_blast"] and "who_blast_if" in row:
        refuse(where, "who_blast = true and who_blast_if", "a condition only where who_blast is false")
    return Code(**row)


def nearest(label: str, known: Iterable[str]) -> str | None:
    """Return the known label closest in spelling to ``label``, ignoring case, or None if none is similar."""
    by_folded = {item.casefold(): item for item in known}
    close = difflib.get_close_matches(label.strip().casefold(), by_folded, n=1, cutoff=0.3)
    return by_folded[close[0]] if close else None


def unknown_label_message(
    label: str, known: Iterable[str], expected: str, where: str = "", shape_index: int | None = None
) -> str:
    """Return the message for an unknown label: the place, what was found and expected, the nearest known label."""
    known = tuple(known)
    place = where if shape_index is None else f"{where}, shape {shape_index}"
    prefix = f"{place}: " if place else ""
    candidate = nearest(label, known)
    hint = f"the nearest is {candidate!r}" if candidate else f"known are {', '.join(known)}"
    return f"{prefix}found label {label!r}, expected {expected} ({hint}); correct the label or use a mapping file"
