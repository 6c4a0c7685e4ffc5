"""Compare our decoding with Ultralytics' own prediction on the same weights, and the two runtimes with each other.

    python benchmarks/decode_agreement.py SEG.pt SEG.onnx COHORT [COHORT ...] [--fields 16] [--confidence 0.3]

Every field is resampled to half the network's um/px and padded to multiples of 64, so that Ultralytics' letterbox and
ours are the same exact halving; Ultralytics draws its masks at the field's resolution (`retina_masks`). The largest
part of each of its masks is compared with our contour, rasterized; boxes in network pixels. Two differences are
intended: we fill holes, and Ultralytics cuts a mask at its box by pixel index, half a pixel off the pixels' centers.
Needs the training extra.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from marrowscope import geometry
from marrowscope.cohort import read_cohort
from marrowscope.imaging import read_image
from marrowscope.networks import available_backends, open_network
from marrowscope.segment.config import SegmenterConfig
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.segmenter_fit import load_ultralytics
from marrowscope.vocabulary import load_vocabulary

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "as Ultralytics draws": {"interpolation": "linear", "smoothing_px": 0.0},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("graph", type=Path)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--fields", type=int, default=16)
    parser.add_argument("--confidence", type=float, default=0.3)
    given = parser.parse_args()
    networks = {backend: open_network(given.graph, backend) for backend in available_backends()}
    scale = float(networks["onnxruntime"].metadata["um_per_px"])
    configs = {
        name: SegmenterConfig(um_per_px=scale, confidence=given.confidence, **changes)
        for name, changes in VARIANTS.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        model = load_ultralytics(Path(folder)).YOLO(str(given.checkpoint))
    for root in given.cohorts:
        fields = read_cohort(root, vocabulary=load_vocabulary()).fields
        chosen = fields[:: max(1, len(fields) // given.fields)][: given.fields]
        boxes: list[float] = []
        masks: dict[str, list[float]] = {name: [] for name in VARIANTS}
        runtimes: list[float] = []
        counts = np.zeros(3, dtype=int)
        for field in chosen:
            image = _prepare(read_image(field.path), (field.um_per_px or scale) / (scale / 2))
            found = {
                name: Segmenter(networks["onnxruntime"], config).detect(image, scale / 2)
                for name, config in configs.items()
            }
            ours = found["as shipped"]
            others = Segmenter(networks[available_backends()[0]], configs["as shipped"]).detect(image, scale / 2)
            height, width = image.shape[:2]
            theirs = model.predict(
                image[..., ::-1].copy(), imgsz=(height // 2, width // 2), conf=given.confidence,
                iou=configs["as shipped"].nms_iou, retina_masks=True, max_det=1000, verbose=False,
            )[0]  # fmt: skip
            counts += [len(ours), len(others), len(theirs.boxes)]
            if ours and others:
                pairs = geometry.iou_matrix([cell.contour_xy for cell in ours], [cell.contour_xy for cell in others])
                runtimes += pairs.max(axis=1).tolist()
            if theirs.masks is None:
                continue
            for box, mask in zip(theirs.boxes.xyxy.numpy(), theirs.masks.data.numpy().astype(bool), strict=True):
                corners = np.array([cell.box_xyxy for cell in ours]) + 0.5
                distance = np.abs(corners - box).max(axis=1) / 2
                boxes.append(float(distance.min()))
                for name, cells in found.items():
                    contour = cells[int(distance.argmin())].contour_xy
                    masks[name].append(_mask_iou(_largest_part(mask), geometry.rasterize(contour, height, width)))
        print(f"{root.name}: {len(chosen)} fields, cells {counts[0]} ours, {counts[2]} Ultralytics'")
        print(f"  boxes: largest distance {max(boxes):.2f} network px, {np.mean(np.array(boxes) <= 1):.3f} within 1 px")
        for name, values in masks.items():
            low = np.percentile(values, 5)
            print(f"  masks {name}: mean IoU {np.mean(values):.4f}, 5th percentile {low:.4f}, n {len(values)}")
        print(f"  {' and '.join(networks)}: {counts[0]} and {counts[1]} cells, smallest IoU {min(runtimes):.5f}")


def _prepare(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = (round(side * factor) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return cv2.copyMakeBorder(resized, 0, -height % 64, 0, -width % 64, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def _largest_part(mask: np.ndarray) -> np.ndarray:
    n_parts, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return mask if n_parts < 3 else parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())  # noqa: PLR2004


def _mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


if __name__ == "__main__":
    main()
