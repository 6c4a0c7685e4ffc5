"""What it means that a runtime did not load or run a graph: a wrong graph, or a machine without memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.errors import BundleError, MarrowscopeError, RunError
from marrowscope.machine import is_out_of_memory

if TYPE_CHECKING:
    from pathlib import Path


def not_loaded(path: Path, backend: str, error: Exception) -> MarrowscopeError:
    """Return the error for a graph that ``backend`` did not load, for whatever it raised."""
    if is_out_of_memory(error):
        return _no_memory(path, backend, "load")
    return BundleError(f"{path}: {backend} cannot load it ({_reason(error)}); expected an ONNX graph, export it again")


def not_run(path: Path, backend: str, error: Exception) -> MarrowscopeError:
    """Return the error for a graph that ``backend`` loaded and did not run."""
    if is_out_of_memory(error):
        return _no_memory(path, backend, "run")
    return BundleError(
        f"{path}: {backend} cannot run it ({_reason(error)}); expected a graph for this input, export it again"
    )


def _no_memory(path: Path, backend: str, step: str) -> RunError:
    return RunError(
        f"{path}: {backend} found too little memory to {step} it; free some, or use fewer processes and threads, then "
        "call again as before"
    )


def _reason(error: Exception) -> str:
    """Return the runtime's own words in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
