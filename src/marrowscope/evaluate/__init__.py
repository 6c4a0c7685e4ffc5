"""Validation against expert polygons: match, measure per centre, write.

``evaluate_run`` gives the figures, ``write_evaluation`` the files; ``link_cells`` alone gives the matched cells for
other comparisons (a probe, a second model).
"""

from marrowscope.evaluate.cells import ClassFigures
from marrowscope.evaluate.compare import ALL_CENTERS, Evaluation, evaluate_run
from marrowscope.evaluate.detection import ClassRecall
from marrowscope.evaluate.link import EvaluateConfig, LinkedCells, link_cells
from marrowscope.evaluate.markdown import MAIN_FIGURES, as_markdown, figure_text
from marrowscope.evaluate.scorer import FEW_PATIENTS, Figure
from marrowscope.evaluate.scores import CenterScores, score_center
from marrowscope.evaluate.write import RUN_NAME, check_evaluation_folder, evaluation_folder, write_evaluation

__all__ = [
    "ALL_CENTERS",
    "FEW_PATIENTS",
    "MAIN_FIGURES",
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
