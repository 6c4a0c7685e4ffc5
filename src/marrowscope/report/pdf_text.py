"""Text as a PDF prints it: the catalogue's without markup, a user's on one line."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup


def plain(text: str) -> str:
    """Give a text of the catalogue without its markup, its values as they were."""
    return Markup(text).striptags()  # noqa: S704  markup is taken away here, not added


def one_line(text: str | None) -> str:
    """Give a user's text on one line: control characters and line breaks become spaces."""
    kept = (" " if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} else sign for sign in text or "")
    return "".join(kept).strip()


def percent_range(low: float, high: float) -> str:
    """Print a range of shares (0-1) as percentages, short for a table."""
    return f"{100 * low:.1f}–{100 * high:.1f}"  # noqa: RUF001
