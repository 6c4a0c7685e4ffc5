"""From counted cells to a patient's true ratio: correction, interval, study threshold, call.

``fit_error_rates`` measures on patients the classifier never saw how often each kind of cell is counted and called;
``estimate_ratio`` turns a patient's counts into a corrected ratio with its interval; ``learn_threshold`` and
``decide`` make the call.
"""

from marrowscope.quantify.estimate import PatientCounts, RatioEstimate, estimate_ratio
from marrowscope.quantify.model import Quantification
from marrowscope.quantify.rates import ErrorRates, fit_error_rates
from marrowscope.quantify.threshold import Call, CallRules, StudyThreshold, decide, learn_threshold

__all__ = [
    "Call",
    "CallRules",
    "ErrorRates",
    "PatientCounts",
    "Quantification",
    "RatioEstimate",
    "StudyThreshold",
    "decide",
    "estimate_ratio",
    "fit_error_rates",
    "learn_threshold",
]
