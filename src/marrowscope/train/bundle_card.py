"""What a bundle states about itself: its specification and its card, built from what is known of its members.

A person supplies ``BundleDescription``; the training records supply the rest: each member's training data, the
metrics of its epoch, the class shares its probabilities assume, and the stain of the fields it saw.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import AliasChoices, Field

from marrowscope.bundle import BundleSpec, VocabularyReference
from marrowscope.bundle.description import (
    BundleCalibration,
    JointOfHeads,
    MemberMetrics,
    MemberTraining,
    StageCounts,
    TrainingData,
    TrainingSource,
)
from marrowscope.cells.crop import CropSpec
from marrowscope.cohort.folds import read_split
from marrowscope.config import StageConfig
from marrowscope.errors import InputError
from marrowscope.patient.flags import TRAINING_FIELDS_NAME, FlagRules, fit_stain_reference
from marrowscope.patient.flags.stain_reference import DENSITIES
from marrowscope.patient.learned import learned_from
from marrowscope.runs.parquet import read_columns
from marrowscope.train.checkpoint import SPLIT_NAME
from marrowscope.train.config import HEADS, PLASMA
from marrowscope.train.crop_set import FIELDS_SCHEMA
from marrowscope.train.source_counts import DescribedSource, holds_cells
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.patient.flags import StainReference
    from marrowscope.segment.config import SegmenterConfig
    from marrowscope.statistics.temperature import Calibration
    from marrowscope.train.model import ClassifierInfo
    from marrowscope.train.training_record import FinishedTraining
    from marrowscope.vocabulary import Vocabulary

N_PARITY_CROPS, N_GOLDEN_CROPS = 64, 4
NOT_MEASURED = (
    "It has no error rates: ratios are not corrected, no call is made. Measure them on annotated patients it never saw "
    "with `marrowscope quantify`."
)

_AGAIN = "make the crop set again with `marrowscope prepare`"


class BundleDescription(StageConfig):
    """What only a person can state about a bundle; it goes into bundle.toml and CARD.md."""

    name: str = "classifier"
    version: str = "1"
    purpose: str = "Finds nucleated cells on smear images and classifies them."
    demonstration: bool = Field(default=False, description="every output warns that it is not for your own images")
    trained_on: str = Field(default="Not stated.", description="which images, whose, and under which license")
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="study threshold of the corrected ratio; none: learned from a cross-fit"
    )
    aml_diagnoses: tuple[str, ...] = Field(
        default=("AML",), min_length=1, description="diagnoses that count as AML when the threshold is learned"
    )
    decision_tau: float | None = Field(
        default=0.0,
        ge=0,
        le=1,
        description="class shares the probabilities assume: 0 those of the training cells, 1 all equal, in between "
        "shares ** (1 - tau); none leaves them as trained. 0 had the smallest ratio error on validation patients",
    )
    flags: FlagRules = Field(default_factory=FlagRules, description="thresholds of the quality flags")
    sources: tuple[DescribedSource, ...] = Field(
        default=(), description="data sets the training cells come from, by centers; their cells are counted"
    )
    licenses: dict[str, str] = Field(
        validation_alias=AliasChoices("licenses", "licences"),
        default_factory=lambda: {"segmenter": "AGPL-3.0-only (Ultralytics YOLO11)", "classifier": "not stated"},
        description="license and attribution of each part of the bundle",
    )


@dataclass(frozen=True, slots=True)
class Member:
    """One trained classifier: its training folder, its record, and the description of its weights."""

    folder: Path
    record: FinishedTraining
    info: ClassifierInfo
    parity: dict[str, float]


def specify(
    description: BundleDescription,
    vocabulary: Vocabulary,
    members: Sequence[Member],
    segmenter: SegmenterConfig,
    calibration: Calibration | None,
    *,
    stain: StainReference | None,
    sources: tuple[TrainingSource, ...] = (),
    joint: JointOfHeads | None = None,
) -> BundleSpec:
    """Combine what is known of the parts into the bundle's specification.

    The shares it states are those of the cells' probabilities: of the triples where there is a joint calibration.
    """
    info, prepared = members[0].info, members[0].record.prepared
    tau = description.decision_tau
    numbered = [(f"classifier-{index}", member) for index, member in enumerate(members)]
    shares = (
        {head: _implied_prior(members, head, tau) for head in HEADS} if joint is None else _joint_shares(joint, info)
    )
    return BundleSpec(
        name=description.name,
        version=description.version,
        purpose=description.purpose,
        demonstration=description.demonstration,
        vocabulary=VocabularyReference(name=vocabulary.name, version=vocabulary.version, sha256=vocabulary.sha256),
        segmenter=segmenter,
        crop=CropSpec(
            side_um=round(info.um_per_px * info.crop_px, 6), size_px=info.crop_px, seen_um=prepared.crop.seen_um
        ),
        views=None if info.views == 1 else info.views,
        quality_rules=prepared.quality_rules,
        flags=description.flags,
        stain_reference=stain,
        categories_trained=tuple(name for name in info.categories if name not in _never_predicted(members)),
        implied_prior=dict(zip(info.categories, shares["category"], strict=True)),
        implied_prior_cblc=shares["cblc"][1],
        implied_prior_countable=shares["countable"][1],
        implied_prior_plasma=_implied_prior(members, PLASMA, tau)[1] if _all_know_plasma(members) else None,
        threshold=description.threshold,
        calibration=None if calibration is None else BundleCalibration.of(calibration),
        joint=joint,
        metrics={name: _metrics(member.record) for name, member in numbered},
        training_data=TrainingData(
            description=description.trained_on,
            members={name: _fingerprint(member.record) for name, member in numbered},
        ),
        sources=sources,
        licenses=description.licenses,
    )


def write_card(
    spec: BundleSpec,
    members: Sequence[Member],
    segmenter_sha256: str,
    calibration: Calibration | None = None,
    quantification: str = "",
    *,
    vocabulary: Vocabulary,
) -> str:
    """Fill in the card's template: what the bundle is, what it was trained on, and what it must not be used for."""
    template = resources.files("marrowscope.data").joinpath("bundle_card.md").read_text(encoding="utf-8")
    info = members[0].info
    stages = [
        f"| {index} | {name} | {counts.training_crops} | {counts.training_patients} | "
        f"{counts.validation_crops} | {counts.validation_patients} |"
        for index, member in enumerate(members)
        for name, counts in member.record.stages.items()
    ]
    return string.Template(template).substitute(
        name=spec.name,
        version=spec.version,
        purpose=spec.purpose,
        segmenter_sha256=segmenter_sha256,
        segmenter_um_per_px=f"{spec.segmenter.um_per_px:g}",
        n_members=len(members),
        architecture=info.architecture,
        side_um=f"{spec.crop.side_um:g}",
        crop_px=info.crop_px,
        n_categories=len(info.categories),
        vocabulary_name=spec.vocabulary.name,
        vocabulary_version=spec.vocabulary.version,
        not_trained=", ".join(_never_predicted(members)) or "none",
        prior_cblc=f"{spec.implied_prior_cblc:.3f}",
        calibration="They are not calibrated." if calibration is None else calibration.sentence(),
        quantification=quantification or NOT_MEASURED,
        trained_on=spec.training_data.description,
        coarse_labels=_coarse_labels(members),
        sources=_sources(spec, vocabulary),
        of_simulated_cells=_of_simulated_cells(spec, vocabulary),
        initial_weights="; ".join(sorted({member.info.initial_weights for member in members})),
        teacher=_teachers(members),
        stage_rows="\n".join(stages),
        validation=_validation(members),
        licenses="\n".join(f"- {part}: {terms}" for part, terms in spec.licenses.items()) + _credits(spec),
        n_golden=N_GOLDEN_CROPS + 1,
        parity=f"{max(max(member.parity.values()) for member in members):.1g}",
        n_parity=N_PARITY_CROPS,
        backends=", ".join(members[0].parity),
    )


