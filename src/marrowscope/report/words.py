"""The catalog as templates use it: texts with escaped values, counts, and numbers as the language prints them.

A text of the catalog is trusted and may contain markup; values filled in are escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from marrowscope.records import UNKNOWN
from marrowscope.report.palette import category_names
from marrowscope.report.strings import Strings, load_strings
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one language; ``category_names`` is for categories that the catalog does not name."""

    strings: Strings
    category_names: Mapping[str, str]

    @property
    def language(self) -> str:
        """Code of the language, as ``lang`` of a page."""
        return {"zh": "zh-Hans"}.get(self.strings.language, self.strings.language)

    def text(self, key: str, **values: object) -> Markup:
        """Return the text of ``key`` with the escaped ``values`` filled in; KeyError for an unknown key."""
        return Markup(self.strings.texts[key]).format(**values)  # noqa: S704  our own file; format escapes

    def has(self, key: str) -> bool:
        """Tell whether the catalog has ``key``."""
        return key in self.strings.texts

    def count(self, noun: str, n: int) -> Markup:
        """Return ``n`` items in words, such as ``1 cell`` or ``1,204 cells``."""
        return self.text(f"count.{noun}.{'one' if n == 1 else 'many'}", n=integer(n))

    def plain(self, key: str, **values: object) -> str:
        """Return the text of ``key`` as plain text that a page escapes, for texts without markup."""
        return self.strings.texts[key].format(**values)

    def percent(self, share: float | None, digits: int = 1) -> str:
        """Return a share (0-1) as a percentage, or the word for none."""
        return self.strings("none") if share is None else f"{100 * share:.{digits}f}%"

    def interval(self, low: float | None, high: float | None) -> str:
        """Return a range of shares (0-1) as percentages."""
        return self.strings("interval", low=self.percent(low), high=self.percent(high))

    def compact(self, low: float | None, high: float | None) -> str:
        """Return a range of shares (0-1) for a narrow column, with a single percent sign."""
        return "" if low is None or high is None else f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}%"

    def numbers(self, low: float | None, high: float | None, digits: int = 1) -> str:
        """Return a range of plain numbers, open if there is no upper one."""
        if low is None:
            return self.strings("none")
        if high is None:
            return self.strings("interval.open", low=f"{low:.{digits}f}")
        return self.strings("interval", low=f"{low:.{digits}f}", high=f"{high:.{digits}f}")

    def category(self, key: str) -> str:
        """Name a category; a laboratory's own category takes the name in its vocabulary."""
        return self.strings.texts.get(f"category.{key}") or self.category_names.get(key, key)

    def code(self, category: str) -> str:
        """Return a category as its badge: its code, which no language translates, or the word of one without a code."""
        return self.strings.texts.get(f"badge.{category}", category)

    def codes(self, categories: Iterable[str]) -> str:
        """List categories by their badges."""
        return ", ".join(map(self.code, categories))

    def stated(self, kind: str, value: str | None) -> str:
        """Return the word for a user's value of a ``kind`` such as specimen, ignoring letter case."""
        known = (value or UNKNOWN).strip().casefold()
        if known == UNKNOWN:
            return self.strings("unknown")
        return self.strings.texts.get(f"{kind}.{known}") or value or self.strings("unknown")

    def glossary(self) -> list[tuple[str, str]]:
        """Return the terms that a reader may not know, each with its sentences, in the order of the catalog."""
        keys = [
            key.removesuffix(".term") for key in self.strings.texts if key.startswith("glossary.") and ".term" in key
        ]
        return [(self.strings(f"{key}.term"), self.strings(f"{key}.text")) for key in keys]

    def name(self, kind: str, key: str | None) -> str:
        """Return the word for ``key`` of a ``kind`` such as lineage or reason, or the key itself if there is none."""
        return self.strings.choose(kind, key) if key is None or self.has(f"{kind}.{key}") else key.replace("_", " ")


def load_words(language: str = "en") -> Words:
    """Load the words of a language. Raises ConfigError for one that the catalog does not have."""
    return Words(load_strings(language), category_names(load_vocabulary()))


def integer(n: int) -> str:
    """Print a whole number with separators between thousands."""
    return f"{n:,}"
