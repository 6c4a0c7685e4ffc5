"""What a training needs of a crop set, checked before any work: crops large enough, masks, measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.errors import ConfigError, InputError
from marrowscope.train.losses import terms_with_masks

if TYPE_CHECKING:
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.crop_set import CropSet


def check_crop_size(crop_set: CropSet, config: ClassifierConfig) -> None:
    """Raise ConfigError for crops smaller than the network's input."""
    if config.crop_px > crop_set.stored_px:
        message = (
            f"crop_px: found {config.crop_px}, expected at most {crop_set.stored_px}, the side of the crops in "
            f"{crop_set.folder}; choose a smaller one"
        )
        raise ConfigError(message)


def check_parts(crop_set: CropSet, config: ClassifierConfig) -> None:
    """Raise InputError for a crop set that lacks what a setting or a loss term needs."""
    if config.augment.stain_swap > 0 and crop_set.masks is None:
        message = (
            f"{crop_set.folder}: found no masks.npy, expected it to measure stains; run `marrowscope prepare` again "
            "for the crop set, or set stain_swap = 0 under [augment]"
        )
        raise InputError(message)
    terms = terms_with_masks(config.loss_weights)
    if terms and crop_set.masks is None:
        message = f"{crop_set.folder}: found no masks.npy, expected it for the loss terms {' and '.join(terms)}"
    elif config.loss_weights["morphology"] > 0 and not crop_set.measured:
        terms, message = (
            ["morphology"],
            f"{crop_set.folder}: found no morphology column in cells.parquet, expected some",
        )
    else:
        return
    zeros = ", ".join(f"{name} = 0" for name in terms)
    message += f"; run `marrowscope prepare` again for the crop set, or set {zeros} under [loss_weights]"
    raise InputError(message)
