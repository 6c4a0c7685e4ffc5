"""The `--segmenter` option: the path of a graph, or the word for the demonstration segmenter."""

from __future__ import annotations

from pathlib import Path

DEMO = "demo"
SEGMENTER_HELP = f"Segmenter (.onnx), or `{DEMO}` for the demonstration segmenter"


def segmenter_path(given: Path) -> Path:
    """Return the path that ``--segmenter`` names; an existing file called `demo` takes precedence over the word."""
    if given != Path(DEMO) or given.exists():
        return given
    from marrowscope.bundle import SEGMENTER_FILE
    from marrowscope.studies.demo import demonstration_bundle

    return demonstration_bundle() / SEGMENTER_FILE
