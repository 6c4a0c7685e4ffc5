"""Whether a patient's images and cells are like those that the bundle is made for: scores, limits, their fit."""

from marrowscope.patient.depth.depth_scores import DepthScores, measure_depth
from marrowscope.patient.depth.domain import Depth, Domain, DomainScore, judge_depth
from marrowscope.patient.depth.domain_limit import fit_domain

__all__ = ["Depth", "DepthScores", "Domain", "DomainScore", "fit_domain", "judge_depth", "measure_depth"]
