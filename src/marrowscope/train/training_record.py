"""fit.json: what a training learned from, with which settings, versions and machine, and its result.

A record is written when a training begins and completed when it ends; it is read and checked here, once. Keys that
earlier versions did not write have defaults. What determines the weights is hashed (``fingerprint``): a training
resumes only where the hash is equal. Nothing here needs PyTorch.
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from typing import TYPE_CHECKING

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from marrowscope.bundle import VocabularyReference
from marrowscope.config import FrozenModel, load_record
from marrowscope.disk import write_json
from marrowscope.errors import RunError
from marrowscope.runs.manifest import installed_versions
from marrowscope.train.config import LOSS_WEIGHTS, ClassifierConfig
from marrowscope.train.crop_set import CropSetSummary, hash_files

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.crop_set import CropSet
    from marrowscope.vocabulary import Vocabulary

FIT_NAME = "fit.json"
_TERM = "train_loss_"


class EpochRow(FrozenModel):
    """One line of metrics.csv: losses are means over crops, F1 0-1 on the validation crops, null where there are none.

    On disk every term has its own key, ``train_loss_<term>``, null where it is off; terms unknown to a record of an
    earlier version are null too.
    """

    epoch: int = Field(description="counts from 1")
    seconds: float
    crops_per_second: float
    learning_rate: float = Field(description="at the end of the epoch")
    train_loss: float
    train_losses: dict[str, float] = Field(description="by term: those of ``config.LOSS_WEIGHTS`` that are on")
    validation_loss: float | None
    validation_loss_cblc: float | None
    validation_loss_countable: float | None
    validation_loss_category: float | None
    validation_loss_plasma: float | None = Field(default=None, description="null without that head")
    cblc_weighted_f1: float | None
    cblc_positive_f1: float | None = Field(description="null where no validation crop is CBLC")
    cblc_auc: float | None = Field(description="null where only one class is present")
    countable_weighted_f1: float | None
    category_weighted_f1: float | None
    category_macro_f1: float | None
    plasma_positive_f1: float | None = Field(default=None, description="null without that head or such a crop")
    selection: float | None = Field(
        description="mean of cblc_weighted_f1 and category_macro_f1; the best epoch is kept where ``select`` is best"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_terms(cls, given: object) -> object:
        """Collect the keys of the terms as they are on disk."""
        if not isinstance(given, dict) or "train_losses" in given:
            return given
        terms = {name.removeprefix(_TERM): value for name, value in given.items() if name.startswith(_TERM)}
        rest = {name: value for name, value in given.items() if not name.startswith(_TERM)}
        return rest | {"train_losses": {name: value for name, value in terms.items() if value is not None}}

    @model_serializer(mode="wrap")
    def _spread_terms(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Return every term its own key, in the order of the weights."""
        names = [*LOSS_WEIGHTS, *(name for name in self.train_losses if name not in LOSS_WEIGHTS)]
        spread: dict[str, object] = {}
        for key, value in serialize(self).items():
            terms = {f"{_TERM}{name}": self.train_losses.get(name) for name in names}
            spread |= terms if key == "train_losses" else {key: value}
        return spread


VALIDATION_FIGURES = tuple(
    name
    for name in EpochRow.model_fields
    if name not in {"epoch", "seconds", "crops_per_second", "learning_rate", "train_loss", "train_losses"}
)
"""Fields of an epoch that only validation crops give."""


class StageCounts(FrozenModel):
    """Crops and patients on both sides of a stage."""

    training_crops: int
    validation_crops: int
    training_patients: int
    validation_patients: int


class TrainingMachine(FrozenModel):
    """What affects the last bits of the weights besides configuration and versions: the values ``auto`` became."""

    device: str
    precision: str
    threads: int
    instructions: str = Field(description="of the processor, as torch's kernels use them; others round differently")
    deterministic: bool


class Continuation(FrozenModel):
    """The versions and the machine a training resumed with, where they differ from the first ones."""

    versions: dict[str, str]
    machine: TrainingMachine | None


class TrainingResult(FrozenModel):
    """Result of a training: its weights by hash, and the epoch they come from."""

    weights_sha256: str
    best_epoch: EpochRow
    initial_weights: str = Field(description="source of the trunk's initial weights, with their license")
    initial_sha256: str = Field(default="", description="of the initial weights; not written by earlier versions")
    categories_not_trained: tuple[str, ...] = ()


class CoarseCells(FrozenModel):
    """Annotated cells of a crop set with one coarse label."""

    label: str = Field(description="as stored: name, codes, and what is declared of them")
    n_cells: int
    exceptions: tuple[str, ...] = Field(description="names of its codes that are not what is declared of all its cells")


class UsedTeacher(FrozenModel):
    """The bundle whose probabilities a training learned beside the labels."""

    name: str
    version: str
    sha256: str = Field(description="of its description, which has the hashes of its files")

    def __str__(self) -> str:
        """Name it as a card does."""
        return f"{self.name} {self.version} ({self.sha256[:12]})"


