"""What bundle.toml says: one model for each section, read and checked where the bundle is loaded.

Schema 2. A section that a bundle does not have is absent from the file, as is a value that nobody knows: TOML has no
null. docs/bundle.md names every key; a test holds it against these models.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from marrowscope.bundle.precisions import FASTEST_FIRST, PrecisionGate
from marrowscope.cells.crop import CropSpec
from marrowscope.cells.quality import QualityRules
from marrowscope.config import FrozenModel
from marrowscope.patient.depth import Domain
from marrowscope.patient.flags import FlagRules, StainReference
from marrowscope.patient.standing import MAX_OUTSIDE, MIN_PATIENTS, is_open
from marrowscope.records import Specimen
from marrowscope.segment.config import SegmenterConfig
from marrowscope.statistics.joint import JointFit, JointRule
from marrowscope.statistics.temperature import Calibration, HeadCalibration

SCHEMA_VERSION = 2
SPEC_NAME = "bundle.toml"


def _known_precisions(gates: dict[str, PrecisionGate]) -> dict[str, PrecisionGate]:
    if unknown := sorted(gates.keys() - set(FASTEST_FIRST)):
        message = f"found the precisions {', '.join(unknown)}, expected only {', '.join(FASTEST_FIRST)}"
        raise ValueError(message)
    return gates


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class VocabularyReference(FrozenModel):
    """The vocabulary the classifier was trained with."""

    name: str = Field(description="of the vocabulary's file")
    version: str = Field(description="of the vocabulary's file")
    sha256: Sha256 = Field(description="of its content; another content is refused")


class TemperatureOfHead(HeadCalibration):
    """One head's temperature; the figures that are not defined are absent."""

    nll_before: float | None = Field(default=None, description="mean negative log-likelihood in nats at temperature 1")
    nll_after: float | None = Field(default=None, description="the same at the temperatures")
    ece_before: float | None = Field(default=None, description="expected calibration error at temperature 1")
    ece_after: float | None = Field(default=None, description="the same at the temperatures")


class BundleCalibration(FrozenModel):
    """How the temperatures that are inside the graphs were fitted, and what they changed."""

    method: str = Field(description="the formula, in words")
    source: str = Field(description="contours the cells were cut by: predicted or expert")
    n_patients: Count = Field(description="patients whose cells the temperatures were fitted on")
    heads: dict[str, TemperatureOfHead] = Field(description="head to its temperature and what it changed")

    @classmethod
    def of(cls, calibration: Calibration) -> BundleCalibration:
        """Take from a cross-fit's calibration what a bundle keeps: not the names of the folds' folders."""
        return cls(
            method=calibration.method,
            source=calibration.source,
            n_patients=calibration.n_patients,
            heads={name: TemperatureOfHead(**head.model_dump()) for name, head in calibration.heads.items()},
        )


class MemberMetrics(FrozenModel):
    """Figures (0-1) of one member on the patients that chose its best epoch, so no test; NaN where not defined."""

    # The default would make NaN a None.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    cblc_weighted_f1: float = Field(description="F1 of both answers of the CBLC head, weighted by their cells")
    cblc_positive_f1: float = Field(description="F1 of CBLC; nan without a CBLC crop")
    cblc_auc: float = Field(description="area under the ROC curve of the CBLC head; nan with one class only")
    countable_weighted_f1: float = Field(description="F1 of both answers of the countable head, weighted")
    plasma_positive_f1: float | None = Field(
        default=None, description="F1 of plasma cells; absent without such a head or crop"
    )
    category_weighted_f1: float = Field(description="F1 of the categories, weighted by their cells")
    category_macro_f1: float = Field(description="mean F1 of the categories that have a cell")
    n_crops: Count = Field(description="validation crops of the last stage")
    n_patients: Count = Field(description="validation patients of the last stage")


