"""Names that people read as one: the same letters in another Unicode form, another case, or with other spaces."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LOOK_ALIKES = str.maketrans(  # Cyrillic, Greek, Armenian and rare Latin letters
    "АВЕЅІЈКМНОРСТУХҮҺӀѴԌԚԜаеѕіјорсухһӏѵԁԍԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανικρυχγօսոհցıɑɡǀ",
    "ABESIJKMHOPCTYXYhIVGQWaesijopcyxhlvdgqwABEZHIKMNOPTYXoavikpuxyounhgiagl",
)
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and signs that show nothing, beside those that Unicode files under formats and controls."""
_SPACE_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
_NUMBER = re.compile(r"0*(?P<whole>\d+?)(?:\.0+)?")
_MARKS = r"[\s_.,;:'\u2018\u2019\u02bc`\u00b4\"/()&+-]+"
_PUNCTUATION = re.compile(rf"(?<!\d){_MARKS}|{_MARKS}(?!\d)")
_DASHES = re.compile(r"[‐‑‒–—―−﹘﹣－]")  # noqa: RUF001 - dashes of every kind on purpose


def same_letters(name: str) -> str:
    """Return what two names have in common that differ only in case or in Unicode form (composed or decomposed)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def likeness(name: str) -> str:
    """Return what two names have in common that look alike: case, Unicode form, spaces, full-width and foreign letters.

    Spaces count only between two digits: "1 12" and "11 2" are two names. Invisible characters never count.
    """
    visible = "".join(letter for letter in name if not _is_invisible(letter))
    plain = unicodedata.normalize("NFKC", visible).translate(_LOOK_ALIKES).casefold()
    plain = _DASHES.sub("-", unicodedata.normalize("NFC", plain))
    return "".join(_SPACE_BETWEEN_DIGITS.sub("\0", plain.strip()).split())


def _is_invisible(letter: str) -> bool:
    if letter.isspace():
        return False
    of_variants = (
        "\ufe00" <= letter <= "\ufe0f" or "\u180b" <= letter <= "\u180f" or "\U000e0100" <= letter <= "\U000e01ef"
    )
    return of_variants or letter in _BLANKS or unicodedata.category(letter) in {"Cc", "Cf"}


def closeness(name: str) -> str:
    """Return what two names have in common that may be one: ``likeness``, Latin accents, punctuation, 1 and 01 and 1.0.

    Punctuation counts between two digits only.
    """
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", likeness(name)))
    if number := _NUMBER.fullmatch(plain):
        return number["whole"]
    return _PUNCTUATION.sub("", plain)


def alike(names: Iterable[str], key: Callable[[str], str] = likeness) -> list[list[str]]:
    """Return the groups of different names of one ``key``, each in the order of the names."""
    groups: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        groups[key(name)][name] = None
    return [list(group) for group in groups.values() if len(group) > 1]


def show(name: str) -> str:
    """Return a name in quotes; decomposed, full-width and foreign letters by their codes, so that one can tell them."""
    plain = name == unicodedata.normalize("NFKC", name) and name.translate(_LOOK_ALIKES) == name
    plain = plain and not any(map(_is_invisible, name))
    return repr(name) if plain else ascii(name)


def match_folders(wanted: Iterable[str], folders: Iterable[str]) -> dict[str, str]:
    """Return the folder of each wanted name: the one of this name, else the only one that differs in case or form.

    No folder serves two names, and a name with two such folders has none.
    """
    names, there = list(dict.fromkeys(wanted)), list(folders)
    found = {name: name for name in names if name in set(there)}
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for folder in there:
        by_key[same_letters(folder)].append(folder)
    n_of_key: defaultdict[str, int] = defaultdict(int)
    for name in names:
        n_of_key[same_letters(name)] += 1
    for name in names:
        key = same_letters(name)
        if name not in found and n_of_key[key] == 1 and len(by_key[key]) == 1:
            found[name] = by_key[key][0]
    return found
