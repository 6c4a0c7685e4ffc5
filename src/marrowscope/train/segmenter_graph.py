"""Export a trained segmenter checkpoint as an ONNX graph that carries its preprocessing and its license.

The graph takes ``images`` float32 (n, 3, h, w), RGB from 0 to 1, sides a multiple of 32, and returns ``output0`` and
``output1`` as segment/decode.py reads them. Its metadata has everything else a reader needs.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.errors import BundleError, ConfigError
from marrowscope.train.segmenter_fit import ARCHITECTURE, load_ultralytics
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.train.segmenter_config import SegmenterTrainingConfig

_OPSET = 17
_LICENSE = "AGPL-3.0-only"
_NOTICE = (
    "Exported from a model of Ultralytics YOLO11 (https://github.com/ultralytics/ultralytics), AGPL-3.0. "
    "The graph is under the same license; the LICENSE file lies beside it."
)
STRIDE = 32
# Masks are trained beyond their boxes (segmenter_ignored), so contours may leave them; docs/log/segmenter.md has the
# table by which both were chosen.
_MASK_LEVEL, _BOX_MARGIN_PX = 0.5, 2.0
_PAD_VALUE = 114


def export_segmenter(
    checkpoint: Path, onnx_path: Path, config: SegmenterTrainingConfig, *, training_data_sha256: str = ""
) -> Path:
    """Write the graph of ``checkpoint`` (.pt) to ``onnx_path`` with its LICENSE beside it.

    Batch, height and width stay free. ``training_data_sha256`` is the fingerprint that training wrote. Raises
    ConfigError when there is no checkpoint, BundleError when it is not a one-class segmentation model.
    """
    if not checkpoint.is_file():
        message = f"{checkpoint}: not found, expected the segmenter.pt of a training; check the path"
        raise ConfigError(message)
    onnx_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="marrowscope-export-") as folder:
        ultralytics = load_ultralytics(Path(folder))
        import onnx  # noqa: PLC0415 - training extra, checked by load_ultralytics

        copied = Path(folder) / "segmenter.pt"
        shutil.copyfile(checkpoint, copied)
        model = ultralytics.YOLO(str(copied))
        if model.task != "segment" or len(model.names) != 1:
            message = (
                f"{checkpoint}: found a {model.task} model of {count_of(len(model.names), 'class', 'classes')}, "
                "expected one class"
            )
            raise BundleError(message)
        exported = model.export(
            format="onnx", dynamic=True, simplify=True, opset=_OPSET, imgsz=config.window_px, device="cpu"
        )
        graph = onnx.load(str(exported))
        del graph.metadata_props[:]
        for key, value in describe(checkpoint, config, training_data_sha256).items():
            graph.metadata_props.add(key=key, value=value)
        graph.producer_name, graph.producer_version = "marrowscope", metadata.version("marrowscope")
        onnx.checker.check_model(graph)
        onnx.save(graph, str(onnx_path))
    if config.half_weights:
        from marrowscope.train.half_weights import halve_weights  # noqa: PLC0415 - needs onnx, of the training extra

        halve_weights(onnx_path)
    (onnx_path.parent / "LICENSE").write_bytes(_agpl_text())
    return onnx_path


def describe(checkpoint: Path, config: SegmenterTrainingConfig, training_data_sha256: str) -> dict[str, str]:
    """Return the graph's metadata: preprocessing, origin and license, all as text."""
    return {
        "task": "segment",
        "architecture": ARCHITECTURE.removesuffix(".yaml"),
        "class_names": "cell",
        "um_per_px": repr(config.um_per_px),
        "stride": str(STRIDE),
        "pad_value": str(_PAD_VALUE),
        "mask_level": repr(_MASK_LEVEL),
        "box_margin_px": repr(_BOX_MARGIN_PX),
        "channel_order": "RGB",
        "normalization": "divide by 255",
        "resampling": "area",
        "training_window_px": str(config.window_px),
        "training_data_sha256": training_data_sha256,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "ultralytics_version": _ultralytics_version(),
        "license": _LICENSE,
        "notice": _NOTICE,
    }


def _agpl_text() -> bytes:
    """Return the license text that Ultralytics installs."""
    for name in ("ultralytics-opencv-headless", "ultralytics"):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue
        for entry in files:
            if entry.name == "LICENSE":
                return entry.read_binary()
    message = "found no LICENSE among Ultralytics' installed files, expected the text of the AGPL-3.0; reinstall it"
    raise BundleError(message)


def _ultralytics_version() -> str:
    for name in ("ultralytics-opencv-headless", "ultralytics"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
