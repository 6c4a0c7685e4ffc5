"""What the station refuses, in the language of the page: sentences of the code, found again in the catalog.

The code makes its sentences in English, as every part of the package does. The catalog holds each of them that a page
can meet under a key ``refusal.*``, with {places} for the values, and its translation beside. A sentence that it
does not have stays English; a test reads all that the modules of the review can say, so that none is forgotten.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from marrowscope.report.strings import load_strings
from marrowscope.report.words import load_words
from marrowscope.review.sign import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "refusal."
_PLACE = re.compile(r"\\\{(\w+)\\\}")
_COUNTED = re.compile(r"([\d,]+) [a-z]+")
_ENGLISH = "en"
_NAMED: Mapping[str, str] = {
    "kind": "review.kind_of.",
    "how": "review.removed.",
    "roles": "review.role.",
    "role": "review.role.",
    "permission": "refused.permission.",
    "item": "refused.item.",
    "flags": "flag.",
}
"""Places whose values are keys of the code, and where the catalog has their words."""


def refusal(said: Exception | str, language: str) -> str:
    """Return what ``said`` says in ``language``; in English where the catalog does not have it."""
    if language == _ENGLISH:
        return _with_words(str(said))
    if isinstance(said, NotReadyError):
        words = load_words(language)
        lacking = "; ".join(item.sentence(words) for item in said.lacking)
        return load_strings(language)(f"{PREFIX}cannot_sign", patient=said.patient_id, said=lacking)
    found = recognized(str(said))
    if found is None:
        return str(said)
    key, values = found
    return load_strings(language)(
        key, **{name: _spoken(name, _bare(value), language) for name, value in values.items()}
    )


def _with_words(sentence: str) -> str:
    """Return an English sentence with the words for the kind of event that it names."""
    for _, pattern in _patterns():
        if (match := pattern.fullmatch(sentence)) is not None:
            if "kind" not in match.groupdict():
                return sentence
            start, end = match.span("kind")
            return f"{sentence[:start]}{_spoken('kind', match['kind'], _ENGLISH)}{sentence[end:]}"
    return sentence


def recognized(sentence: str) -> tuple[str, Mapping[str, str]] | None:
    """Return the key of a sentence and the values in it; None where the catalog does not have it."""
    for key, pattern in _patterns():
        if (match := pattern.fullmatch(sentence)) is not None:
            return key, match.groupdict()
    return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return each English sentence of the catalog as a pattern, in its order: of two that fit, the first is meant."""
    texts = load_strings(_ENGLISH).texts
    return tuple(
        (key, re.compile(_PLACE.sub(r"(?P<\1>.+?)", re.escape(text)), re.DOTALL))
        for key, text in texts.items()
        if key.startswith(PREFIX)
    )


def _spoken(place: str, value: str, language: str) -> str:
    """Return the words for a value that is a key, or several with commas; any other value as it is."""
    if place not in _NAMED:
        return value
    texts = load_strings(language).texts
    return "、".join(texts.get(_NAMED[place] + name, name) for name in value.split(", "))


def _bare(value: str) -> str:
    """Return a value without Python's quotes, and a count without its English noun, which the translation has."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    counted = _COUNTED.fullmatch(value)
    return value if counted is None else counted[1]