def _validation(members: Sequence[Member]) -> str:
    """Give the figures of the epochs that were chosen, or say that the schedule was fixed and nothing was chosen."""
    if not any(_metrics(member.record).n_crops for member in members):
        return "Every patient of the training side trained, on a fixed schedule: there is no validation side."
    names = ("cblc_weighted_f1", "cblc_positive_f1", "cblc_auc", "category_weighted_f1", "category_macro_f1")
    rows = [
        f"| {index} | " + " | ".join(_figure(getattr(_metrics(member.record), name)) for name in names) + " |"
        for index, member in enumerate(members)
    ]
    told = (
        "Patients of the validation side chose the best epoch; its figures are therefore a little too good. They are "
        "no test."
    )
    return "\n".join(
        [
            told,
            "",
            "| member | CBLC weighted F1 | CBLC F1 | CBLC AUC | category weighted F1 | category macro F1 |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Category macro F1 averages the categories with a cell among the validation crops.",
        ]
    )


def _teachers(members: Sequence[Member]) -> str:
    """Say whose probabilities the members learned beside their labels."""
    teachers = sorted({str(member.record.teacher) for member in members if member.record.teacher is not None})
    return f" Teacher: {'; '.join(teachers)}." if teachers else ""


def _all_know_plasma(members: Sequence[Member]) -> bool:
    """Tell whether every member has the head: a fold may have had no plasma cell to learn from."""
    return all(PLASMA in member.info.heads for member in members)


