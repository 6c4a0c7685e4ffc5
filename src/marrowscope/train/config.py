"""Configuration of the classifier's training: one frozen model, stages as a tuple."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from marrowscope.config import StageConfig
from marrowscope.train.device import Device

Source = Literal["expert", "predicted"]
Imbalance = Literal["logit_adjustment", "class_balanced", "focal", "square_root_sampler", "none"]
Norm = Literal["batch", "group"]
Interpolation = Literal["linear", "cubic", "lanczos"]
Select = Literal["best", "last", "ema"]
Views = Literal[1, 2, 4]

HEADS = ("cblc", "countable", "category")
"""The questions every classifier answers, each with a loss term of the same name."""
PLASMA = "plasma"
"""A further question, answered where the training cells have both answers: the head, its loss term and its labels."""
LOSS_WEIGHTS = {
    "cblc": 1.0, "countable": 0.5, "category": 1.0, PLASMA: 0.5, "morphology": 0.2, "evidence": 0.2, "consistency": 0.5,
    "teacher": 1.0,
}  # fmt: skip
"""Loss weights where a configuration sets none; 0 turns a term off and skips its computation."""

OF_THE_MACHINE = frozenset({"checkpoint_every_steps", "workers", "threads", "device", "precision", "compile"})
"""Settings that change how a training runs but its result only by rounding."""


class AugmentConfig(StageConfig):
    """Strengths of the random changes of a training crop; all zero with ``flips`` off means no augmentation."""

    flips: bool = Field(default=True, description="mirror left-right and up-down, each in half of the crops")
    rotation_deg: float = Field(default=180.0, ge=0, le=180, description="largest rotation; a cell has no up or down")
    scale: float = Field(default=0.08, ge=0, lt=0.5, description="largest relative change of size; size is a feature")
    shift_px: float = Field(
        default=4.0, ge=0, description="largest shift in crop pixels: contours differ in their centers"
    )
    interpolation: Interpolation = Field(
        default="linear", description="kernel of the warp: linear blurs, cubic keeps a crop as sharp as in prediction"
    )
    stain: float = Field(
        default=0.12, ge=0, lt=1, description="largest relative change of optical density, per channel"
    )
    stain_mix: float = Field(default=0.05, ge=0, lt=0.5, description="largest leak of a channel's density into another")
    stain_swap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of crops moved to another source's background and contrast",
    )
    density: float = Field(
        default=0.0, ge=0, lt=1, description="largest relative change of optical density, shared by the channels"
    )
    brightness: float = Field(default=0.06, ge=0, lt=1, description="largest shared change of optical density (lamp)")
    cast: float = Field(
        default=0.0, ge=0, lt=1, description="largest added optical density, per channel: a tinted background"
    )
    blur_chance: float = Field(default=0.15, ge=0, le=1, description="share of crops that are blurred")
    blur_sigma_px: float = Field(default=0.9, ge=0, description="largest blur (Gaussian sigma) in crop pixels")
    illumination: float = Field(
        default=0.08, ge=0, lt=1, description="largest change of optical density from one side of the crop to the other"
    )
    noise_chance: float = Field(default=0.0, ge=0, le=1, description="share of crops with a noisier sensor")
    noise_levels: float = Field(default=4.0, ge=0, description="largest noise (standard deviation) in gray levels")
    jpeg_chance: float = Field(default=0.15, ge=0, le=1, description="share of crops that are JPEG-compressed again")
    jpeg_quality: int = Field(default=50, ge=5, le=100, description="lowest JPEG quality; drawn from here to 95")
    contour_px: float = Field(
        default=3.0,
        ge=0,
        description="largest growth or shrinkage of the cell's mask in crop pixels: predicted contours differ from "
        "expert ones by that much in 9 of 10 cells; with shift_px it imitates the segmenter's error",
    )


NO_AUGMENTATION = AugmentConfig(
    flips=False, rotation_deg=0, scale=0, shift_px=0, stain=0, stain_mix=0, brightness=0, blur_chance=0,
    blur_sigma_px=0, illumination=0, jpeg_chance=0, contour_px=0,
)  # fmt: skip


class StagePlan(StageConfig):
    """One run of the training loop: which crops it learns from, which select the best epoch, and for how long."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="names the stage's folder")
    train_on: Source = Field(description="crops of the training patients: cut from expert or predicted contours")
    select_on: Source = Field(description="crops of the validation patients that choose the best epoch")
    epochs: int = Field(ge=0, description="passes over the training crops; 0 skips the stage")
    learning_rate: float = Field(gt=0, description="peak learning rate of AdamW")


GT_TO_YOLO = StagePlan(name="gt-to-yolo", train_on="expert", select_on="predicted", epochs=4, learning_rate=1e-3)
YOLO_TO_YOLO = StagePlan(name="yolo-to-yolo", train_on="predicted", select_on="predicted", epochs=3, learning_rate=3e-4)


class BorderConfig(StageConfig):
    """How the center-border terms treat a crop; the loss weights set their strength."""

    dilation_px: float = Field(default=3.0, ge=0, description="the contour grows by this before the border begins")
    feather_px: float = Field(default=1.0, ge=0, description="blending of a swapped border's seam (sigma)")
    swap_share: float = Field(
        default=0.25, gt=0, le=1, description="share of a batch seen a second time with another crop's border"
    )