class StageCounts(FrozenModel):
    """How many crops and patients one stage of a training had."""

    training_crops: Count = Field(description="crops the stage learned from")
    validation_crops: Count = Field(description="crops it chose its best epoch on")
    training_patients: Count = Field(description="patients of the training crops")
    validation_patients: Count = Field(description="patients of the validation crops")


class MemberTraining(FrozenModel):
    """What one member was trained on, by hash and number."""

    crops_sha256: Sha256 = Field(description="of the crop set's pixels")
    cells_sha256: Sha256 = Field(description="of the crop set's table of cells")
    split_sha256: Sha256 = Field(description="of the list of training and validation patients")
    segmenter_sha256: Sha256 | None = Field(
        default=None, description="of the graph that cut the crops; absent for expert contours alone"
    )
    weights_sha256: Sha256 = Field(description="of the trained weights that became the graph")
    initial_weights: str = Field(description="what the training started from, in words")
    stages: dict[str, StageCounts] = Field(description="stage of the training to its counts")


class TrainingData(FrozenModel):
    """What the classifier was trained on."""

    description: str = Field(description="which images, from whom, under which license")
    members: dict[str, MemberTraining] = Field(default_factory=dict, description="member to what it was trained on")


class TrainingSource(FrozenModel):
    """One data set the networks learned from."""

    name: str = Field(min_length=1, description="of the data set")
    license: str = Field(min_length=1, description="SPDX identifier, or the terms in words")
    attribution: str = Field(default="", description="the credit its license asks for")
    doi: str = Field(default="", description="of the data set or its paper, without https://doi.org/")
    simulated: bool = Field(description="its cells are drawn by a program; they prove nothing about real ones")
    n_cells: dict[str, Count] = Field(description="raw code, or coarse label as stored, to its training cells")


class JointOfHeads(JointRule):
    """How the heads' probabilities become one distribution, and what that changed; undefined figures are absent."""

    n_cells: Count = Field(description="labeled out-of-fold cells the weights were fitted on")
    nll_before: float | None = Field(
        default=None, description="mean negative log-likelihood of CBLC in nats for a plain sum of the heads"
    )
    nll_after: float | None = Field(default=None, description="the same with the weights and shares")
    ece_before: float | None = Field(default=None, description="expected calibration error of p_cblc for a plain sum")
    ece_after: float | None = Field(default=None, description="the same with the weights and shares")

    @classmethod
    def of(cls, fit: JointFit, rule: JointRule) -> JointOfHeads:
        """Combine what a prediction needs with what was measured when it was fitted."""
        measured = fit.model_dump(include={"n_cells", "nll_before", "nll_after", "ece_before", "ece_after"})
        return cls(weights=rule.weights, triples=rule.triples, **measured)


class EmbeddingStatistics(FrozenModel):
    """Where the statistics of the training cells' embeddings stand, class by class: those of classifier-0."""

    file: str = Field(min_length=1, description="relative path in the bundle; it stands in [files] too")
    n_classes: int = Field(ge=1, description="classes the file has statistics of")
    n_dimensions: int = Field(ge=1, description="length of an embedding")


class CenterRates(FrozenModel):
    """Error rates measured in one center, and whether its ratios may be corrected with them."""

    file: str = Field(min_length=1, description="relative path of its error rates; it stands in [files] too")
    n_patients: Count = Field(description="fully reviewed patients")
    n_outside: Count = Field(description="of those, with an annotated ratio outside its interval")
    opened: bool = Field(description="the center has passed: corrected ratios and calls may be printed there")
    specimen: Specimen | None = Field(default=None, description="of these patients; absent: marrow, an older bundle")

    @model_validator(mode="after")
    def _is_open_by_the_rule(self) -> CenterRates:
        if self.n_outside > self.n_patients:
            message = f"found n_outside {self.n_outside} of n_patients {self.n_patients}, expected some of them at most"
            raise ValueError(message)
        if self.opened != is_open(self.n_patients, self.n_outside):
            message = (
                f"found opened {str(self.opened).lower()} with n_outside {self.n_outside} of n_patients "
                f"{self.n_patients}, expected true from {MIN_PATIENTS} patients on with at most {MAX_OUTSIDE} outside"
            )
            raise ValueError(message)
        return self


