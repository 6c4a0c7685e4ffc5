"""metrics.json: what was measured, on what and how, as one record that is checked on reading.

Its words (titles, groups, notes) are for people; code decides by the keys. NaN is written as null.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from marrowscope import __version__
from marrowscope.config import UNREADABLE, FrozenModel, one_line, parse_json, rule_of
from marrowscope.errors import InputError
from marrowscope.evaluate.catalog import CATALOG, HEADLINES, WARNINGS
from marrowscope.evaluate.link import EvaluateConfig
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from marrowscope.evaluate.across_centers import AcrossCenters
    from marrowscope.evaluate.decision_curve import DecisionPoint
    from marrowscope.evaluate.participants import Characteristic, Flow
    from marrowscope.evaluate.scorer import Figure
    from marrowscope.evaluate.subgroups import Subgroup
    from marrowscope.records import Interval

SCHEMA_VERSION: Literal[3] = 3
METRICS_NAME = "metrics.json"
_AGAIN = "run `marrowscope evaluate` again"


class WarningRecord(FrozenModel):
    """Why a figure must not be taken at face value, as a key of ``catalog.WARNINGS`` and in words."""

    key: str
    text: str

    @field_validator("key")
    @classmethod
    def _is_known(cls, key: str) -> str:
        return _known(key, WARNINGS)


class FigureRecord(FrozenModel):
    """A figure of one center; None if it has no value, no interval or no reference value."""

    model_config = ConfigDict(allow_inf_nan=False)

    key: str
    name: str
    value: float | None
    lower: float | None
    upper: float | None
    all_negative: float | None
    n: int
    unit: str
    n_patients: int
    marks: str
    interval: str
    group: str
    note: str
    warning: WarningRecord | None
    undefined: str
    same_as: str = Field(description="key of the figure that it repeats and necessarily equals here; else empty")

    @field_validator("key")
    @classmethod
    def _is_known(cls, key: str) -> str:
        return _known(key, CATALOG)

    @model_validator(mode="after")
    def _has_both_limits_or_none(self) -> FigureRecord:
        if (self.lower is None) != (self.upper is None) or (self.value is None and self.lower is not None):
            found = f"value {self.value}, lower {self.lower} and upper {self.upper}"
            message = f"found {found}, expected both limits or none"
            raise ValueError(message)
        return self


class SubgroupRecord(FrozenModel):
    """The patients of a center with one value of an attribute; None if the data do not define a figure.

    ``n_ratio`` patients have MAE and bias, ``n_interval`` a coverage. The AUC is of ``n_aml`` against ``n_other``, one
    of which is of the whole center if ``against_all``.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    attribute: str
    value: str
    n_patients: int
    n_ratio: int
    mae: float | None
    mae_lower: float | None
    mae_upper: float | None
    bias: float | None
    bias_lower: float | None
    bias_upper: float | None
    n_interval: int
    coverage: float | None
    coverage_lower: float | None
    coverage_upper: float | None
    n_aml: int
    n_other: int
    against_all: bool
    auc: float | None
    auc_lower: float | None
    auc_upper: float | None


class DecisionPointRecord(FrozenModel):
    """Net benefit of a rule at one risk, of ``n`` patients with ``n_aml`` AML, ``n_acted`` of them acted on."""

    model_config = ConfigDict(allow_inf_nan=False)

    rule: str
    risk: float
    n: int
    n_aml: int
    n_acted: int
    net_benefit: float | None
    net_benefit_lower: float | None
    net_benefit_upper: float | None


class CenterRecord(FrozenModel):
    """The figures of one center, or of all together; they always include the main figures."""

    center: str
    n_patients: int
    n_fields: int
    figures: tuple[FigureRecord, ...]
    subgroups: tuple[SubgroupRecord, ...]
    decision_curve: tuple[DecisionPointRecord, ...]

    def figure(self, key: str) -> FigureRecord | None:
        """Return the figure with this key; None if the evaluation has none, for example with only one center."""
        return next((figure for figure in self.figures if figure.key == key), None)

    @model_validator(mode="after")
    def _has_headlines(self) -> CenterRecord:
        missing = HEADLINES.keys() - {figure.key for figure in self.figures}
        if missing:
            message = f"{self.center} lacks the main figures {', '.join(sorted(missing))}"
            raise ValueError(message)
        return self


class AcrossRecord(FrozenModel):
    """A figure summarized over centers as a sample of centers; None if it is not defined.

    ``mean`` and the two intervals are on the figure's own scale, ``tau2`` on ``scale``.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    key: str
    figure: str
    scale: str
    n_centers: int
    mean: float | None
    mean_lower: float | None
    mean_upper: float | None
    prediction_lower: float | None
    prediction_upper: float | None
    tau2: float | None
    i2: float | None
    q: float | None
    p: float | None
    left_out: tuple[str, ...]
    undefined: str

    @field_validator("key")
    @classmethod
    def _is_known(cls, key: str) -> str:
        return _known(key, CATALOG)


class CharacteristicRecord(FrozenModel):
    """One cell of Table 1: a count with its share of the center's patients, or a median with quartiles."""

    model_config = ConfigDict(allow_inf_nan=False)

    center: str
    name: str
    value: str
    n: int | None
    share: float | None
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None


class LeftOutRecord(FrozenModel):
    """How many were left out for a reason."""

    reason: str
    n: int


class FlowBoxRecord(FrozenModel):
    """A box of a flow, and what was left out before it."""

    name: str
    n: int
    left_out: tuple[LeftOutRecord, ...]


class FlowRecord(FrozenModel):
    """A chain of boxes; each holds the one before it, less what was left out."""

    key: str
    boxes: tuple[FlowBoxRecord, ...]


