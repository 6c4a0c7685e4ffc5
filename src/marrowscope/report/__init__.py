"""The report: one page for the cohort and one per patient, as self-contained HTML that a hematologist can check.

``write_report(run)`` writes ``run/report/index.html``; ``learning_curve`` draws the metrics.csv of a training.
"""

from marrowscope.report.html import write_report

__all__ = ["write_report"]
