"""A model bundle: a folder that says everything a prediction needs, every file of it hashed.

    bundle.toml                 BundleSpec
    CARD.md
    segmenter/segmenter.onnx    beside its AGPL-3.0 LICENSE and CARD.md
    classifier-0.onnx ...       the members, in order
    *-int8.onnx                 beside a graph: the same network with quantised layers
    golden.npz                  input and expected output of both networks
    quantification.json         error rates and study threshold, where they were measured
    vocabulary.toml             only where it is not the one that ships with the package

Invariant: nothing is opened whose hash was not checked, and no file is ever unpickled. The stages' settings are
plain tables here; the stage that uses one validates it with its own model.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, ValidationError

from marrowscope.bundle.precisions import INT8, PrecisionGate, check_precision, choose_precision, int8_name
from marrowscope.config import StageConfig, validate_config
from marrowscope.errors import BundleError, ConfigError
from marrowscope.imaging import sha256_bytes, sha256_file
from marrowscope.networks import Network, open_network
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE, Quantification
from marrowscope.patient.quantify.rates import kinds_of
from marrowscope.segment.config import SegmenterConfig
from marrowscope.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
SPEC_NAME = "bundle.toml"
SEGMENTER_FILE = "segmenter/segmenter.onnx"
GOLDEN_FILE, CARD_FILE = "golden.npz", "CARD.md"
VOCABULARY_FILE = "vocabulary.toml"
_MEMBER = re.compile(r"classifier-\d+\.onnx")


class VocabularyReference(StageConfig):
    """The vocabulary the classifier was trained with."""

    name: str
    version: str
    sha256: str


class BundleSpec(StageConfig):
    """What bundle.toml holds."""

    # A figure that validation does not define is NaN, which TOML can say: the default would make it None.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    schema_version: int = SCHEMA_VERSION
    name: str
    version: str
    purpose: str = Field(default="", description="one sentence: what it may be used for")
    demonstration: bool = Field(
        default=False, description="every surface warns that it is not for a laboratory's images"
    )
    vocabulary: VocabularyReference
    um_per_px: float = Field(gt=0, description="scale of the segmenter's input")
    segmenter: dict[str, Any] = Field(default_factory=dict, description="SegmenterConfig")
    crop: dict[str, Any] = Field(default_factory=dict, description="CropSpec")
    quality_rules: dict[str, Any] = Field(default_factory=dict, description="QualityRules")
    flags: dict[str, Any] = Field(default_factory=dict, description="FlagRules; the package's own where it is empty")
    stain_reference: dict[str, Any] = Field(
        default_factory=dict, description="StainReference of the training fields; without it no stain is called far"
    )
    categories_trained: tuple[str, ...] = Field(default=(), description="the others are never predicted")
    implied_prior: dict[str, float] = Field(default_factory=dict, description="category to share, sums to one")
    implied_prior_cblc: float | None = Field(default=None, ge=0, le=1, description="CBLC share that p_cblc assumes")
    implied_prior_countable: float | None = Field(default=None, ge=0, le=1, description="share p_countable assumes")
    threshold: float | None = Field(default=None, ge=0, le=1, description="study threshold of the CBLC ratio")
    calibration: dict[str, Any] = Field(
        default_factory=dict, description="how and on what each head's temperature was fitted"
    )
    metrics: dict[str, Any] = Field(default_factory=dict, description="as measured, with n, on what")
    training_data: dict[str, Any] = Field(default_factory=dict, description="what it was trained on, and fingerprints")
    precisions: dict[str, PrecisionGate] = Field(
        default_factory=dict, description="what each precision below f32 changes, measured on annotated patients"
    )
    licences: dict[str, str] = Field(default_factory=dict, description="part to licence and attribution")
    files: dict[str, str] = Field(default_factory=dict, description="relative path to SHA-256, all but bundle.toml")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose files are what its specification says."""

    folder: Path
    spec: BundleSpec
    spec_sha256: str
    vocabulary: Vocabulary

    @property
    def segmenter_sha256(self) -> str:
        """Hash of the segmenter's graph: it stands in everything made with it."""
        return self.spec.files.get(SEGMENTER_FILE, "")

    @property
    def segmenter_config(self) -> SegmenterConfig:
        """What the segmenter's network expects; ConfigError where [segmenter] does not say it."""
        return validate_config(SegmenterConfig, self.spec.segmenter, where=f"{self.folder}, bundle.toml [segmenter]")

    @property
    def classifier_files(self) -> tuple[str, ...]:
        """Relative paths of the members, in order."""
        return _members(self.spec.files)

    def open_segmenter(
        self,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "f32",
        *,
        threads: int | None = None,
        streams: int = 1,
    ) -> Network:
        """Load the segmenter's graph, the quantised one for ``int8`` where there is one; see ``open_network``."""
        path = self.folder / self._graph(SEGMENTER_FILE, precision)
        return open_network(path, backend, device, precision, threads=threads, streams=streams)

    def open_classifiers(
        self,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "f32",
        *,
        threads: int | None = None,
        streams: int = 1,
    ) -> list[Network]:
        """Load every member of the ensemble, in order; see ``open_segmenter``."""
        paths = [self.folder / self._graph(name, precision) for name in self.classifier_files]
        return [open_network(path, backend, device, precision, threads=threads, streams=streams) for path in paths]

    def resolve_precision(
        self, wanted: str, capabilities: Collection[str], *, backend: str | None = None, device: str | None = None
    ) -> str:
        """Give the precision to compute in: ``auto`` is the fastest whose accuracy gate was passed, else f32.

        ``capabilities`` are those of the device (``networks.capabilities``), ``backend`` the runtime that is used and
        ``device`` what it is asked for, ``auto`` too: a gate measured with another one does not count. A precision
        that was asked for needs no gate; one that the device or the bundle does not have raises ConfigError.
        """
        if wanted == "auto":
            return choose_precision(
                self.spec.precisions, self.spec.files, capabilities=capabilities, backend=backend, device=device
            )
        check_precision(wanted, self.spec.files, capabilities)
        return wanted

    def _graph(self, name: str, precision: str) -> str:
        quantised = int8_name(name)
        return quantised if precision == INT8 and quantised in self.spec.files else name

    def provenance(self) -> dict[str, Any]:
        """Give what a manifest says about the bundle: names, versions and hashes."""
        return {
            "name": self.spec.name,
            "version": self.spec.version,
            "purpose": self.spec.purpose,
            "demonstration": self.spec.demonstration,
            "sha256": self.spec_sha256,
            "vocabulary": self.spec.vocabulary.model_dump(),
            "threshold": self.spec.threshold,
            "files": dict(self.spec.files),
        }


