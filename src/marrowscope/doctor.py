"""What is installed, what will be used, and whether a bundle gives here what it gave where it was made."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

from marrowscope import __version__
from marrowscope.bundle import load_bundle
from marrowscope.bundle.golden_process import check_golden_apart
from marrowscope.bundle.precisions import FASTEST_FIRST, FULL, why_not
from marrowscope.errors import DependencyError
from marrowscope.networks import BACKENDS, available_backends, available_devices, capabilities, choose_backend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.bundle.golden import GoldenResult
    from marrowscope.runs.manifest import UsedBundle

_PACKAGES = ("numpy", "opencv-python-headless", "polars", "shapely", "onnxruntime", "openvino")
_TRAINING_PACKAGES = ("torch", "timm", "ultralytics-opencv-headless", "safetensors", "onnx")


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """The precision that ``auto`` takes with a bundle here, and of each one below f32 why it may be used or not."""

    precision: str
    capabilities: tuple[str, ...]
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What this machine offers.

    ``chosen`` is None where no runtime is installed. Nothing without a bundle: ``golden``, one result a runtime in f32
    and one in the precision that will be used, and ``choice``.
    """

    versions: dict[str, str | None]
    training_versions: dict[str, str | None]
    n_cores: int
    devices: dict[str, tuple[str, ...]]
    chosen: str | None
    bundle: UsedBundle | None
    golden: tuple[GoldenResult, ...]
    choice: PrecisionChoice | None = None

    @property
    def healthy(self) -> bool:
        """Say whether a prediction can run here and every golden sample passed."""
        return self.chosen is not None and all(result.passed for result in self.golden)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for ``--json``."""
        return {
            "marrowscope": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "n_cores": self.n_cores,
            "packages": self.versions,
            "training_packages": self.training_versions,
            "devices": {name: list(devices) for name, devices in self.devices.items()},
            "chosen_backend": self.chosen,
            "chosen_precision": None if self.choice is None else self.choice.precision,
            "precisions": {} if self.choice is None else self.choice.reasons,
            "bundle": None if self.bundle is None else self.bundle.model_dump(mode="json"),
            "golden": [
                {
                    "backend": result.backend,
                    "device": result.device,
                    "precision": result.precision,
                    "passed": result.passed,
                    "differences": result.differences,
                    "tolerances": result.tolerances,
                }
                for result in self.golden
            ],
            "healthy": self.healthy,
        }


def examine(bundle_folder: Path | None = None, *, backends: Sequence[str] | None = None) -> Diagnosis:
    """Look at the installation, and run the golden sample of a bundle on every runtime (or on ``backends``).

    Each runs it in f32, and the runtime that will be used also in the precision that will be used, in a process of its
    own. Raises BundleError when the bundle is damaged, or gives no numbers, or no answer in time; a sample that fails
    is a result, not an error.
    """
    installed = available_backends()
    try:
        chosen = choose_backend("auto")
    except DependencyError:
        chosen = None
    golden: tuple[GoldenResult, ...] = ()
    provenance = choice = None
    if bundle_folder is not None:
        bundle = load_bundle(bundle_folder)
        provenance = bundle.provenance()
        golden = tuple(check_golden_apart(bundle, name) for name in backends or installed)
        if chosen is not None:
            choice = choose(bundle, chosen)
            if choice.precision != FULL and chosen in (backends or installed):
                golden += (check_golden_apart(bundle, chosen, precision=choice.precision),)
    return Diagnosis(
        versions={name: _version(name) for name in _PACKAGES},
        training_versions={name: _version(name) for name in _TRAINING_PACKAGES},
        n_cores=os.cpu_count() or 1,
        devices={name: available_devices(name) if name in installed else () for name in BACKENDS},
        chosen=chosen,
        bundle=provenance,
        golden=golden,
        choice=choice,
    )


def choose(bundle: Bundle, backend: str) -> PrecisionChoice:
    """Say which precision ``auto`` takes with ``bundle`` on this machine, and why not another."""
    here = capabilities(backend)
    reasons = {}
    for name in FASTEST_FIRST:
        gate = bundle.spec.precisions.get(name)
        reason = why_not(
            name, bundle.spec.precisions, bundle.spec.files, capabilities=here, backend=backend, device="auto"
        )
        reasons[name] = f"not chosen by auto: {reason}" if reason or gate is None else gate.sentence()
    chosen = bundle.resolve_precision("auto", here, backend=backend, device="auto")
    return PrecisionChoice(chosen, here, reasons)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        module = package.split("-", maxsplit=1)[0]
        return "unknown" if util.find_spec(module) is not None else None
