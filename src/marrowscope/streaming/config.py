"""Settings of a prediction."""

from __future__ import annotations

from typing import Any

from pydantic import Field as Setting

from marrowscope.config import StageConfig


class PredictConfig(StageConfig):
    """Settings of a prediction; none of them changes which model is used."""

    um_per_px: float | None = Setting(
        default=None, gt=0, allow_inf_nan=False, description="scale of images that do not state one"
    )
    backend: str = Setting(default="auto", description="auto, openvino or onnxruntime")
    device: str = Setting(default="auto", description="auto, or a device of the backend")
    precision: str = Setting(
        default="auto",
        description="auto is the fastest precision that passed the bundle's gate; or f32, bf16, bf16-segmenter, f16",
    )
    morphology: bool = Setting(default=True, description="measure each cell; if off, these columns are null")
    reduce: bool = Setting(
        default=True,
        description="decode photographs at a lower resolution, at least twice that of the networks",
    )
    batch_size: int = Setting(default=16, ge=1, description="crops classified together")
    cells: int | None = Setting(
        default=None,
        ge=0,
        description="kept cells to read per slide; 0 is all, None is 500 of a whole-slide image, all of a plain image",
    )
    reference_ranges: str = Setting(
        default="wintrobe", description="reference ranges of adult marrow: wintrobe, theml, or a laboratory's own file"
    )
    threads: int | None = Setting(default=None, ge=1, description="cores to use; None is all available cores")
    processes: int | None = Setting(
        default=1,
        ge=1,
        description="more than one: processes with one core each instead of threads, faster for many images; None is "
        "one per core and per 150 images. A script that uses them needs the guard `if __name__ == '__main__'`",
    )

    def computed(self) -> dict[str, Any]:
        """Return the settings that can change a result: all but threads and processes.

        The size of a batch changes the last digits of a probability on some processors.
        """
        return self.model_dump(mode="json", exclude={"threads", "processes"})
