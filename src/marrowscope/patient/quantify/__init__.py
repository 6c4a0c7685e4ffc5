"""From counted cells to a patient's corrected ratio: correction, interval, study threshold, call.

``fit_error_rates`` measures on held-out patients how often each kind of cell is counted and called CBLC;
``estimate_ratio`` turns a patient's counts into a corrected ratio with its interval; ``learn_threshold`` and
``decide`` make the call.
"""

from marrowscope.patient.quantify.estimate import PatientCounts, RatioEstimate, estimate_ratio
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.quantify.rates import ErrorRates, fit_error_rates
from marrowscope.patient.quantify.threshold import Call, CallRules, StudyThreshold, decide, learn_threshold

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
