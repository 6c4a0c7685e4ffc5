"""Mapping files: the labels of another scheme, translated to raw codes or to sets of codes.

A label has one of three targets: ``code``; ``codes``, a set, with what is declared for all cells of the label
(``cblc``, ``countable``, ``mainly``, and ``name`` where the label alone would be misread); or ``drop`` with the reason.
A source that knows only some classes states them in ``can_label``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary.codes import unknown_label_message
from marrowscope.vocabulary.labels import RESERVED, CoarseLabel
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
    from collections.abc import Collection, Mapping, Sequence

    from marrowscope.vocabulary.codes import Vocabulary

MAPPINGS_DIR = DATA_DIR / "mappings"
_DECLARED = frozenset({"name", "mainly", "cblc", "countable"})
"""Keys of a label that only a set of codes has."""


@dataclass(frozen=True, slots=True)
class MappedLabel:
    """One foreign label: what it becomes, or the reason it is dropped, and if that is approximate.

    ``coarse`` is set for a label with ``codes``, ``code`` for one with a single code; a set of one code is that code.
    """

    label: str
    meaning: str
    code: str | None
    approximate: str | None = None
    drop: str | None = None
    coarse: CoarseLabel | None = None

    @property
    def target(self) -> str | None:
        """What is stored for a cell of this label: a raw code, a coarse label's text, None where it is dropped."""
        if self.coarse is None or self.code is not None:
            return self.code
        return self.coarse.text

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that a cell of this label may have; none where it is dropped."""
        if self.coarse is not None:
            return self.coarse.codes
        return () if self.code is None else (self.code,)


@dataclass(frozen=True)
class LabelMapping:
    """A translation of another scheme's labels to the codes of one vocabulary.

    ``can_label`` are the codes that the source can give at all, empty where it does not say.
    """

    name: str
    version: str
    vocabulary: str
    source: str
    sha256: str
    labels: Mapping[str, MappedLabel]
    can_label: tuple[str, ...] = ()

    def translate(self, label: str, where: str, shape_index: int | None = None) -> str | None:
        """Return what is stored for ``label``, or None if the mapping drops it on purpose.

        Raises VocabularyError with the file, the shape and the nearest known label.
        """
        found = self.labels.get(label)
        if found is None:
            expected = f"a label of mapping {self.name} {self.version}"
            raise VocabularyError(unknown_label_message(label, self.labels, expected, where, shape_index))
        return found.target

    def check_against(self, vocabulary: Vocabulary) -> None:
        """Raise VocabularyError unless the mapping is for ``vocabulary`` and fits it.

        All its codes are codes of it, some code of a set has what is declared for the set, and ``can_label`` holds
        every code that its labels may stand for.
        """
        if self.vocabulary != vocabulary.name:
            message = (
                f"mapping {self.name}: made for vocabulary {self.vocabulary!r}, found {vocabulary.name!r}; "
                "give the mapping and the vocabulary that belong together"
            )
            raise VocabularyError(message)
        for item in self.labels.values():
            where = f"mapping {self.name}, label {item.label!r}"
            if item.coarse is not None:
                vocabulary.read_coarse(item.coarse, where)
            elif item.code is not None:
                vocabulary.lookup(item.code, where=where)
        for code in self.can_label:
            vocabulary.lookup(code, where=f"mapping {self.name}, can_label")
        given = dict.fromkeys(code for item in self.labels.values() for code in item.codes)
        absent = [code for code in given if code not in self.can_label]
        if self.can_label and absent:
            refuse(f"mapping {self.name}", f"can_label without {', '.join(absent)}", "every code that its labels give")


@dataclass(frozen=True)
class CenterMappings:
    """The mapping of each center: ``by_center`` where a center has its own, else ``default``, else raw codes."""

    default: LabelMapping | None = None
    by_center: Mapping[str, LabelMapping] = field(default_factory=dict)

    def of(self, center: str) -> LabelMapping | None:
        """Return the mapping of a center's labels, None where they are raw codes."""
        return self.by_center.get(center, self.default)

    def check_against(self, vocabulary: Vocabulary) -> None:
        """Check every mapping (see ``LabelMapping.check_against``)."""
        for mapping in (self.default, *self.by_center.values()):
            if mapping is not None:
                mapping.check_against(vocabulary)

    def check_centers(self, centers: Collection[str]) -> None:
        """Raise VocabularyError for a mapping of a center that no patient has: its labels would stay untranslated."""
        for center, mapping in self.by_center.items():
            if center not in centers:
                message = (
                    f"--mapping {center}={mapping.name}: found no patient of center {center!r}, expected one of "
                    f"{', '.join(sorted(centers))}; correct the center's name"
                )
                raise VocabularyError(message)


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
    document, sha256 = read_document(path)
    required = {"schema_version", "name", "version", "vocabulary", "source", "labels"}
    require_keys(document, required, str(path), optional={"can_label"})
    require_text(document, ("name", "version", "vocabulary", "source"), str(path))
    if "can_label" in document:
        _require_set(document, "can_label", str(path))
    labels: dict[str, MappedLabel] = {}
    for number, row in enumerate(require_rows(document, "labels", str(path))):
        where = f"{path}, labels[{number}]"
        item = _read_label(row, where)
        if item.label in labels:
            refuse(where, f"label {item.label!r} a second time", "each label once")
        labels[item.label] = item
    return LabelMapping(
        name=document["name"],
        version=document["version"],
        vocabulary=document["vocabulary"],
        source=document["source"],
        sha256=sha256,
        labels=MappingProxyType(labels),
        can_label=tuple(document.get("can_label", ())),
    )


