"""manifest.json: everything needed to document and reproduce a run.

Invariant: images = read + failed, and contours = kept cells + rejected contours by reason. A manifest whose counts do
not add up is never written.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, model_validator

from marrowscope import __version__
from marrowscope.config import FrozenModel, load_record
from marrowscope.disk import write_text
from marrowscope.errors import RunError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_NAME = "manifest.json"
_VERSIONED_PACKAGES = ("numpy", "opencv-python-headless", "openvino", "onnxruntime", "polars", "shapely", "scipy")


class RunCounts(FrozenModel):
    """Counts of input and output; the validator checks that nothing was lost silently."""

    patients: int
    images: int
    images_read: int
    images_failed: int
    contours: int
    rejected: dict[str, int]
    cells: int
    countable: int
    cblc: int = Field(description="cells called CBLC, but for patients out of depth: a run of one would print theirs")
    contradictions: int
    left_out: int = Field(default=0, description="images and rows of patients.csv that were not predicted; see faults")

    @model_validator(mode="after")
    def _reconcile(self) -> RunCounts:
        if self.images != self.images_read + self.images_failed:
            message = (
                f"found {count_of(self.images, 'image')}, expected {self.images_read} read + {self.images_failed} "
                "failed"
            )
            raise ValueError(message)
        if self.contours != self.cells + sum(self.rejected.values()):
            rejected = sum(self.rejected.values())
            message = (
                f"found {count_of(self.contours, 'contour')}, expected {count_of(self.cells, 'cell')} + {rejected} "
                "rejected"
            )
            raise ValueError(message)
        if not self.cblc <= self.countable <= self.cells:
            message = (
                f"found {self.cblc} CBLC, {self.countable} countable and {count_of(self.cells, 'cell')}, expected "
                "ascending numbers"
            )
            raise ValueError(message)
        return self


class UsedVocabulary(FrozenModel):
    """The vocabulary of a run's bundle."""

    name: str = ""
    version: str = ""
    sha256: str | None = Field(default=None, description="None in a run that does not state it")


class UsedBundle(FrozenModel):
    """What a manifest states of the bundle: names, versions, hashes. Extra keys from other versions are kept."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    version: str = ""
    purpose: str = ""
    demonstration: bool = Field(default=False, description="shows that the pipeline works; not for real smears")
    sha256: str = Field(default="", description="of bundle.toml")
    vocabulary: UsedVocabulary | None = None
    threshold: float | None = Field(default=None, ge=0, le=1, description="study threshold (0-1)")
    files: dict[str, str] = Field(default={}, description="SHA-256 of each file")
    error_rates: str | None = Field(default=None, description="a sentence on where they were measured")

    @property
    def label(self) -> str:
        """Name and version, as printed."""
        return f"{self.name} {self.version}".strip()

    def stated(self) -> dict[str, Any]:
        """Return the values that are stated, as plain values."""
        return {key: value for key, value in self.model_dump().items() if value not in (None, "", {})}


class Failure(FrozenModel):
    """An image that could not be read."""

    field_id: str
    error: str


class Manifest(FrozenModel):
    """Everything needed to document and reproduce a run."""

    schema_version: int = 1
    created_utc: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    marrowscope_version: str = __version__
    command: tuple[str, ...] = Field(description="the command line as given, including paths; empty from Python")
    versions: dict[str, str]
    bundle: UsedBundle
    backend: str
    device: str
    precision: str
    config: dict[str, Any]
    config_sha256: str
    input_sha256: str = Field(description="SHA-256 over the sorted (field_id, image hash) pairs")
    tables: dict[str, str] = Field(default={}, description="SHA-256 of each table; empty in older runs")
    counts: RunCounts
    faults: tuple[str, ...] = Field(default=(), description="problems with the input folders, one sentence each")
    failures: tuple[Failure, ...] = ()
    seconds: float | None = Field(default=None, description="wall-clock time, of the last call only for a resumed run")
    images_resumed: int = Field(default=0, description="images predicted by an earlier, interrupted call")


def installed_versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that can change a result."""
    versions = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in _VERSIONED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    write_text(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished run; raises RunError if it is missing or broken."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        message = f"{folder}: found no {MANIFEST_NAME}, expected a finished run; run `marrowscope predict` first"
        raise RunError(message)
    return load_record(Manifest, path, error=RunError, advice="run `marrowscope predict` again")
