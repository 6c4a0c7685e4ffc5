"""The cohort: patients.csv, one folder of images per patient and their annotations; every fault is found at once."""

from marrowscope.cohort.reader import Cohort, read_cohort, require_clean

__all__ = ["Cohort", "read_cohort", "require_clean"]