def load_mappings(options: Sequence[str]) -> CenterMappings | None:
    """Read ``NAME_OR_PATH`` (for every center without its own) and ``CENTER=NAME_OR_PATH``; None without any.

    Raises VocabularyError for two mappings of one center, two for all centers, and whatever ``load_mapping`` refuses.
    """
    default: LabelMapping | None = None
    by_center: dict[str, LabelMapping] = {}
    for option in options:
        center, equals, name = option.partition("=")
        if not equals or Path(option).is_file():
            if default is not None:
                refuse(f"--mapping {option}", "a second mapping for all centers", "one, or CENTER=MAPPING for each")
            default = load_mapping(option)
        elif center in by_center:
            refuse(f"--mapping {option}", f"a second mapping of center {center!r}", "one for each center")
        else:
            by_center[center] = load_mapping(name)
    return CenterMappings(default, MappingProxyType(by_center)) if options else None


def _read_label(row: dict[str, Any], where: str) -> MappedLabel:
    """Read one [[labels]] table; the vocabulary checks later what its codes are."""
    texts = {"meaning", "code", "approximate", "drop", "name", "mainly"}
    require_keys(row, {"label"}, where, optional=texts | {"codes", "cblc", "countable"})
    require_text(row, [key for key in row if key in texts or key == "label"], where)
    if ("code" in row) + ("codes" in row) + ("drop" in row) != 1:
        refuse(where, f"keys {', '.join(row)}", "one of code, codes, and drop with the reason")
    coarse: CoarseLabel | None = None
    if "codes" in row:
        _require_set(row, "codes", where)
        for key in ("cblc", "countable"):
            if not isinstance(row.get(key, True), bool):
                refuse(where, f"{key} = {row[key]!r}", "true or false")
        name = row.get("name", row["label"])
        if any(character in name for character in RESERVED):
            refuse(where, f"the name {name!r}", f"a name without any of {' '.join(RESERVED)}; give it in the key name")
        if row.get("mainly", row["codes"][0]) not in row["codes"]:
            refuse(where, f"mainly = {row['mainly']!r}", f"one of its codes {', '.join(row['codes'])}")
        coarse = CoarseLabel(name, tuple(row["codes"]), row.get("cblc"), row.get("countable"), row.get("mainly"))
    elif surplus := sorted(_DECLARED & row.keys()):
        refuse(where, f"{', '.join(surplus)} without codes", "declarations only beside a set of codes")
    is_one = coarse is not None and len(coarse.codes) == 1
    return MappedLabel(
        label=row["label"],
        meaning=row.get("meaning", ""),
        code=row["codes"][0] if is_one else row.get("code"),
        approximate=row.get("approximate"),
        drop=row.get("drop"),
        coarse=coarse,
    )


def _require_set(row: dict[str, Any], key: str, where: str) -> None:
    """Refuse anything but a list of different codes that is not empty."""
    require_texts(row, (key,), where)
    codes = row[key]
    if not codes:
        refuse(where, f"{key} = []", "at least one code")
    if len(set(codes)) != len(codes):
        refuse(where, f"{key} = {codes}", "each code once")
