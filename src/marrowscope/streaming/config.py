"""How a prediction is run."""

from __future__ import annotations

from typing import Any

from pydantic import Field as Setting

from marrowscope.config import StageConfig


class PredictConfig(StageConfig):
    """How a prediction is run; nothing here changes which model is used."""

    um_per_px: float | None = Setting(
        default=None, gt=0, allow_inf_nan=False, description="scale of images that state none"
    )
    backend: str = Setting(default="auto", description="auto, openvino or onnxruntime")
    device: str = Setting(default="auto", description="auto, or a device the backend names")
    precision: str = Setting(
        default="auto", description="auto is the fastest that passed the bundle's accuracy gate; or f32, bf16, int8"
    )
    morphology: bool = Setting(default=True, description="measure each cell; without it these columns are null")
    reduce: bool = Setting(
        default=True,
        description="decode a photograph smaller where twice the networks' resolution is left",
    )
    batch_size: int = Setting(default=16, ge=1, description="crops classified at once")
    cells: int | None = Setting(
        default=None,
        ge=0,
        description="kept cells to read of a slide; 0 is all, None 500 of a whole-slide image and all of a plain one",
    )
    threads: int | None = Setting(default=None, ge=1, description="cores to use; None takes all that the process may")
    processes: int | None = Setting(
        default=1,
        ge=1,
        description="more than one: processes with a core each in place of threads, faster for many images; None takes "
        "one a core and 150 images. A script that asks for them needs the guard `if __name__ == '__main__'`",
    )

    def computed(self) -> dict[str, Any]:
        """Return the settings that can change a result: not the threads and processes, nor the size of a batch."""
        return self.model_dump(mode="json", exclude={"batch_size", "threads", "processes"})
