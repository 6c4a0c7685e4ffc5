"""Numbers of simulated patients, and the training settings of the two networks.

The paper's design: 169 patients of centers 1-3 for training in folds, 89 patients of centers 4-6 for testing only. How
either number divides over its three centers is not published: here as evenly as possible.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from marrowscope.config import StageConfig
from marrowscope.simulate import SimulationConfig
from marrowscope.train.config import GT_TO_YOLO, YOLO_TO_YOLO, ClassifierConfig
from marrowscope.train.segmenter_config import SegmenterTrainingConfig

PUBLISHED_WEIGHTED_F1 = (0.9076, 0.8696, 0.9124)
"""CBLC weighted F1 of the paper's ensemble on its external centers 4, 5, 6."""


class Preset(StageConfig):
    """One way to repeat the study; these settings determine the result, machine settings do not."""

    name: str
    internal: tuple[int, ...] = Field(min_length=1, description="patients per training center S1, S2, ...")
    external: tuple[int, ...] = Field(min_length=1, description="patients per following center, for testing only")
    fields: int = Field(ge=1, description="fields of view per patient")
    field_px: tuple[int, int] = Field(default=(1280, 960), description="width and height of a field")
    cells_per_field: tuple[int, int] | None = Field(default=None, description="None: by the style of the center")
    n_folds: int = Field(default=5, ge=2)
    seed: int = Field(default=2026, ge=0, le=1_000_000_000, description="of patients, folds and training")
    segmenter: SegmenterTrainingConfig | None = Field(
        default=None, description="training of the segmenter on the internal patients; None: the included one"
    )
    classifier: ClassifierConfig = ClassifierConfig()
    n_resamples: int = Field(default=2000, ge=0, description="bootstrap resamples of patients")

    @model_validator(mode="after")
    def _centers_have_patients(self) -> Preset:
        if min(self.internal + self.external) < 1:
            message = f"found centers of {self.internal} and {self.external} patients, expected at least one in each"
            raise ValueError(message)
        return self

    @property
    def internal_centers(self) -> tuple[str, ...]:
        """Names of the centers that train."""
        return tuple(f"S{index + 1}" for index in range(len(self.internal)))

    @property
    def external_centers(self) -> tuple[str, ...]:
        """Names of the centers that only test."""
        first = len(self.internal)
        return tuple(f"S{first + index + 1}" for index in range(len(self.external)))

    @property
    def patients_by_center(self) -> dict[str, int]:
        """Patients of every center, in order."""
        names = (*self.internal_centers, *self.external_centers)
        return dict(zip(names, self.internal + self.external, strict=True))

    def with_seed(self, seed: int | None) -> Preset:
        """Return the preset with another seed for patients, folds and trainings; unchanged for None."""
        if seed is None:
            return self
        changed: dict[str, object] = {"seed": seed, "classifier": self.classifier.model_copy(update={"seed": seed})}
        if self.segmenter is not None:
            changed["segmenter"] = self.segmenter.model_copy(update={"seed": seed})
        return self.model_copy(update=changed)

    def simulation(self, workers: int = 1) -> SimulationConfig:
        """Return the configuration of the one simulated cohort from which all centers are drawn."""
        n_centers = len(self.patients_by_center)
        return SimulationConfig(
            patients=n_centers * max(self.patients_by_center.values()),
            centers=n_centers,
            fields=self.fields,
            seed=self.seed,
            workers=workers,
            width_px=self.field_px[0],
            height_px=self.field_px[1],
            cells_per_field=self.cells_per_field,
        )

    def patient_numbers(self, center: str) -> list[int]:
        """Return the numbers (from 0) of a center's patients in that cohort, where patients rotate over the centers."""
        centers = list(self.patients_by_center)
        first = centers.index(center)
        return [first + len(centers) * index for index in range(self.patients_by_center[center])]


QUICK = Preset(
    name="quick",
    internal=(10, 10, 10),
    external=(6, 6, 6),
    fields=4,
    classifier=ClassifierConfig(
        init="lite0",
        batch_size=32,
        epoch_crops=1000,
        stages=(
            GT_TO_YOLO.model_copy(update={"epochs": 3}),
            YOLO_TO_YOLO.model_copy(update={"epochs": 2}),
        ),
        seed=2026,
    ),
)
"""Minutes on two cores: the included segmenter, and little of everything else."""

PAPER = Preset(
    name="paper",
    internal=(57, 56, 56),
    external=(30, 30, 29),
    fields=10,
    segmenter=SegmenterTrainingConfig(epochs=20, max_images_per_epoch=1500, crops_per_field=2, seed=2026),
    classifier=ClassifierConfig(
        init="lite0",
        stages=(
            GT_TO_YOLO.model_copy(update={"epochs": 6}),
            YOLO_TO_YOLO.model_copy(update={"epochs": 4}),
        ),
        seed=2026,
    ),
)
"""The paper's numbers of patients, everything trained: meant for a GPU."""

PRESETS = {preset.name: preset for preset in (QUICK, PAPER)}
