"""Keys for codes: every code within two keys, and no key sequence that begins another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.errors import ReviewError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.vocabulary import Vocabulary

_MOST_KEYS = 2


def default_hotkeys(vocabulary: Vocabulary) -> dict[str, str]:
    """Return the keys of each code: the code itself, its letter twice where other codes begin with it (N is nn)."""
    hotkeys: dict[str, str] = {}
    for code in vocabulary.codes:
        is_alone = sum(other[:1] == code[:1] for other in vocabulary.codes) == 1
        hotkeys[code] = (code if len(code) > 1 or is_alone else code * 2).lower()
    check_hotkeys(hotkeys)
    return hotkeys


def check_hotkeys(hotkeys: Mapping[str, str]) -> None:
    """Raise ReviewError for a code with no key or more than two, and for keys that begin with those of another code."""
    by_keys: dict[str, str] = {}
    for code, keys in hotkeys.items():
        if not 1 <= len(keys) <= _MOST_KEYS:
            message = f"code {code!r}: found {count_of(len(keys), 'key')}, expected one or two; choose others"
            raise ReviewError(message)
        for other_keys, other in by_keys.items():
            if keys.startswith(other_keys) or other_keys.startswith(keys):
                message = (
                    f"codes {other!r} and {code!r}: found keys {other_keys!r} and {keys!r}, of which one begins the "
                    "other, expected keys that can be told apart; choose others"
                )
                raise ReviewError(message)
        by_keys[keys] = code
