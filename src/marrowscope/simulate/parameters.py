"""Parameters of the simulator, read from data files: appearance of each code, differentials, optics.

The three files (morphology.toml, differentials.toml, optics.toml) contain the values with their sources; the models
here only check them. ``SimulationConfig`` is what the user chooses.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from marrowscope.config import StageConfig, validate_config
from marrowscope.errors import ConfigError
from marrowscope.wording import count_of

Range = tuple[float, float]
Triple = tuple[float, float, float]
_PARAMETER_FILES = ("morphology.toml", "differentials.toml", "optics.toml")


class SimulationConfig(StageConfig):
    """What to simulate. Equal values give equal pixels, with any number of workers."""

    patients: int = Field(default=6, ge=1, description="number of patients")
    centers: int = Field(default=2, ge=1, description="number of centers; each has its own stain, scale and camera")
    fields: int = Field(default=10, ge=1, description="fields of view per patient, at least")
    prefix: str = Field(
        default="P",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="patients are PREFIX0001 and so on; cohorts used together need different prefixes",
    )
    seed: int = Field(default=0, ge=0, description="changes every cell, style and differential")
    workers: int = Field(default=1, ge=1, description="processes; no effect on the result")
    diagnoses: tuple[str, ...] = Field(
        default=(), description="patient i gets diagnoses[i % n]; empty: drawn by the weights in differentials.toml"
    )
    composition: Literal["differential", "balanced"] = Field(
        default="differential",
        description="differential: codes as in the diagnosis; balanced: every code about equally, for training",
    )
    neighbors: Literal["islands", "independent", "correlated", "reversed"] = Field(
        default="islands",
        description=(
            "islands: as in real smears; the others lay the same cells in rows, beside cells of the same composite "
            "blast-like state (correlated), of the other state (reversed), or in any order (independent)"
        ),
    )
    min_cells: int = Field(default=0, ge=0, description="fields are added (at most as many again) to reach this many")
    cells_per_field: tuple[int, int] | None = Field(
        default=None, description="nucleated cells per field, [least, most]; default by the style of the center"
    )
    width_px: int = Field(default=1280, ge=64, description="field width")
    height_px: int = Field(default=960, ge=64, description="field height")

    @field_validator("diagnoses")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = load_parameters().differentials.diagnosis
        for name in value:
            if name not in known:
                message = f"unknown diagnosis {name!r}, expected one of {', '.join(known)}"
                raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _centers_have_patients(self) -> SimulationConfig:
        if self.centers > self.patients:
            message = (
                f"found {count_of(self.centers, 'center')}, expected at most {self.patients}, the number of patients"
            )
            raise ValueError(message)
        return self


class Chromatin(StageConfig):
    """Texture of a nucleus: clump size (um), contrast, sharpness, share of strands, extra contrast at the membrane."""

    scale_um: float
    contrast: float
    gain: float
    ridge: float
    peripheral: float = 0.0


class Granule(StageConfig):
    """One kind of granule: which dye, how large, how dark."""

    dye: str
    diameter_um: Range
    amount: Range
    ground: float = 0.0


class CodeMorphology(StageConfig):
    """Appearance of cells of one raw code; morphology.toml explains every value."""

    source: str
    diameter_um: Range
    nc: Range
    nucleus: dict[str, float]
    chromatin: str
    chromatin_amount: Range
    blue: Range
    pink: Range
    nucleoli: tuple[int, int] = (0, 0)
    granules: tuple[tuple[str, float, float, float, float], ...] = ()
    eccentricity: Range
    irregularity: Range
    elongation: Range
    vacuoles: tuple[float, int, int] = (0.0, 0, 0)
    hof: Range = (0.0, 0.0)
    rim: Range
    edge_um: Range = (0.1, 0.5)
    blebs: tuple[float, int, int] = (0.0, 0, 0)
    auer_rods: float = 0.0
    balanced_weight: float = 1.0


class Morphology(StageConfig):
    """morphology.toml."""

    version: str
    chromatin: dict[str, Chromatin]
    granule: dict[str, Granule]
    code: dict[str, CodeMorphology]


class Diagnosis(StageConfig):
    """One row of the differentials: how much CBLC, and which cells on either side."""

    weight: float
    aml: bool
    cblc_share: Range
    positive: dict[str, float]
    negative: dict[str, float]


class Differentials(StageConfig):
    """differentials.toml."""

    version: str
    source: str
    beta: Range
    concentration: dict[str, float]
    uncounted: dict[str, Range]
    intra_field: dict[str, float]
    diagnosis: dict[str, Diagnosis]


class Optics(StageConfig):
    """optics.toml; the tables are flat and their keys are explained in the file."""

    version: str
    dye: dict[str, Triple]
    center: dict[str, float | Range | Triple]
    patient: dict[str, float]
    cell: dict[str, float]
    field: dict[str, float | Range]
    erythrocyte: dict[str, float | Range]


class Parameters(BaseModel):
    """The three files and their SHA-256."""

    morphology: Morphology
    differentials: Differentials
    optics: Optics
    sha256: dict[str, str]


def span(value: float | Range | Triple) -> Range:
    """Read a table entry as [low, high]; raises ConfigError where the file has something else."""
    if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - low and high
        return value
    message = f"found {value!r}, expected [low, high] in the simulator's parameter files"
    raise ConfigError(message)


def number(value: float | Range | Triple) -> float:
    """Read a table entry as one number; raises ConfigError where the file has something else."""
    if isinstance(value, (int, float)):
        return float(value)
    message = f"found {value!r}, expected a number in the simulator's parameter files"
    raise ConfigError(message)


@lru_cache(maxsize=1)
def load_parameters() -> Parameters:
    """Read and check the packaged parameter files."""
    contents = {name: files("marrowscope").joinpath("data", name).read_bytes() for name in _PARAMETER_FILES}
    tables = {name: tomllib.loads(data.decode("utf-8")) for name, data in contents.items()}
    return Parameters(
        morphology=validate_config(Morphology, tables["morphology.toml"], "morphology.toml"),
        differentials=validate_config(Differentials, tables["differentials.toml"], "differentials.toml"),
        optics=validate_config(Optics, tables["optics.toml"], "optics.toml"),
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