class ClassifierConfig(StageConfig):
    """Everything that determines the weights, besides the crops and their split."""

    architecture: str = Field(default="efficientnet_b0", description="name of the trunk in timm")
    crop_px: int = Field(default=96, ge=16, description="side of the network's crop: the center of the stored crop")
    init: str = Field(
        default="auto", description="initial weights: auto, scratch, lite0, hub, or the path of a .safetensors file"
    )
    stages: tuple[StagePlan, ...] = (GT_TO_YOLO, YOLO_TO_YOLO)
    batch_size: int = Field(default=64, ge=2)
    weight_decay: float = Field(default=0.05, ge=0, description="of AdamW, on convolutions and linear layers only")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of a stage's steps until the peak learning rate")
    max_gradient_norm: float = Field(default=5.0, gt=0, description="gradients are clipped to this norm")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="before the heads")
    norm: Norm = Field(default="batch", description="normalization layers: batch norm, or group norm (groups of 8)")
    imbalance: Imbalance = Field(default="logit_adjustment", description="class-imbalance correction of the heads")
    masked_sources: bool = Field(
        default=False,
        description="where the mapping of a cell's source states which codes it can label, train the category head on "
        "the choice among those only",
    )
    coarse_target: Literal["set", "main"] = Field(
        default="set",
        description="what a coarse label with a main category teaches the category head: the summed probability of its "
        "set, or the main category alone",
    )
    tau: float = Field(default=1.0, ge=0, description="strength of the logit adjustment; 1 trains for a uniform prior")
    confusable: tuple[tuple[str, ...], ...] = Field(
        default=(), description="groups of raw codes, as they stand in the crop set, that experts confuse"
    )
    smoothing: float = Field(
        default=0.1, ge=0, lt=0.5, description="share of a label that the other codes of its group get"
    )
    effective_number_beta: float = Field(
        default=0.999, gt=0, lt=1, description="of class_balanced: cells beyond 1 / (1 - beta) add nothing new"
    )
    focal_gamma: float = Field(default=2.0, ge=0, description="of focal: how much easy cells are discounted")
    teacher: str | None = Field(
        default=None,
        description="a bundle whose probabilities the network learns too: its folder, default or demo",
    )
    loss_weights: dict[str, float] = Field(
        default_factory=dict, validate_default=True, description="of the loss terms; the others keep their defaults"
    )
    border: BorderConfig = BorderConfig()
    augment: AugmentConfig = AugmentConfig()
    epoch_crops: int | None = Field(
        default=None, ge=2, description="crops per epoch, drawn anew each time; None uses every training crop once"
    )
    select: Select = Field(
        default="best",
        description="weights kept of a stage: the best epoch's on validation patients; the last step's; or ema, the "
        "moving average. The last two draw no validation patients",
    )
    ema_decay: float = Field(default=0.998, ge=0, lt=1, description="of the moving average, per step")
    views: Views = Field(
        default=1,
        description="crops whose logits are averaged in prediction: the crop; 2: and its mirror; 4: both upside down",
    )
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="share of patients for select = best, where no split file is given"
    )
    seed: int = Field(
        default=0, ge=0, le=1_000_000_000, description="of the split, initial heads, order, augmentation and dropout"
    )
    threads: int = Field(default=2, ge=1, description="CPU threads; another number may round sums differently")
    device: Device = Field(default="auto", description="auto: CUDA if available")
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto", description="bf16 is autocast; auto: bf16 on CUDA, float32 on the CPU, where it is faster"
    )
    compile: bool = Field(default=False, description="torch.compile the network: a minute first, then a little faster")
    workers: int = Field(
        default=0, ge=0, description="processes that read and augment crops ahead; 0 does it between steps"
    )
    checkpoint_every_steps: int = Field(default=50, ge=1, description="steps between checkpoints inside an epoch")

    def decisive(self) -> dict[str, object]:
        """Return the settings that determine the result, as JSON values: all but ``OF_THE_MACHINE``.

        Where the teacher lies is not one of them: its hash is recorded with those of the crop set.
        """
        settings = self.model_dump(mode="json")
        return {name: value for name, value in settings.items() if name not in {*OF_THE_MACHINE, "teacher"}}

    @field_validator("loss_weights", mode="before")
    @classmethod
    def _fill_loss_weights(cls, given: object) -> object:
        return LOSS_WEIGHTS | given if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _stages_are_named_apart(self) -> ClassifierConfig:
        names = [stage.name for stage in self.stages]
        if not any(stage.epochs for stage in self.stages) or len(set(names)) != len(names):
            message = f"found stages {names}, expected at least one with an epoch, each with a different name"
            raise ValueError(message)
        if set(self.loss_weights) != set(LOSS_WEIGHTS) or min(self.loss_weights.values()) < 0:
            message = (
                f"found loss weights {self.loss_weights}, expected numbers of at least 0 for {', '.join(LOSS_WEIGHTS)}"
            )
            raise ValueError(message)
        return self
