"""Whether a patient's images and cells are like those that the bundle is made for: scores, limits, their fit."""

from marrowscope.patient.depth.domain import Depth, Domain, DomainScore, judge_depth
from marrowscope.patient.depth.fit import fit_domain
from marrowscope.patient.depth.scores import DepthScores, measure_depth

__all__ = ["Depth", "DepthScores", "Domain", "DomainScore", "fit_domain", "judge_depth", "measure_depth"]
