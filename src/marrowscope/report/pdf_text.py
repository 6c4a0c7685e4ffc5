"""Text as a PDF prints it: catalog texts without markup, user texts on one line."""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup


def plain(text: str) -> str:
    """Return a catalog text without its markup, with its values unchanged."""
    return Markup(text).striptags()  # noqa: S704  markup is removed here, not added


BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks, embeddings, overrides and isolates of the Unicode Bidirectional Algorithm: they reorder the text around them.
"""

_SPACES = frozenset("\t\n\v\f\r\x85")
_INVISIBLE = re.compile(rf"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff{BIDI_CONTROLS}]")
"""Control characters (Cc) but for ``_SPACES``, lone surrogates (Cs), and what reorders text."""


def spelled(sign: str) -> str:
    """Return a character as its code point, such as ``[U+1F600]``."""
    return f"[U+{ord(sign):04X}]"


def readable(text: str) -> str:
    """Spell the characters that no page can show or that reorder the text around them; line breaks and tabs stay.

    So two ids that differ in such a character alone read differently.
    """
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub(lambda found: spelled(found[0]), text)


def one_line(text: str | None) -> str:
    """Return a user's text on one line, in its order: line breaks and tabs become spaces, the rest is ``readable``."""
    kept = (" " if sign in _SPACES or unicodedata.category(sign) in {"Zl", "Zp"} else sign for sign in text or "")
    return readable("".join(kept)).strip()


def percent_range(low: float, high: float) -> str:
    """Print a range of shares (0-1) as percentages, short for a table."""
    return f"{100 * low:.1f}–{100 * high:.1f}"  # noqa: RUF001
