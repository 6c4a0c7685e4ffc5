"""Quality flags: what a field's picture is like, how its stain compares with training, and what deserves a warning."""

from marrowscope.flags.field import SCALE_UM_PER_PX as FIELD_SCALE_UM_PER_PX
from marrowscope.flags.field import measure_field
from marrowscope.flags.rules import FIELD_FLAGS, PATIENT_FLAGS, FlagRules, field_flags, patient_flags
from marrowscope.flags.stain import TRAINING_FIELDS_NAME, StainReference, fit_stain_reference, stain_distance

__all__ = [
    "FIELD_FLAGS",
    "FIELD_SCALE_UM_PER_PX",
    "PATIENT_FLAGS",
    "TRAINING_FIELDS_NAME",
    "FlagRules",
    "StainReference",
    "field_flags",
    "fit_stain_reference",
    "measure_field",
    "patient_flags",
    "stain_distance",
]
