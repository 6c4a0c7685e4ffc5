"""Quality flags: warnings for fields and patients, and how far a stain is from that of the training fields."""

from marrowscope.patient.flags.rules import (
    FIELD_FLAGS,
    PATIENT_FLAGS,
    Flag,
    FlagRules,
    field_flags,
    judge_field,
    patient_flags,
)
from marrowscope.patient.flags.stain_reference import (
    TRAINING_FIELDS_NAME,
    StainReference,
    fit_stain_reference,
    stain_distance,
)

__all__ = [
    "FIELD_FLAGS",
    "PATIENT_FLAGS",
    "TRAINING_FIELDS_NAME",
    "Flag",
    "FlagRules",
    "StainReference",
    "field_flags",
    "fit_stain_reference",
    "judge_field",
    "patient_flags",
    "stain_distance",
]
