"""Comparisons of readers that were computed before, kept by what they were computed from; a few at most."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Kept = TypeVar("Kept")
_MOST = 8
"""Different sessions are withheld different patients, and each has a comparison of its own."""


class KeptComparisons:
    """The last comparisons, the one that nobody asked for longest leaves first; usable from several threads."""

    def __init__(self, most: int = _MOST) -> None:
        """Keep ``most`` of them."""
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """Return what is kept under ``key``, else what ``make`` gives; who asks meanwhile waits for it."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                if len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            found: Kept = self._kept[key]
        return found
