"""Encoded pictures in memory, up to a number of bytes; those not asked for the longest go first."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock


class KeptPictures:
    """Pictures by any key; usable from several threads."""

    def __init__(self, most_bytes: int) -> None:
        """Keep ``most_bytes`` at most, and always the last picture."""
        self._most_bytes = most_bytes
        self._encoded: OrderedDict[object, bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = Lock()

    def get(self, key: object) -> bytes | None:
        """Return the picture of that key; None for one that is not kept."""
        with self._lock:
            if (found := self._encoded.get(key)) is not None:
                self._encoded.move_to_end(key)
            return found

    def put(self, key: object, data: bytes) -> None:
        """Keep a picture."""
        with self._lock:
            self._n_bytes += len(data) - len(self._encoded.pop(key, b""))
            self._encoded[key] = data
            while self._n_bytes > self._most_bytes and len(self._encoded) > 1:
                _, dropped = self._encoded.popitem(last=False)
                self._n_bytes -= len(dropped)