def _never_predicted(members: Sequence[Member]) -> tuple[str, ...]:
    """List the categories that no member was trained on."""
    absent = set.intersection(*(set(member.info.categories_not_trained) for member in members))
    return tuple(name for name in members[0].info.categories if name in absent)


def _coarse_labels(members: Sequence[Member]) -> str:
    """Say which labels left the code open, and which cells their declarations may count wrongly."""
    labels = {item.label: item for member in members for item in member.record.coarse_labels}
    if not labels:
        return "Every label of a cell was one raw code."
    lines = ["Labels that leave the code open; what they declare counts for all their cells:", ""]
    for item in labels.values():
        wrong = f"; of these, {' and '.join(item.exceptions)} may be among them" if item.exceptions else ""
        lines.append(f"- `{item.label}`: {count_of(item.n_cells, 'annotated cell')}{wrong}")
    return "\n".join(lines)


def _sources(spec: BundleSpec, vocabulary: Vocabulary) -> str:
    """List the data sets with their cells, and what was learned from simulated cells only."""
    learned = learned_from(((source.simulated, source.n_cells) for source in spec.sources), vocabulary)
    if learned is None:
        return "The sources are not stated, so nobody knows which classes were learned from simulated cells only."
    lines = ["| source | license | simulated | training cells by label |", "|---|---|---|---|"]
    for source in spec.sources:
        counts = ", ".join(f"{label} {n}" for label, n in source.n_cells.items())
        lines.append(f"| {source.name} | {source.license} | {'yes' if source.simulated else 'no'} | {counts} |")
    only = [", ".join(names) or "none" for names in (learned.simulated_only, learned.simulated_only_codes)]
    lines += ["", f"**Learned from simulated cells only**: categories {only[0]}; raw codes {only[1]}."]
    if missing := learned.blasts_not_learned(None):
        lines.append(f"No blast estimate is printed for real photographs: {', '.join(missing)} had no real cells.")
    real = [vocabulary.read_label(label) for source in spec.sources if not source.simulated for label in source.n_cells]
    if real and all(label.countable is not False for label in real):
        lines.append(
            "No real cell that does not count (smudge cells and others) was there: simulated ones alone taught it."
        )
    return "\n".join(lines)


def _of_simulated_cells(spec: BundleSpec, vocabulary: Vocabulary) -> str:
    """Return what the bundle must not be used for because of classes without a real cell; empty without any."""
    learned = learned_from(((source.simulated, source.n_cells) for source in spec.sources), vocabulary)
    if learned is None or not (learned.simulated_only or learned.simulated_only_codes):
        return ""
    return "\n- Counting what it learned from simulated cells only (above) as if that were measured on real ones."


