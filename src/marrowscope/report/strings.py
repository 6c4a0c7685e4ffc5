"""Every sentence of the reports in one catalog, ``data/strings.toml``, by key and language.

A text may have placeholders for values, ``{n}``; the words around them are trusted, the values are escaped when a page
is made. Loading reports a key without a translation, so that no page mixes languages.
"""

from __future__ import annotations

import string
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from marrowscope.errors import ConfigError
from marrowscope.vocabulary import DATA_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

CATALOG = DATA_DIR / "strings.toml"
LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Strings:
    """The texts of one language: ``strings("ratio.x_of_n", x=3, n=40)``."""

    language: str
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of ``key`` with ``values`` filled in; KeyError for an unknown key or a missing value."""
        return self.texts[key].format(**values)

    def choose(self, key: str, name: str | None) -> str:
        """Return the text ``key.name``, or ``name`` itself if the catalog has none (a laboratory's own category)."""
        return self.texts.get(f"{key}.{name}", name or "")


@cache
def load_strings(language: str = "en") -> Strings:
    """Read the catalog in one language. Raises ConfigError for an unknown language or an incomplete catalog."""
    if language not in LANGUAGES:
        message = f"language: found {language!r}, expected one of {', '.join(LANGUAGES)}; choose one of them"
        raise ConfigError(message)
    entries: dict[str, dict[str, str]] = tomllib.loads(CATALOG.read_text(encoding="utf-8"))
    for key, texts in entries.items():
        if set(texts) != set(LANGUAGES):
            message = f"{CATALOG.name}: {key!r} has {sorted(texts)}, expected {sorted(LANGUAGES)}; add the translation"
            raise ConfigError(message)
        places = {code: sorted({name for _, name, _, _ in string.Formatter().parse(text) if name is not None})
                  for code, text in texts.items()}  # fmt: skip
        if len({tuple(names) for names in places.values()}) > 1:
            message = (
                f"{CATALOG.name}: {key!r} has the places {places}, expected the same in every language; correct it"
            )
            raise ConfigError(message)
    return Strings(language, {key: texts[language] for key, texts in entries.items()})