class LearnedFrom(FrozenModel):
    """What a training or a cross-fit learns from and how: the shared part of both records."""

    config: ClassifierConfig
    crops: str = Field(description="the crop set's folder when the training began")
    prepared: CropSetSummary
    data_sha256: dict[str, str] = Field(description="SHA-256 of the crop set's files by name")
    vocabulary: VocabularyReference
    coarse_labels: tuple[CoarseCells, ...] = Field(default=(), description="empty where every label is one code")
    teacher: UsedTeacher | None = Field(default=None, description="null where the labels alone taught")
    versions: dict[str, str] = Field(description="of the packages that affect a result, when the training began")

    def decisive(self) -> dict[str, object]:
        """Return what determines the weights besides the split: data, vocabulary, and settings except the machine's."""
        taught = {} if self.teacher is None else {"teacher_sha256": self.teacher.sha256}
        return taught | {
            "data_sha256": self.data_sha256,
            "vocabulary": self.vocabulary.model_dump(mode="json"),
            "config": self.config.decisive(),
        }


class TrainingRecord(LearnedFrom):
    """Content of fit.json; ``result`` is null while the training runs."""

    split_sha256: str
    machine: TrainingMachine | None = Field(default=None, description="not written by earlier versions")
    resumed: tuple[Continuation, ...] = Field(default=(), description="what it resumed with, where that differs")
    stages: dict[str, StageCounts] = Field(default_factory=dict, description="by name, in order; empty until the end")
    result: TrainingResult | None = None

    def fingerprint(self) -> str:
        """Hash what determines the weights: equal hashes mean that one training continues the other."""
        decisive = self.decisive() | {"split_sha256": self.split_sha256}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def going_on_from(self, earlier: TrainingRecord) -> TrainingRecord:
        """Keep the versions and machine of ``earlier``, which began the training; list differing current ones too."""
        began = Continuation(versions=earlier.versions, machine=earlier.machine or self.machine)
        now = Continuation(versions=self.versions, machine=self.machine)
        last = earlier.resumed[-1] if earlier.resumed else began
        resumed = earlier.resumed if now == last else (*earlier.resumed, now)
        return self.model_copy(update={"versions": began.versions, "machine": began.machine, "resumed": resumed})


class FinishedTraining(TrainingRecord):
    """The record of a training that has a result."""

    result: TrainingResult


def _vocabulary_reference(vocabulary: Vocabulary) -> VocabularyReference:
    """Identify by hash the vocabulary that gave the labels."""
    return VocabularyReference(name=vocabulary.name, version=vocabulary.version, sha256=vocabulary.sha256)


def _coarse_cells(crop_set: CropSet, vocabulary: Vocabulary) -> tuple[CoarseCells, ...]:
    """Count the annotated cells of each coarse label, and name what its declaration says wrong of some."""
    annotated = crop_set.cells.filter(crop_set.cells["source"] == "expert")["expert_code"].drop_nulls()
    found = []
    for text, n_cells in sorted(annotated.value_counts().iter_rows()):
        label = vocabulary.read_label(text)
        if label.is_coarse:
            facts = [(name, getattr(label, name)) for name in ("cblc", "countable")]
            exceptions = tuple(
                code.name
                for code in label.codes
                if any(fact is not None and getattr(code, name) != fact for name, fact in facts)
            )
            found.append(CoarseCells(label=text, n_cells=n_cells, exceptions=exceptions))
    return tuple(found)


def describe_data(crop_set: CropSet, config: ClassifierConfig, vocabulary: Vocabulary) -> LearnedFrom:
    """Describe what is learned from ``crop_set``: file hashes, settings, vocabulary and current versions."""
    packages = {name: metadata.version(name) for name in ("torch", "timm")}
    return LearnedFrom(
        config=config,
        crops=str(crop_set.folder.resolve()),
        prepared=crop_set.summary,
        data_sha256=hash_files(crop_set.folder),
        vocabulary=_vocabulary_reference(vocabulary),
        coarse_labels=_coarse_cells(crop_set, vocabulary),
        versions=installed_versions() | packages,
    )


def write_training(folder: Path, record: TrainingRecord) -> None:
    """Write fit.json atomically; what is not there yet is left out."""
    optional = ("resumed", "stages", "result", "coarse_labels", "teacher")
    absent = {name for name in optional if not getattr(record, name)}
    write_json(folder / FIT_NAME, record.model_dump(mode="json", exclude=absent))


def read_training(folder: Path) -> TrainingRecord:
    """Read fit.json of a training folder; RunError, in one sentence, for a wrong type or a missing key."""
    advice = "give the --out of `marrowscope train classifier`"
    return load_record(TrainingRecord, folder / FIT_NAME, error=RunError, advice=advice)


def read_finished(folder: Path) -> FinishedTraining:
    """Read fit.json of a finished training; RunError for an unfinished one."""
    record = read_training(folder)
    if record.result is None:
        message = f"{folder}: found an unfinished training; continue with `marrowscope train classifier --resume`"
        raise RunError(message)
    return FinishedTraining.model_validate(dict(record))
