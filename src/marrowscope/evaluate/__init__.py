"""Validation against expert polygons: match, measure per center, write.

``evaluate_run`` computes the figures, ``write_evaluation`` writes the files; ``link_cells`` alone returns the matched
cells for other comparisons (a probe, a second model).
"""

from marrowscope.evaluate.cell_scores import ClassFigures
from marrowscope.evaluate.detection_scores import ClassRecall
from marrowscope.evaluate.evaluation import Evaluation, evaluate_run
from marrowscope.evaluate.frames import ALL_CENTERS
from marrowscope.evaluate.link import EvaluateConfig, LinkedCells, link_cells
from marrowscope.evaluate.markdown import as_markdown, figure_text
from marrowscope.evaluate.output import RUN_NAME, check_evaluation_folder, evaluation_folder, write_evaluation
from marrowscope.evaluate.scorer import FEW_PATIENTS, Figure
from marrowscope.evaluate.scores import CenterScores, score_center

__all__ = [
    "ALL_CENTERS",
    "FEW_PATIENTS",
    "RUN_NAME",
    "CenterScores",
    "ClassFigures",
    "ClassRecall",
    "EvaluateConfig",
    "Evaluation",
    "Figure",
    "LinkedCells",
    "as_markdown",
    "check_evaluation_folder",
    "evaluate_run",
    "evaluation_folder",
    "figure_text",
    "link_cells",
    "score_center",
    "write_evaluation",
]