class BundleSpec(FrozenModel):
    """What bundle.toml holds."""

    schema_version: Literal[2] = Field(default=2, description="of this file")
    name: str = Field(description="of the bundle")
    version: str = Field(description="of the bundle; its maker counts")
    purpose: str = Field(default="", description="one sentence: what it may be used for")
    demonstration: bool = Field(
        default=False, description="every surface warns that it is not for a laboratory's images"
    )
    categories_trained: tuple[str, ...] = Field(default=(), description="the others are never predicted")
    implied_prior_cblc: Share | None = Field(default=None, description="CBLC share that p_cblc assumes")
    implied_prior_countable: Share | None = Field(default=None, description="countable share that p_countable assumes")
    implied_prior_plasma: Share | None = Field(
        default=None, description="plasma cell share that p_plasma assumes; absent: plasma cells are not predicted"
    )
    threshold: Share | None = Field(default=None, description="study threshold of the CBLC ratio; absent: no call")
    vocabulary: VocabularyReference = Field(description="which codes and categories the heads speak of")
    segmenter: SegmenterConfig = Field(description="the network's input, and how its output becomes contours")
    crop: CropSpec = Field(description="the single-cell crop the classifier sees")
    views: Literal[2, 4] | None = Field(
        default=None, description="of a crop, averaged inside the classifier's graph; absent: the crop alone"
    )
    quality_rules: QualityRules = Field(description="which contours are kept")
    flags: FlagRules = Field(
        default_factory=FlagRules, description="limits of the quality flags; the package's own where one is absent"
    )
    stain_reference: StainReference | None = Field(default=None, description="without it no stain is called far")
    implied_prior: dict[str, Share] = Field(default_factory=dict, description="category to share, sums to one")
    calibration: BundleCalibration | None = Field(default=None, description="none: the graphs are not calibrated")
    joint: JointOfHeads | None = Field(default=None, description="none: the heads' log-probabilities are summed")
    metrics: dict[str, MemberMetrics] = Field(default_factory=dict, description="member to its figures")
    training_data: TrainingData = Field(
        default=TrainingData(description="Not stated."), description="what the classifier was trained on"
    )
    sources: tuple[TrainingSource, ...] = Field(default=(), description="data sets the networks learned from")
    domain: Domain | None = Field(default=None, description="none: nothing is called out of depth")
    embeddings: EmbeddingStatistics | None = Field(default=None, description="none: no distance of embeddings")
    rates_by_center: dict[str, CenterRates] = Field(
        default_factory=dict, description="center to its own rates; those of all stand in quantification.json"
    )
    precisions: Annotated[dict[str, PrecisionGate], AfterValidator(_known_precisions)] = Field(
        default_factory=dict, description="what each precision below f32 changes, measured on annotated patients"
    )
    licenses: dict[str, str] = Field(default_factory=dict, description="part to license and attribution")
    files: dict[str, Sha256] = Field(default_factory=dict, description="relative path to SHA-256, all but bundle.toml")

    @property
    def predicts_plasma(self) -> bool:
        """Whether the classifier was trained to tell plasma cells from the rest of their category."""
        return self.implied_prior_plasma is not None

    def files_named(self) -> dict[str, str]:
        """Return the sections that name a file of the bundle, to that file."""
        named = {f"[rates_by_center.{center}]": rates.file for center, rates in self.rates_by_center.items()}
        return named | ({"[embeddings]": self.embeddings.file} if self.embeddings else {})


STATED: dict[str, type[FrozenModel]] = {"segmenter": SegmenterConfig, "crop": CropSpec, "quality_rules": QualityRules}
"""Sections that state every key: a default of the package that changes must not change what a bundle predicts."""
