"""Wall-clock seconds per stage, summed over threads; timing one lap costs a microsecond."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class StageClock:
    """Sums the time spent in each stage: ``with clock("decode"): ...``. Thread-safe."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one lap of ``stage``, even if it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - started})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add times measured elsewhere; ``seconds`` maps stages to seconds."""
        with self._lock:
            for stage, lap in seconds.items():
                self._seconds[stage] = self._seconds.get(stage, 0.0) + lap

    def seconds(self) -> dict[str, float]:
        """Return the seconds per stage so far, longest first."""
        with self._lock:
            return dict(sorted(self._seconds.items(), key=lambda item: -item[1]))

    def reset(self) -> None:
        """Reset all stages to zero."""
        with self._lock:
            self._seconds.clear()
