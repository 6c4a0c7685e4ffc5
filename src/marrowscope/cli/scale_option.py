"""The ``--um-per-px`` option: a decimal point or a decimal comma, refused once where it is no microscope's scale."""

from __future__ import annotations

from typing import Annotated

import typer


def parse_um_per_px(text: str | float) -> float:
    """Read micrometers per pixel as typed: ``0.15`` or ``0,15``. Raises ConfigError for what is no plausible scale."""
    from marrowscope.errors import ConfigError
    from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX

    low, high = PLAUSIBLE_UM_PER_PX
    try:
        value = float(str(text).strip().replace(",", "."))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        message = (
            f"--um-per-px: found {str(text)!r}, expected micrometers per pixel between {low} and {high}, such as 0.15; "
            "correct it"
        )
        raise ConfigError(message)
    return value


ScaleOption = Annotated[
    float | None,
    typer.Option(parser=parse_um_per_px, metavar="FLOAT", help="Micrometers per pixel of images that state none."),
]
