"""The cohort: patients.csv, a folder of images per patient and their annotations, read with every fault at once."""

from marrowscope.cohort.reader import Cohort, read_cohort, require_clean

__all__ = ["Cohort", "read_cohort", "require_clean"]
