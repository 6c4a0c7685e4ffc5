"""The raw codes that experts write, and the facts derived from each.

The raw code is the stored ground truth. Category, paper group, lineage, CBLC, countable, nucleated differential and WHO
blast are separate columns of one versioned, hashed TOML file; none of them follows from another. A mapping file
translates the labels of another scheme to raw codes. Reference ranges are in a separate file, one named column with a
mark for the origin of each value.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from marrowscope.config import UNREADABLE, one_line
from marrowscope.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DATA_DIR = Path(__file__).parent / "data"
DEFAULT_VOCABULARY = DATA_DIR / "vocabulary.toml"
DEFAULT_REFERENCE_RANGES = DATA_DIR / "reference_ranges.toml"
MAPPINGS_DIR = DATA_DIR / "mappings"
SCHEMA_VERSION = 1
_MARKS = frozenset({"S", "K", "I"})
_MAX_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Code:
    """One raw code with all facts derived from it.

    ``countable``: the cell is in the denominator of the CBLC ratio. ``ndc``: it counts in the nucleated differential (a
    promegakaryocyte is countable but not in the differential). ``who_blast``: it always counts in the WHO-style myeloid
    blast estimate. ``who_blast_if``: it counts only if this diagnosis is declared.
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
            raise VocabularyError(_unknown_label_message(code, self.codes, expected, where, shape_index))
        return found

    def category_index(self, code: str) -> int:
        """Position (0-15) of the category of raw code ``code``."""
        return self.categories.index(self.lookup(code).category)

    @cached_property
    def call_triples(self) -> tuple[tuple[int, bool, bool], ...]:
        """All (category index, cblc, countable) that some code has, in ascending order of category."""
        triples = {(self.categories.index(c.category), c.cblc, c.countable) for c in self.codes.values()}
        return tuple(sorted(triples))

    def codes_where(self, **facts: object) -> tuple[str, ...]:
        """Codes whose facts match all of ``facts``, as in ``codes_where(cblc=True)``, in the file's order."""
        return tuple(
            code for code, row in self.codes.items() if all(getattr(row, key) == value for key, value in facts.items())
        )


@dataclass(frozen=True, slots=True)
class MappedLabel:
    """One foreign label: the raw code it becomes, or the reason it is dropped, and if that is approximate."""

    label: str
    meaning: str
    code: str | None
    approximate: str | None = None
    drop: str | None = None


@dataclass(frozen=True)
class LabelMapping:
    """A translation of another scheme's labels to the raw codes of one vocabulary."""

    name: str
    version: str
    vocabulary: str
    source: str
    sha256: str
    labels: Mapping[str, MappedLabel]

    def translate(self, label: str, where: str, shape_index: int | None = None) -> str | None:
        """Return the raw code of ``label``, or None if the mapping drops it on purpose.

        Raises VocabularyError with the file, the shape and the nearest known label.
        """
        found = self.labels.get(label)
        if found is None:
            expected = f"a label of mapping {self.name} {self.version}"
            raise VocabularyError(_unknown_label_message(label, self.labels, expected, where, shape_index))
        return found.code

    def check_against(self, vocabulary: Vocabulary) -> None:
        """Raise VocabularyError unless the mapping is for ``vocabulary`` and all its targets are codes of it."""
        if self.vocabulary != vocabulary.name:
            message = (
                f"mapping {self.name}: made for vocabulary {self.vocabulary!r}, found {vocabulary.name!r}; "
                "give the mapping and the vocabulary that belong together"
            )
            raise VocabularyError(message)
        for item in self.labels.values():
            if item.code is not None:
                vocabulary.lookup(item.code, where=f"mapping {self.name}, label {item.label!r}")


@dataclass(frozen=True, slots=True)
class ReferenceRange:
    """One row of adult marrow ranges: percent of nucleated cells, or a ratio if ``denominator_codes`` is given.

    ``mark``: S found in a source, K general knowledge not verified, I inference; it is printed next to the value.
    """

    row: str
    name: str
    unit: str
    codes: tuple[str, ...]
    low: float
    high: float
    mark: str
    denominator_codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReferenceRanges:
    """The ranges of one named column, for one specimen and age group, with a sentence on the source."""

    column: str
    vocabulary: str
    specimen: str
    age_group: str
    source: str
    sha256: str
    ranges: Mapping[str, ReferenceRange] = field(default_factory=dict)


