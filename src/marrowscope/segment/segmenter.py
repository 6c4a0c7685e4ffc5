"""Find every nucleated cell of a field: letterbox, network, decode, contours, back to the field's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marrowscope import geometry
from marrowscope.config import validate_config
from marrowscope.geometry import Rings
from marrowscope.networks import Graph, open_network, read_graph
from marrowscope.records import Detection
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.contours import trace_cells
from marrowscope.segment.detections import decode
from marrowscope.segment.letterbox import letterbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from marrowscope.networks import Network
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.segment.letterbox import Letterbox

OUTPUT_NAME, PROTOTYPES_NAME = "output0", "output1"


_STATED = ("um_per_px", "stride", "pad_value", "mask_level", "box_margin_px")


class Segmenter:
    """A network and the configuration it was trained with; ``sha256`` is that of the graph's file ("" if unknown)."""

    def __init__(self, network: Network, config: SegmenterConfig, sha256: str = "") -> None:
        self._network = network
        self.config = config
        self.sha256 = sha256

    @classmethod
    def from_onnx(
        cls, graph: Path | Graph, config: SegmenterConfig | None = None, *, backend: str = "auto"
    ) -> Segmenter:
        """Open a single exported graph; without ``config``, what its metadata states of ``_STATED`` is taken."""
        graph = graph if isinstance(graph, Graph) else read_graph(graph)
        network = open_network(graph, backend)
        if config is None:
            stated = {key: network.metadata[key] for key in _STATED if key in network.metadata}
            config = validate_config(SegmenterConfig, stated, where=f"{graph.path}, metadata")
        return cls(network, config, graph.sha256)

    def detect(self, image: ImageArray, um_per_px: float) -> list[Detection]:
        """Find the cells of one field, best score first, contours and boxes in the field's pixels.

        The list is empty for a field without cells. Raises ScaleError for an impossible scale.
        """
        canvas, transform = letterbox(image, um_per_px, self.config)
        outputs = self.run(canvas)
        return self.cells_of(outputs, transform, image.shape[1], image.shape[0])

    def run(self, canvas: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run the network on the canvas of ``letterbox``; safe from as many threads as the network has streams."""
        return self._network.run_images(canvas)

    def cells_of(
        self, outputs: Mapping[str, NDArray[np.float32]], transform: Letterbox, width_px: int, height_px: int
    ) -> list[Detection]:
        """Decode the cells of one field from the network's ``outputs``; ``transform`` comes from ``letterbox``.

        Contours are valid and inside the field of ``width_px`` x ``height_px``; best score first.
        """
        prototypes, config = outputs[PROTOTYPES_NAME], self.config
        raw = decode(outputs[OUTPUT_NAME], prototypes, config)
        traced = trace_cells(
            prototypes[0],
            raw.coefficients,
            raw.boxes_xyxy,
            smoothing_px=config.smoothing_px,
            step_px=config.contour_step_px,
            interpolation=config.interpolation,
            level=config.mask_level,
            box_margin_px=config.box_margin_px,
        )
        rings = Rings(transform.to_field(traced.rings.points_xy), traced.rings.offsets)
        inside = geometry.lie_inside(rings, width_px, height_px)
        boxes = transform.to_field(raw.boxes_xyxy.reshape(-1, 2) - 0.5).reshape(-1, 4)[traced.index]
        scores = np.clip(raw.scores, 0, 1)[traced.index]
        detections = []
        for contour, is_inside, box, score, n_parts in zip(
            rings.split(), inside.tolist(), boxes.tolist(), scores.tolist(), traced.n_parts.tolist(), strict=True
        ):
            clipped = contour if is_inside else _clip(contour, width_px, height_px)
            if clipped is not None:
                detections.append(Detection(clipped, tuple(box), score, n_parts))
        return detections


def _clip(contour_xy: ContourArray, width_px: int, height_px: int) -> ContourArray | None:
    repaired = geometry.repair(contour_xy)
    return None if repaired is None else geometry.clip_to_image(repaired, width_px, height_px)