class EvaluatedRun(FrozenModel):
    """The run that was measured, as stated in its manifest; ``bundle`` is the manifest's entry on the bundle."""

    created_utc: str
    marrowscope_version: str
    bundle: dict[str, Any]
    backend: str
    device: str
    precision: str
    input_sha256: str
    config_sha256: str


class EvaluationDocument(FrozenModel):
    """metrics.json; centers in the order of measurement, followed by all centers together if there are several."""

    schema_version: Literal[3] = SCHEMA_VERSION
    marrowscope_version: str = __version__
    run: EvaluatedRun
    config: EvaluateConfig
    interval: str
    categories: tuple[str, ...]
    n_fields_only_in_run: int
    n_fields_only_in_cohort: int
    n_cells_outside_regions: int = 0
    own_rates: tuple[str, ...] = Field(
        default=(), description="centers whose ratios were corrected with rates measured in the center itself"
    )
    centers: tuple[CenterRecord, ...] = Field(min_length=1)
    across_centers: tuple[AcrossRecord, ...]
    characteristics: tuple[CharacteristicRecord, ...]
    flows: tuple[FlowRecord, ...]


def figure_record(figure: Figure) -> FigureRecord:
    """Convert a figure to a record with the words of the catalog; NaN becomes None."""
    kind = figure.kind
    return FigureRecord(
        key=figure.key,
        name=kind.title,
        value=finite(figure.value.estimate),
        lower=finite(figure.value.lower),
        upper=finite(figure.value.upper),
        all_negative=finite(figure.reference),
        n=figure.n,
        unit=kind.unit.many,
        n_patients=figure.n_patients,
        marks=figure.marks,
        interval=kind.method.value,
        group=kind.group,
        note=figure.note,
        warning=WarningRecord(key=figure.warning.key, text=figure.warning.text) if figure.warning else None,
        undefined=figure.undefined,
        same_as=figure.same_as,
    )


def limits_of(name: str, value: Interval) -> dict[str, float | None]:
    """Return estimate and limits under ``name``, ``<name>_lower`` and ``<name>_upper``; NaN becomes None."""
    return {
        name: finite(value.estimate),
        f"{name}_lower": finite(value.lower),
        f"{name}_upper": finite(value.upper),
    }


def subgroup_record(item: Subgroup) -> SubgroupRecord:
    """Convert a subgroup to a record."""
    counts = {"n_patients": item.n_patients, "n_ratio": item.n_ratio, "n_interval": item.n_interval}
    counts |= {"n_aml": item.n_aml, "n_other": item.n_other}
    limits = limits_of("mae", item.mae) | limits_of("bias", item.bias) | limits_of("coverage", item.coverage)
    limits |= limits_of("auc", item.auc)
    names = {"attribute": item.attribute, "value": item.value, "against_all": item.against_all}
    return SubgroupRecord.model_validate(names | counts | limits)


def decision_record(item: DecisionPoint) -> DecisionPointRecord:
    """Convert a point of a decision curve to a record."""
    counts = {"n": item.n, "n_aml": item.n_aml, "n_acted": item.n_acted}
    names = {"rule": item.rule, "risk": item.risk}
    return DecisionPointRecord.model_validate(names | counts | limits_of("net_benefit", item.net_benefit))


def characteristic_record(item: Characteristic) -> CharacteristicRecord:
    """Convert a cell of Table 1 to a record."""
    return CharacteristicRecord.model_validate(asdict(item))


def flow_record(flow: Flow) -> FlowRecord:
    """Convert a flow to a record."""
    boxes = tuple(
        FlowBoxRecord(name=box.name, n=box.n, left_out=tuple(LeftOutRecord(reason=r, n=n) for r, n in box.left_out))
        for box in flow.boxes
    )
    return FlowRecord(key=flow.key, boxes=boxes)


def across_record(item: AcrossCenters) -> AcrossRecord:
    """Convert a summary over centers to a record with the title of its figure; NaN becomes None."""
    return AcrossRecord(
        key=item.key,
        figure=CATALOG[item.key].title,
        scale=item.scale,
        n_centers=item.n_centers,
        mean=finite(item.mean.estimate),
        mean_lower=finite(item.mean.lower),
        mean_upper=finite(item.mean.upper),
        prediction_lower=finite(item.prediction_lower),
        prediction_upper=finite(item.prediction_upper),
        tau2=finite(item.tau2),
        i2=finite(item.i2),
        q=finite(item.q),
        p=finite(item.p),
        left_out=item.left_out,
        undefined=item.undefined,
    )


def finite(value: float | None) -> float | None:
    """Replace NaN, which JSON does not have, by None."""
    return None if value is None or math.isnan(value) else float(value)


def read_document(folder: Path) -> EvaluationDocument:
    """Read the metrics.json of an evaluation folder.

    Raises InputError if there is none, if it has another version, or if it is not what an evaluation writes.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        message = f"{folder}: found no {METRICS_NAME}, expected an evaluation folder; run `marrowscope evaluate` first"
        raise InputError(message)
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        message = f"{path}: cannot be read as JSON ({error}); {_AGAIN}"
        raise InputError(message) from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        message = f"{path}: found schema version {version}, expected {SCHEMA_VERSION}; {_AGAIN}"
        raise InputError(message)
    try:
        return EvaluationDocument.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(one_line(part) for part in fault["loc"])
        message = (
            f"{path}: found {count_of(error.error_count(), 'fault')}, the first in {place} ({rule_of(fault)}); {_AGAIN}"
        )
        raise InputError(message) from error


def _known(key: str, keys: Container[str]) -> str:
    if key in keys:
        return key
    message = f"{key!r} is not a key of the catalog"
    raise ValueError(message)
