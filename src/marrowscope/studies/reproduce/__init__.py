"""The paper's study, repeated on simulated patients: six centers, two networks, folds in two stages, external centers.

``presets`` says how many patients and which settings; ``journal`` what is done, so that a killed run goes on;
``measure`` and ``plan`` how long it will take on this machine; ``study`` holds the steps from patients to the
evaluation; ``compare`` the figures, beside those of ``probe``, logistic regression on color and shape; ``tables``
writes them as the paper lays them out.
"""

from marrowscope.studies.reproduce.presets import PRESETS, Preset

__all__ = ["PRESETS", "Preset"]