def _credits(spec: BundleSpec) -> str:
    """Give the credit that the license of each source asks for, a line each."""
    lines = []
    for source in spec.sources:
        if source.attribution or source.doi:
            doi = f" https://doi.org/{source.doi}" if source.doi else ""
            lines.append(f"- {source.name} ({source.license}): {source.attribution}{doi}")
    return "".join(f"\n{line}" for line in lines)


def _implied_prior(members: Sequence[Member], head: str, decision_tau: float | None) -> list[float]:
    """Compute the mean of the members' implied priors of one head, by class."""
    shares: list[float] = np.mean(
        [member.info.implied_prior(head, decision_tau) for member in members], axis=0
    ).tolist()
    return shares


def _joint_shares(joint: JointOfHeads, info: ClassifierInfo) -> dict[str, list[float]]:
    """Return the class shares of each head by which the triples' shares sum to one."""
    of_category = dict.fromkeys(info.categories, 0.0)
    cblc = countable = 0.0
    for triple in joint.triples:
        of_category[triple.category] += triple.share
        cblc += triple.share * triple.cblc
        countable += triple.share * triple.countable
    # Sums of floats may end a last bit above 1.
    cblc, countable = min(cblc, 1.0), min(countable, 1.0)
    return {"category": list(of_category.values()), "cblc": [1 - cblc, cblc], "countable": [1 - countable, countable]}


def _metrics(record: FinishedTraining) -> MemberMetrics:
    """Collect the metrics of the epoch the weights come from, with n; an undefined metric is NaN."""
    best = record.result.best_epoch.model_dump()
    last_stage = list(record.stages.values())[-1]
    figures = {name: value for name, value in best.items() if name.endswith(("_f1", "_auc"))}
    return MemberMetrics(
        n_crops=last_stage.validation_crops,
        n_patients=last_stage.validation_patients,
        plasma_positive_f1=figures.pop("plasma_positive_f1"),
        **{name: float("nan") if value is None else value for name, value in figures.items()},
    )


def _fingerprint(record: FinishedTraining) -> MemberTraining:
    """Identify what the member was trained on, by hashes and counts."""
    return MemberTraining(
        crops_sha256=record.data_sha256["crops.npy"],
        cells_sha256=record.data_sha256["cells.parquet"],
        split_sha256=record.split_sha256,
        segmenter_sha256=record.prepared.segmenter_sha256 or None,
        weights_sha256=record.result.weights_sha256,
        initial_weights=record.result.initial_weights,
        stages={name: StageCounts(**counts.model_dump()) for name, counts in record.stages.items()},
    )


def stain_reference(members: Sequence[Member], crops: Path) -> StainReference | None:
    """Fit the stain of the fields that any member was trained on; None where a crop set did not measure them.

    A member's crop set is looked for where its training used it, and in ``crops``: folds may come from other machines.
    """
    measured = []
    for member in members:
        wanted = member.record.data_sha256["cells.parquet"]
        folders = (Path(member.record.crops), crops)
        path = next((folder / TRAINING_FIELDS_NAME for folder in folders if holds_cells(folder, wanted)), None)
        if path is None or not path.is_file():
            return None
        trained = [name for name, role in read_split(member.folder / SPLIT_NAME).items() if role == "train"]
        nullable = ("center", *DENSITIES)
        table = read_columns(
            path, FIELDS_SCHEMA, ("patient_id", *nullable), nullable=nullable, error=InputError, advice=_AGAIN
        )
        measured.append(table.filter(pl.col("patient_id").is_in(trained)))
    return fit_stain_reference(pl.concat(measured).unique(maintain_order=True))


def _figure(value: float) -> str:
    """Format a metric with three decimals; a dash where it is undefined."""
    return "-" if np.isnan(value) else f"{value:.3f}"
