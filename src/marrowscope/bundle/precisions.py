"""What a lower precision changes in a bundle's results, and which precision is used on a machine.

A network computes in one of ``networks.PRECISIONS``. A bundle is computed in a choice: one of these for all its
networks, or one for the segmenter and another for the classifiers (``by_network``).

A choice below float32 is used unasked only where its gate in the bundle was passed: on annotated patients, in every
center, CBLC weighted F1 and the mean error of the CBLC ratio stay within 0.002 of float32. A gate holds for the
networks, the runtime and the device it was measured with: another graph under the same name has not passed it, and the
same graph on another device rounds otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ConfigDict, Field, model_validator

from marrowscope.bundle.graph_names import is_graph
from marrowscope.config import FrozenModel
from marrowscope.errors import ConfigError
from marrowscope.imaging import sha256_bytes
from marrowscope.networks import resolve_device
from marrowscope.wording import decimals_apart

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FULL = "f32"
MAX_CHANGE = 0.002
"""Of CBLC weighted F1 and of the mean absolute error of the CBLC ratio, against float32, in every center."""

FASTEST_FIRST = ("bf16", "bf16-segmenter", "f16")
"""Choices below float32, as a processor that has the instructions runs them."""

CHOICES = (FULL, *FASTEST_FIRST)

Limits = tuple[float, float]


class NetworkPrecisions(NamedTuple):
    """What the networks of a bundle are computed in, each one of ``networks.PRECISIONS``."""

    segmenter: str
    classifiers: str


_MIXED = {"bf16-segmenter": NetworkPrecisions("bf16", FULL)}


def by_network(choice: str) -> NetworkPrecisions:
    """Return what each network is computed in; a choice that is not mixed, or unknown, stands for all networks."""
    return _MIXED.get(choice, NetworkPrecisions(choice, choice))


def is_computable(choice: str, capabilities: Collection[str]) -> bool:
    """Say whether a device with ``capabilities`` has the instructions for every network."""
    return all(precision in capabilities for precision in by_network(choice))


class CenterChange(FrozenModel):
    """What one center's figures are in float32 and by how much the lower precision moves them (lower minus f32).

    Intervals: 95%, bootstrap over patients, the same patients on both sides; None with fewer than two patients.
    """

    # A figure that the data do not define is NaN, and NaN passes no gate.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    n_patients: int = Field(ge=0, description="patients with annotated cells")
    n_cells: int = Field(ge=0, description="annotated cells, those cut by the image's edge left out")
    n_ratios: int = Field(ge=0, description="patients with an annotated and a predicted CBLC ratio")
    cblc_weighted_f1: float = Field(description="in f32, over all annotated cells, a missed one counted as wrong")
    cblc_weighted_f1_change: float = Field(description="lower precision minus f32")
    cblc_weighted_f1_interval: Limits | None = Field(default=None, description="95% limits of that change")
    ratio_mae: float = Field(description="mean absolute error of the CBLC ratio (0-1) in f32, patient by patient")
    ratio_mae_change: float = Field(description="lower precision minus f32")
    ratio_mae_interval: Limits | None = Field(default=None, description="95% limits of that change")

    def is_within(self, limit: float) -> bool:
        """Say whether both changes are numbers below ``limit``."""
        return all(abs(change) < limit for change in (self.cblc_weighted_f1_change, self.ratio_mae_change))


class PrecisionGate(FrozenModel):
    """The measurement that a precision passed or failed, and what it stands on."""

    passed: bool = Field(description="every change of every center is smaller than max_change")
    max_change: float = Field(default=MAX_CHANGE, gt=0, le=MAX_CHANGE, description="stricter is allowed, laxer is not")
    backend: str = Field(description="runtime the gate was measured with")
    device: str = Field(description="device of that runtime")
    processor: str = Field(default="", description="what the measurement ran on, in the system's words")
    measured_on: str = Field(description="the annotated patients, a sentence part")
    input_sha256: str = Field(description="fingerprint of the images, as in a run's manifest")
    networks_sha256: str = Field(description="fingerprint of the graphs, see networks_fingerprint")
    centers: dict[str, CenterChange] = Field(min_length=1, description="center to its figures and their changes")

    @model_validator(mode="after")
    def _passed_is_what_the_changes_say(self) -> PrecisionGate:
        within = all(change.is_within(self.max_change) for change in self.centers.values())
        if self.passed != within:
            message = (
                f"found passed = {str(self.passed).lower()} beside changes of which "
                f"{'none reaches' if within else 'one is not below'} {self.max_change:g}; measure the gate again"
            )
            raise ValueError(message)
        return self

    def shown(self, change: float) -> str:
        """Print a change with its sign, never as the limit that it does not reach."""
        return f"{change:+.{decimals_apart(abs(change), self.max_change, 4)}f}"

    def sentence(self) -> str:
        """Return the verdict and the largest changes as one line."""
        changes = list(self.centers.values())
        f1 = max((change.cblc_weighted_f1_change for change in changes), key=_size)
        mae = max((change.ratio_mae_change for change in changes), key=_size)
        verdict = "passed" if self.passed else "FAILED"
        return (
            f"{verdict} on {self.measured_on}: CBLC weighted F1 changes by up to {self.shown(f1)}, "
            f"ratio MAE by up to {self.shown(mae)}, {self.max_change:g} is the limit"
        )


def networks_fingerprint(files: Mapping[str, str]) -> str:
    """Return one hash for the networks of a bundle; ``files`` maps its paths to SHA-256."""
    names = sorted(name for name in files if is_graph(name))
    return sha256_bytes("\n".join(f"{name} {files[name]}" for name in names).encode())


def why_not(
    precision: str,
    gates: Mapping[str, PrecisionGate],
    files: Mapping[str, str],
    *,
    capabilities: Collection[str],
    backend: str | None = None,
    device: str | None = None,
) -> str:
    """Say why ``precision`` is not used unasked; nothing where it may be.

    ``files`` are the bundle's, path to SHA-256; ``capabilities`` the precisions that the device has instructions for.
    ``backend`` and ``device`` (as asked for, ``auto`` too) are those that will be used; None is not compared.
    """
    gate = gates.get(precision)
    reason = ""
    if precision == FULL:
        return reason
    if not is_computable(precision, capabilities):
        reason = "the device has no instructions for it"
    elif gate is None:
        reason = "its accuracy was not measured with this bundle"
    elif gate.networks_sha256 != networks_fingerprint(files):
        reason = "its accuracy was measured with other networks"
    elif backend is not None and backend != gate.backend:
        reason = f"its accuracy was measured with {gate.backend}"
    elif device is not None and resolve_device(gate.backend, device) != gate.device:
        reason = f"its accuracy was measured on {gate.device}"
    elif not gate.passed:
        reason = f"its accuracy gate {gate.sentence()}"
    return reason


def choose_precision(
    gates: Mapping[str, PrecisionGate],
    files: Mapping[str, str],
    *,
    capabilities: Collection[str],
    backend: str | None = None,
    device: str | None = None,
) -> str:
    """Return the fastest precision that may be used unasked, f32 where none of the others may; see ``why_not``."""
    for name in FASTEST_FIRST:
        if not why_not(name, gates, files, capabilities=capabilities, backend=backend, device=device):
            return name
    return FULL


def check_precision(precision: str, capabilities: Collection[str]) -> None:
    """Raise ConfigError for a precision that nobody knows, or that the device does not have."""
    if precision not in CHOICES:
        message = f"precision {precision!r}: expected auto or one of {', '.join(CHOICES)}"
        raise ConfigError(message)
    if not is_computable(precision, capabilities):
        here = ", ".join(name for name in CHOICES if is_computable(name, capabilities))
        message = f"precision {precision!r}: the device here computes in {here}; choose one of them or auto"
        raise ConfigError(message)


def _size(change: float) -> float:
    """Order changes by their size, one that is not a number above all."""
    return math.inf if math.isnan(change) else abs(change)
