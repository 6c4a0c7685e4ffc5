"""The `--segmenter` option: a graph's path, or the word that stands for the demonstration's segmenter."""

from __future__ import annotations

from pathlib import Path

DEMO = "demo"
SEGMENTER_HELP = f"Segmenter (.onnx), or the word `{DEMO}` for the demonstration's"


def segmenter_path(given: Path) -> Path:
    """Give the path that ``--segmenter`` names; a file called `demo` goes before the word."""
    if given != Path(DEMO) or given.exists():
        return given
    from marrowscope.bundle import SEGMENTER_FILE
    from marrowscope.studies.demo import demonstration_bundle

    return demonstration_bundle() / SEGMENTER_FILE
