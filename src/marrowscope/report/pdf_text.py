"""Text as a PDF prints it: catalog texts without markup, user texts on one line."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup


def plain(text: str) -> str:
    """Return a catalog text without its markup, with its values unchanged."""
    return Markup(text).striptags()  # noqa: S704  markup is removed here, not added


BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Embeddings, overrides and isolates of the Unicode Bidirectional Algorithm, which reorder surrounding text."""

_WITHOUT_BIDI = str.maketrans("", "", BIDI_CONTROLS)


def without_bidi(text: str) -> str:
    """Remove the characters that make a text appear in another order than it is written."""
    return text if text.isascii() else text.translate(_WITHOUT_BIDI)


def one_line(text: str | None) -> str:
    """Return a user's text on one line, in its order: control characters and line breaks become spaces."""
    text = without_bidi(text or "")
    kept = (" " if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} else sign for sign in text)
    return "".join(kept).strip()


def percent_range(low: float, high: float) -> str:
    """Print a range of shares (0-1) as percentages, short for a table."""
    return f"{100 * low:.1f}–{100 * high:.1f}"  # noqa: RUF001