def load_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Read ``path`` (the folder) and check every file's hash; ``verify=False`` checks only that the files are there.

    Raises BundleError naming the file, what was found and what was expected.
    """
    spec_path = path / SPEC_NAME
    if not spec_path.is_file():
        message = f"{path}: found no {SPEC_NAME}, expected a model bundle; check the path given with --bundle"
        raise BundleError(message)
    data = spec_path.read_bytes()
    spec = _parse_spec(data, spec_path)
    if SEGMENTER_FILE not in spec.files or not _members(spec.files):
        message = (
            f"{spec_path}: [files] names {sorted(spec.files)}, expected {SEGMENTER_FILE} and classifier-0.onnx; "
            "export the bundle again"
        )
        raise BundleError(message)
    for name, expected in spec.files.items():
        _check_file(path, name, expected, verify=verify)
    own = path / VOCABULARY_FILE
    vocabulary = load_vocabulary(own if VOCABULARY_FILE in spec.files else None)
    if vocabulary.sha256 != spec.vocabulary.sha256:
        trained, here = spec.vocabulary, vocabulary
        message = (
            f"{spec_path}: trained with vocabulary {trained.name} {trained.version} ({trained.sha256[:12]}), "
            f"found {here.name} {here.version} ({here.sha256[:12]}); "
            "use the version of marrowscope it was made with, or export it again"
        )
        raise BundleError(message)
    return Bundle(path, spec, sha256_bytes(data), vocabulary)


def open_quantification(bundle: Bundle) -> Quantification | None:
    """Read a bundle's quantification, None where it has none. Raises BundleError when it is not readable."""
    if QUANTIFICATION_FILE not in bundle.spec.files:
        return None
    path = bundle.folder / QUANTIFICATION_FILE
    try:
        found = Quantification.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        message = f"{path}: no readable error rates ({error}); export the bundle again"
        raise BundleError(message) from error
    expected = kinds_of(bundle.vocabulary)
    if found.rates.kinds != expected:
        message = (
            f"{path}: found rates of {len(found.rates.kinds)} kinds of cells, expected the {len(expected)} of "
            f"vocabulary {bundle.vocabulary.name}; measure them again with `marrowscope quantify`"
        )
        raise BundleError(message)
    return found


