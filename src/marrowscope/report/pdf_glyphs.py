"""Characters that no font of a PDF has: found in what the compiler says, printed as their code points.

typst refuses a page with such a character and names one at a time. Each is spelled, ``[U+1F600]``, and the page is set
again; where the one named cannot be told, every character outside ASCII and the catalog is spelled.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

from marrowscope.report.pdf_text import readable, spelled
from marrowscope.report.strings import LANGUAGES, load_strings

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPLAINT = re.compile(r"(?:could not be displayed|contains the (?:disallowed )?codepoint)")
"""What typst says of a character without a glyph, and of one that the archive forbids."""
_MOST_NAMED = 8
"""Characters found one by one, at one more typesetting each."""
_QUOTED = re.compile(r'`"(.*?)"`', re.DOTALL)
_ESCAPED = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}")


def printable(value: Any, unprintable: set[str]) -> Any:  # noqa: ANN401 - any value of JSON
    """Return ``value`` with the characters ``unprintable`` spelled in every text of it; keys stay."""
    if isinstance(value, str):
        return "".join(spelled(sign) if sign in unprintable else sign for sign in readable(value))
    if isinstance(value, dict):
        return {key: printable(part, unprintable) for key, part in value.items()}
    return [printable(part, unprintable) for part in value] if isinstance(value, list | tuple) else value


def characters_without_glyph(complaint: str, document: Any, known: set[str]) -> set[str]:  # noqa: ANN401 - JSON
    """Return the characters to spell after ``complaint``, which typst made of ``document`` with ``known`` spelled.

    A mark that combines with the letter before it is not named, the letter is: then all such marks are returned. After
    ``_MOST_NAMED`` characters, and where none of these helps, it is all outside ASCII and the catalog. Empty where
    there is none, and for another complaint.
    """
    if not _COMPLAINT.search(complaint):
        return set()
    quoted = _QUOTED.search(complaint)
    named = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), quoted[1]) if quoted else ""
    used = {sign for text in _texts(document) for sign in text if not sign.isascii()} - known
    others = used - _of_the_catalog()
    marks = {sign for sign in used if unicodedata.category(sign).startswith("M")}
    return others if len(known) >= _MOST_NAMED else (set(named) & others) or marks or others


@cache
def _of_the_catalog() -> frozenset[str]:
    return frozenset(sign for code in LANGUAGES for text in load_strings(code).texts.values() for sign in text)


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any value of JSON
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
