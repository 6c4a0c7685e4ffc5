"""The `--segmenter` option: the path of a graph, or the word for the demonstration segmenter."""

from __future__ import annotations

from pathlib import Path

DEMO = "demo"
SEGMENTER_HELP = f"Segmenter (.onnx), or `{DEMO}` for the demonstration segmenter"


def is_demo(given: Path) -> bool:
    """Tell whether a path is the word `demo`; an existing file of that name takes precedence."""
    return given == Path(DEMO) and not given.exists()


def segmenter_path(given: Path) -> Path:
    """Return the path that ``--segmenter`` names."""
    if not is_demo(given):
        return given
    from marrowscope.bundle import SEGMENTER_FILE
    from marrowscope.studies.demo import demonstration_bundle

    return demonstration_bundle() / SEGMENTER_FILE