def check_bundle_folder(folder: Path) -> None:
    """Raise BundleError when something other than a bundle is where one is to be written."""
    is_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_empty and not (folder / SPEC_NAME).is_file():
        found = "folder" if folder.is_dir() else "file"
        message = f"{folder}: found a {found} that is no bundle, expected none or a bundle to replace; choose another"
        raise BundleError(message)


def write_bundle(folder: Path, spec: BundleSpec, files: Mapping[str, Path | bytes]) -> Bundle:
    """Write a bundle beside ``folder`` and move it there; ``spec.files`` is filled in.

    ``files`` maps a relative path to its content or to the file to copy. An earlier bundle is replaced; anything
    else in the way raises BundleError.
    """
    check_bundle_folder(folder)
    staging = folder.with_name(folder.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    hashes = {}
    for name, source in sorted(files.items()):
        target = staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copyfile(source, target)
        hashes[name] = sha256_file(target)
    complete = spec.model_copy(update={"files": hashes})
    (staging / SPEC_NAME).write_text(_to_toml(complete.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    load_bundle(staging)
    if folder.exists():
        shutil.rmtree(folder)
    staging.rename(folder)
    return load_bundle(folder)


def _members(files: Mapping[str, str]) -> tuple[str, ...]:
    """Give the members' paths by number: classifier-2 stands before classifier-10; quantised forms are no members."""
    names = [name for name in files if _MEMBER.fullmatch(name)]
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def _parse_spec(data: bytes, path: Path) -> BundleSpec:
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{path}: not readable TOML ({error}); copy the bundle again"
        raise BundleError(message) from error
    found = values.get("schema_version")
    if found != SCHEMA_VERSION:
        message = f"{path}: found schema_version {found!r}, expected {SCHEMA_VERSION}; use the version that made it"
        raise BundleError(message)
    try:
        return validate_config(BundleSpec, values, where=str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from error


def _check_file(folder: Path, name: str, expected: str, *, verify: bool) -> None:
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):
        message = f"{folder / SPEC_NAME}: [files] names {name!r}, expected a path inside the bundle; do not use it"
        raise BundleError(message)
    if not target.is_file():
        message = f"{target}: no such file, expected one of SHA-256 {expected}; copy the bundle again"
        raise BundleError(message)
    if not verify:
        return
    found = sha256_file(target)
    if found != expected:
        message = f"{target}: found SHA-256 {found}, expected {expected}; the file was changed, copy the bundle again"
        raise BundleError(message)


def _to_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Write nested tables of text, numbers, booleans and lists of them as TOML."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            name = f"{prefix}{_key(key)}"
            lines += ["", f"[{name}]", _to_toml(value, f"{name}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _value(value: Any) -> str:  # noqa: ANN401 - whatever TOML can hold
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(value)  # nan and inf as TOML spells them
    return json.dumps(value, ensure_ascii=False)
