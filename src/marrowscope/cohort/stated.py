"""What the user says of loose folders: patients that no patients.csv describes. What nobody stated stays unknown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.errors import InputError
from marrowscope.imaging import is_printable, printable
from marrowscope.records import SPECIMENS, UNKNOWN, Patient

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEX = "sex"
_CHOICES = {"specimen": SPECIMENS, "age_group": ("adult", "child"), "sex": ("female", "male")}
"""The facts that a rule or a subgroup goes by: a word of one's own would silently be none of them."""


@dataclass(frozen=True, slots=True)
class Stated:
    """The facts of every patient that no patients.csv describes, as its columns; None is not known.

    Raises InputError for a word that is not among those of its fact, and for a diagnosis that no page can show.
    """

    specimen: str | None = None
    age_group: str | None = None
    sex: str | None = None
    diagnosis: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, value in self.given().items():
            choices = _CHOICES.get(name)
            is_known = value in choices if choices else value.strip() and is_printable(Path(value))
            if not is_known:
                expected = " or ".join(choices) if choices else "a word"
                message = f"--{name.replace('_', '-')}: found {printable(value)!r}, expected {expected}; correct it"
                raise InputError(message)

    def given(self) -> dict[str, str]:
        """Return what is stated, by column."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def patient(self, name: str) -> Patient:
        """Return a patient of whom only this and a name are known."""
        return Patient(
            patient_id=name or UNKNOWN,
            center=UNKNOWN,
            diagnosis=self.diagnosis or UNKNOWN,
            specimen=self.specimen or UNKNOWN,
            age_group=self.age_group,
            extra={} if self.sex is None else {_SEX: self.sex},
        )

    def refuse_of_nobody(self, patients: Iterable[Patient]) -> None:
        """Raise InputError if something is stated and a patients.csv describes all of ``patients``."""
        if self.given() and not any(self.patient(patient.patient_id) == patient for patient in patients):
            names = " and ".join(f"--{name.replace('_', '-')}" for name in self.given())
            message = (
                f"found {names}, but {PATIENTS_NAME} describes every patient given, expected folders without "
                f"{PATIENTS_NAME}; state it in the columns {', '.join(self.given())} of {PATIENTS_NAME}"
            )
            raise InputError(message)


NOTHING_STATED = Stated()