def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Read and check a vocabulary file; None reads the one that ships with the package.

    Raises VocabularyError with the file and row for a missing or unknown key, a duplicate code, an undeclared category,
    group, lineage or condition, a category without codes, and a CBLC that is not countable (the ratio could exceed 1).
    """
    path = path or DEFAULT_VOCABULARY
    document, sha256 = _read_document(path)
    _require_keys(
        document,
        {"schema_version", "name", "version", "categories", "paper_groups", "lineages", "conditions", "codes"},
        str(path),
    )
    _require_text(document, ("name", "version"), str(path))
    _require_texts(document, ("categories", "paper_groups", "lineages", "conditions"), str(path))
    codes: dict[str, Code] = {}
    for number, row in enumerate(_require_rows(document, "codes", str(path))):
        code = _read_code(row, f"{path}, codes[{number}]", document)
        if code.code in codes:
            _refuse(f"{path}, codes[{number}]", f"code {code.code!r} a second time", "each code once")
        codes[code.code] = code
    categories = tuple(document["categories"])
    if len(set(categories)) != len(categories):
        _refuse(str(path), f"categories {list(categories)}", "each category once")
    empty = [name for name in categories if all(code.category != name for code in codes.values())]
    if empty:
        _refuse(str(path), f"no code of category {', '.join(empty)}", "at least one code for each category")
    return Vocabulary(
        name=document["name"],
        version=document["version"],
        sha256=sha256,
        codes=MappingProxyType(codes),
        categories=categories,
    )


def mapping_names() -> tuple[str, ...]:
    """Names of the mapping files that ship with the package."""
    return tuple(sorted(path.stem for path in MAPPINGS_DIR.glob("*.toml")))


def load_mapping(name_or_path: str | Path) -> LabelMapping:
    """Read a mapping by the name of a shipped file (``munich-marrow-21``) or by path. Raises VocabularyError."""
    path = Path(name_or_path)
    if str(name_or_path) in mapping_names():
        path = MAPPINGS_DIR / f"{name_or_path}.toml"
    elif not path.is_file():
        message = (
            f"{name_or_path}: not found, neither a built-in mapping nor a file; expected a path or one of "
            f"{', '.join(mapping_names())}"
        )
        raise VocabularyError(message)
    document, sha256 = _read_document(path)
    _require_keys(document, {"schema_version", "name", "version", "vocabulary", "source", "labels"}, str(path))
    _require_text(document, ("name", "version", "vocabulary", "source"), str(path))
    labels: dict[str, MappedLabel] = {}
    for number, row in enumerate(_require_rows(document, "labels", str(path))):
        where = f"{path}, labels[{number}]"
        _require_keys(row, {"label"}, where, optional={"meaning", "code", "approximate", "drop"})
        _require_text(row, row.keys(), where)
        if ("code" in row) == ("drop" in row):
            _refuse(where, f"keys {', '.join(row)}", "either code, or drop with the reason")
        if row["label"] in labels:
            _refuse(where, f"label {row['label']!r} a second time", "each label once")
        labels[row["label"]] = MappedLabel(
            label=row["label"],
            meaning=row.get("meaning", ""),
            code=row.get("code"),
            approximate=row.get("approximate"),
            drop=row.get("drop"),
        )
    return LabelMapping(
        name=document["name"],
        version=document["version"],
        vocabulary=document["vocabulary"],
        source=document["source"],
        sha256=sha256,
        labels=MappingProxyType(labels),
    )


def load_reference_ranges(path: Path | None = None) -> ReferenceRanges:
    """Read the reference ranges (None: the shipped file). Raises VocabularyError with the file and row."""
    path = path or DEFAULT_REFERENCE_RANGES
    document, sha256 = _read_document(path)
    header = {"schema_version", "vocabulary", "column", "specimen", "age_group", "source"}
    _require_keys(document, header | {"ranges"}, str(path))
    _require_text(document, sorted(header - {"schema_version"}), str(path))
    ranges: dict[str, ReferenceRange] = {}
    for number, row in enumerate(_require_rows(document, "ranges", str(path))):
        where = f"{path}, ranges[{number}]"
        required = {"row", "name", "unit", "codes", "low", "high", "mark"}
        _require_keys(row, required, where, optional={"denominator_codes"})
        _require_text(row, ("row", "name", "unit", "mark"), where)
        _require_texts(row, [key for key in ("codes", "denominator_codes") if key in row], where)
        for key in ("low", "high"):
            if isinstance(row[key], bool) or not isinstance(row[key], int | float):
                _refuse(where, f"{key} = {row[key]!r}", "a number")
        if row["mark"] not in _MARKS:
            _refuse(where, f"mark {row['mark']!r}", f"one of {', '.join(sorted(_MARKS))}")
        if not 0 <= row["low"] <= row["high"]:
            _refuse(where, f"low {row['low']} and high {row['high']}", "0 <= low <= high")
        if (row["unit"] == "ratio") != ("denominator_codes" in row):
            _refuse(where, f"unit {row['unit']!r}", "denominator_codes with the unit ratio, and only there")
        ranges[row["row"]] = ReferenceRange(
            row=row["row"],
            name=row["name"],
            unit=row["unit"],
            codes=tuple(row["codes"]),
            low=float(row["low"]),
            high=float(row["high"]),
            mark=row["mark"],
            denominator_codes=tuple(row.get("denominator_codes", ())),
        )
    return ReferenceRanges(
        column=document["column"],
        vocabulary=document["vocabulary"],
        specimen=document["specimen"],
        age_group=document["age_group"],
        source=document["source"],
        sha256=sha256,
        ranges=MappingProxyType(ranges),
    )


def nearest(label: str, known: Iterable[str]) -> str | None:
    """Return the known label closest in spelling to ``label``, ignoring case, or None if none is similar."""
    by_folded = {item.casefold(): item for item in known}
    close = difflib.get_close_matches(label.strip().casefold(), by_folded, n=1, cutoff=0.3)
    return by_folded[close[0]] if close else None


def _unknown_label_message(
    label: str, known: Iterable[str], expected: str, where: str = "", shape_index: int | None = None
) -> str:
    """Return the message for an unknown label: the place, what was found and expected, the nearest known label."""
    known = tuple(known)
    place = where if shape_index is None else f"{where}, shape {shape_index}"
    prefix = f"{place}: " if place else ""
    candidate = nearest(label, known)
    hint = f"the nearest is {candidate!r}" if candidate else f"known are {', '.join(known)}"
    return f"{prefix}found label {label!r}, expected {expected} ({hint}); correct the label or use a mapping file"


def _read_code(row: dict[str, Any], where: str, document: dict[str, Any]) -> Code:
    texts = {"code", "name", "category", "paper_group", "lineage"}
    flags = {"cblc", "countable", "ndc", "who_blast"}
    _require_keys(row, texts | flags, where, optional={"who_blast_if"})
    _require_text(row, [*sorted(texts), *(["who_blast_if"] if "who_blast_if" in row else [])], where)
    for key in sorted(flags):
        if not isinstance(row[key], bool):
            _refuse(where, f"{key} = {row[key]!r}", "true or false")
    for key, allowed in (
        ("category", document["categories"]),
        ("paper_group", document["paper_groups"]),
        ("lineage", document["lineages"]),
        ("who_blast_if", [*document["conditions"], None]),
    ):
        if row.get(key) not in allowed:
            _refuse(where, f"{key} = {row.get(key)!r}", f"one of {', '.join(str(item) for item in allowed)}")
    if row["cblc"] and not row["countable"]:
        _refuse(where, f"code {row['code']!r} with cblc and not countable", "every CBLC to be countable")
    if row["who_blast"] and "who_blast_if" in row:
        _refuse(where, "who_blast = true and who_blast_if", "a condition only where who_blast is false")
    return Code(**row)


def _read_document(path: Path) -> tuple[dict[str, Any], str]:
    try:
        data = path.read_bytes()
        document = tomllib.loads(data.decode("utf-8"))
    except (OSError, *UNREADABLE) as error:
        message = f"{path}: found no readable TOML file ({error}); correct the path or the file"
        raise VocabularyError(message) from error
    if document.get("schema_version") != SCHEMA_VERSION:
        _refuse(str(path), f"schema_version {document.get('schema_version')!r}", str(SCHEMA_VERSION))
    return document, hashlib.sha256(data).hexdigest()


def _require_keys(
    row: dict[str, Any], required: set[str], where: str, optional: set[str] | frozenset[str] = frozenset()
) -> None:
    missing = sorted(required - row.keys())
    if missing:
        _refuse(where, f"no key {', '.join(missing)}", f"the keys {', '.join(sorted(required))}")
    unknown = sorted(row.keys() - required - optional)
    if unknown:
        _refuse(where, f"unknown key {', '.join(unknown)}", f"only {', '.join(sorted(required | optional))}")


def _require_text(row: dict[str, Any], keys: Iterable[str], where: str) -> None:
    for key in keys:
        if not isinstance(row[key], str) or not row[key].strip():
            _refuse(where, f"{key} = {row[key]!r}", "a text that is not empty")


def _require_texts(row: dict[str, Any], keys: Iterable[str], where: str) -> None:
    for key in keys:
        texts = row[key]
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            _refuse(where, f"{key} = {texts!r}"[:_MAX_SHOWN], "a list of texts that are not empty")


def _require_rows(document: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    rows = document[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        _refuse(where, f"{key} = {rows!r}"[:_MAX_SHOWN], f"a [[{key}]] table for each")
    return list(rows)


def _refuse(where: str, found: str, expected: str) -> None:
    message = f"{where}: found {one_line(found)}, expected {one_line(expected)}; correct the file"
    raise VocabularyError(message)
