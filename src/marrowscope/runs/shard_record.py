"""shard.json: what the run of one shard says to those that are put together with it.

It holds what the tables lack and the merged run needs: who the patients are, the fingerprints of the photographs, what
was wrong with the input, and the features of the processor, because other features can give other last digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field

from marrowscope.config import FrozenModel, load_record
from marrowscope.disk import read_marker, write_text
from marrowscope.errors import RunError
from marrowscope.records import Patient

if TYPE_CHECKING:
    from pathlib import Path

SHARD_NAME = "shard.json"


class ShardPatient(FrozenModel):
    """A patient as the input describes it; the fields of ``records.Patient``."""

    patient_id: str
    center: str
    diagnosis: str
    specimen: str
    age_group: str | None
    um_per_px: float | None
    extra: dict[str, str]

    @classmethod
    def of(cls, patient: Patient) -> Self:
        """Take over a patient of the input."""
        return cls(**{name: getattr(patient, name) for name in cls.model_fields} | {"extra": dict(patient.extra)})

    def patient(self) -> Patient:
        """Return the patient of the input."""
        return Patient(**self.model_dump())


class ShardFile(FrozenModel):
    """A photograph of the input by its path, and whether it is predicted in its shard."""

    field_id: str
    patient_id: str
    path: str
    is_predicted: bool


class ShardRecord(FrozenModel):
    """Content of shard.json."""

    schema_version: int = 1
    index: int = Field(ge=1)
    of: int = Field(ge=1)
    inputs_sha256: str = Field(description="of the names of all patients and images of the whole input")
    processor: str = Field(description="instruction set and features, as in ``machine.processor_features``")
    patients: tuple[ShardPatient, ...] = Field(description="of this shard, in the input's order")
    fingerprints: dict[str, str] = Field(description="of the photographs, by field")
    input_faults: tuple[str, ...] = Field(description="of the whole input, a sentence each")
    left_out_of_input: int = Field(ge=0)
    faults: tuple[str, ...] = Field(description="of the images of this shard, its copies apart")
    copies: tuple[tuple[ShardFile, ...], ...] = Field(description="groups of files of one patient with equal content")
    keep_copies: bool = False


def is_shard(run: Path) -> bool:
    """Say whether a run is a shard that waits for the others."""
    return (run / SHARD_NAME).is_file()


def write_shard_record(folder: Path, record: ShardRecord) -> None:
    """Write shard.json, whole or not at all."""
    write_text(folder / SHARD_NAME, record.model_dump_json(indent=1))


def read_shard_record(folder: Path) -> ShardRecord:
    """Read shard.json; RunError where it is missing or broken, or where the shard is not finished."""
    marker = read_marker(folder)
    if marker is not None and not marker.complete:
        message = f"{folder}: found a prediction that is not finished, expected a whole shard; make its call again"
        raise RunError(message)
    if not is_shard(folder):
        message = (
            f"{folder}: found no {SHARD_NAME}, expected the run of a shard; "
            "make it with `marrowscope predict --shard i/n`"
        )
        raise RunError(message)
    return load_record(ShardRecord, folder / SHARD_NAME, error=RunError, advice="predict the shard again")
