"""Text as a PDF prints it: the catalogue's without markup, a user's on one line."""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup

_LONGEST_WORD = 30
_ZERO_WIDTH_SPACE = "\u200b"


def plain(text: str) -> str:
    """Give a text of the catalogue without its markup, its values as they were."""
    return Markup(text).striptags()  # noqa: S704  markup is taken away here, not added


def one_line(text: str | None) -> str:
    """Give a user's text on one line: control characters and line breaks become spaces."""
    kept = (" " if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} else sign for sign in text or "")
    return "".join(kept).strip()


def printable(text: str | None) -> str:
    """Give a user's text on one line whose words of more than 60 characters may break every 30."""
    return re.sub(rf"\S{{{_LONGEST_WORD * 2 + 1},}}", _breakable, one_line(text))


def _breakable(word: re.Match[str]) -> str:
    found = word.group()
    parts = [found[start : start + _LONGEST_WORD] for start in range(0, len(found), _LONGEST_WORD)]
    return _ZERO_WIDTH_SPACE.join(parts)


def percent_range(low: float, high: float) -> str:
    """Print a range of shares (0-1) as percentages, short for a table."""
    return f"{100 * low:.1f}–{100 * high:.1f}"  # noqa: RUF001
