"""The paper's study on simulated patients: six centers, two networks, folds in two stages, external centers.

``presets`` has the numbers of patients and the settings; ``journal`` records what is done, so that a killed run can
continue; ``measure`` and ``plan`` estimate the time on this machine; ``study`` has the steps from patients to the
evaluation; ``compare`` computes the metrics, beside those of ``probe``, logistic regression on color and shape;
``tables`` writes them in the paper's layout.
"""

from marrowscope.studies.reproduce.presets import PRESETS, Preset

__all__ = ["PRESETS", "Preset"]
