"""Validation against expert polygons: match, measure per centre, write.

``evaluate_run`` gives the figures, ``write_evaluation`` the files; ``link_cells`` alone gives the matched cells for
other comparisons (a probe, a second model).
"""

from marrowscope.evaluate.compare import ALL_CENTERS, Evaluation, evaluate_run
from marrowscope.evaluate.link import EvaluateConfig, LinkedCells, link_cells
from marrowscope.evaluate.scores import CenterScores, ClassRecall, Figure, score_center
from marrowscope.evaluate.write import as_markdown, write_evaluation

__all__ = [
    "ALL_CENTERS",
    "CenterScores",
    "ClassRecall",
    "EvaluateConfig",
    "Evaluation",
    "Figure",
    "LinkedCells",
    "as_markdown",
    "evaluate_run",
    "link_cells",
    "score_center",
    "write_evaluation",
]
