"""The versions of the shipped vocabulary: the current one, and earlier ones that bundles and runs still name.

A later version adds facts and changes none, so that categories, their order and every call mean the same in all of
them; a test holds the files against each other. A laboratory's own vocabulary is compatible with itself alone.
"""

from __future__ import annotations

from functools import cache

from marrowscope.vocabulary.codes import DEFAULT_VOCABULARY, Vocabulary, load_vocabulary
from marrowscope.vocabulary.toml_file import DATA_DIR

EARLIER_VOCABULARIES = DATA_DIR / "earlier_vocabularies"


@cache
def shipped_versions() -> tuple[Vocabulary, ...]:
    """Return the current vocabulary, then the earlier versions by file name."""
    paths = (DEFAULT_VOCABULARY, *sorted(EARLIER_VOCABULARIES.glob("*.toml")))
    return tuple(map(load_vocabulary, paths))


def shipped_version(sha256: str) -> Vocabulary | None:
    """Return the shipped vocabulary whose file has this hash, None where there is none."""
    return next((version for version in shipped_versions() if version.sha256 == sha256), None)


def are_compatible(sha256: str, other_sha256: str) -> bool:
    """Tell whether two vocabularies, by their hashes, have the same codes, categories and calls."""
    both = {sha256, other_sha256}
    return len(both) == 1 or both <= {version.sha256 for version in shipped_versions()}
