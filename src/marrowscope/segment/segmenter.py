"""Find every nucleated cell of a field: letterbox, network, decode, contours, back to the field's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marrowscope import geometry
from marrowscope.config import validate_config
from marrowscope.imaging import sha256_file
from marrowscope.networks import open_network
from marrowscope.records import Detection
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.contours import trace_cell
from marrowscope.segment.decode import decode
from marrowscope.segment.letterbox import letterbox

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.networks import Network
    from marrowscope.records import ImageArray

OUTPUT_NAME, PROTOTYPES_NAME = "output0", "output1"


class Segmenter:
    """A network and the configuration it was trained for; ``sha256`` names the graph's file ("" where unknown)."""

    def __init__(self, network: Network, config: SegmenterConfig, sha256: str = "") -> None:
        self._network = network
        self.config = config
        self.sha256 = sha256

    @classmethod
    def from_bundle(cls, bundle: Bundle, network: Network) -> Segmenter:
        """Take the configuration from a bundle; ``network`` is what ``bundle.open_segmenter`` gave."""
        config = validate_config(
            SegmenterConfig, bundle.spec.segmenter, where=f"{bundle.folder}, bundle.toml [segmenter]"
        )
        return cls(network, config, bundle.segmenter_sha256)

    @classmethod
    def from_onnx(cls, path: Path, config: SegmenterConfig | None = None, *, backend: str = "auto") -> Segmenter:
        """Open an exported graph by itself; without ``config`` the um/px comes from the graph's metadata."""
        network = open_network(path, backend)
        if config is None:
            stated = {
                key: network.metadata[key] for key in ("um_per_px", "stride", "pad_value") if key in network.metadata
            }
            config = validate_config(SegmenterConfig, stated, where=f"{path}, metadata")
        return cls(network, config, sha256_file(path))

    def detect(self, image: ImageArray, um_per_px: float) -> list[Detection]:
        """Find the cells of one field, best score first, contours and boxes in the field's pixels.

        A field without a cell gives an empty list. Raises ScaleError for a scale that makes no sense.
        """
        canvas, transform = letterbox(image, um_per_px, self.config)
        outputs = self._network.run_images(canvas)
        prototypes = outputs[PROTOTYPES_NAME]
        raw = decode(outputs[OUTPUT_NAME], prototypes, self.config)
        height, width = image.shape[:2]
        detections = []
        for box, score, coefficients in zip(raw.boxes_xyxy, raw.scores, raw.coefficients, strict=True):
            traced = trace_cell(
                prototypes[0],
                coefficients,
                box,
                smoothing_px=self.config.smoothing_px,
                step_px=self.config.contour_step_px,
                interpolation=self.config.interpolation,
                level=self.config.mask_level,
                box_margin_px=self.config.box_margin_px,
            )
            if traced is None:
                continue
            contour, n_parts = traced
            repaired = geometry.repair(transform.to_field(contour))
            clipped = None if repaired is None else geometry.clip_to_image(repaired, width, height)
            if clipped is None:
                continue
            (x0, y0), (x1, y1) = transform.to_field(box.reshape(2, 2) - 0.5)
            detections.append(
                Detection(clipped, (float(x0), float(y0), float(x1), float(y1)), float(np.clip(score, 0, 1)), n_parts)
            )
        return detections
