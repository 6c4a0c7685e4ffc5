"""A laboratory's usual pipeline: Ultralytics' predict, crops with OpenCV, EfficientNet-B0 in a PyTorch loop.

    python benchmarks/usual_pipeline.py FOLDER --image-size 640 --crop-size 128 [--segmenter SEG.pt] [--json]

Written as a careful user would write it: the files go to Ultralytics as one list, its decoded image is cropped instead
of read twice, batches of the classifier fill across fields, inference mode, the faster memory layout, everything warmed
up before the clock starts. Ultralytics sets PyTorch to one thread fewer than there are cores and OpenCV to one; both
get all of them here.

`--segmenter` is a checkpoint (.pt) or an exported graph; without it the demonstration bundle's graph is used, with the
names Ultralytics requires added to a copy. The classifier's weights do not affect its time and are random unless
`--classifier` names a classifier.safetensors. `--members 2 --views 2` is an ensemble of two that looks at each crop and
at its mirror, as the default bundle does. Needs the training extra.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import timm
import torch

from marrowscope.imaging import is_image_path
from marrowscope.train.checkpoint import load_tensors
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, CellClassifier, ClassifierInfo
from marrowscope.train.segmenter_fit import load_ultralytics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, ImageArray

N_CATEGORIES = 16
CROP_MARGIN = 1.2
LAYOUT_TRIALS = 3
DEMONSTRATION_GRAPH = (
    Path(str(resources.files("marrowscope"))) / "data" / "demo_bundle" / "segmenter" / "segmenter.onnx"
)


@dataclass(slots=True)
class UsualResult:
    """What one run found and how long its parts took, in wall-clock seconds, without warm-up.

    ``cpu_s`` are CPU seconds, all threads together: on a busy machine they say what wall-clock time cannot.

    ``paths`` are in the order of their names; ``contours`` (n, 2) by path, in the image's pixels; ``probabilities``
    (n_cells, categories) in the order of the paths and of the cells in each.
    """

    paths: list[str]
    contours: dict[str, list[ContourArray]] = field(default_factory=dict)
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, N_CATEGORIES), np.float32))
    seconds: float = 0.0
    segment_s: float = 0.0
    crop_s: float = 0.0
    classify_s: float = 0.0
    cpu_s: float = 0.0
    threads: int = 0
    channels_last: bool = False

    @property
    def n_fields(self) -> int:
        """Number of images read."""
        return len(self.contours)

    @property
    def n_cells(self) -> int:
        """Number of cells found in all of them."""
        return sum(map(len, self.contours.values()))

    def figures(self) -> dict[str, Any]:
        """Return the numbers of a report."""
        return {
            "fields": self.n_fields,
            "cells": self.n_cells,
            "seconds": self.seconds,
            "fields_per_second": self.n_fields / self.seconds,
            "cells_per_second": self.n_cells / self.seconds,
            "segment_s": self.segment_s,
            "crop_s": self.crop_s,
            "classify_s": self.classify_s,
            "cpu_s": self.cpu_s,
            "threads": self.threads,
            "channels_last": self.channels_last,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


class UsualPipeline:
    """Segmenter, crops and classifier in one process, one field after the other."""

    def __init__(
        self,
        segmenter_weights: Path,
        classifiers: Sequence[torch.nn.Module],
        image_size: int,
        crop_size: int,
        *,
        views: int = 1,
        batch_size: int = 32,
        threads: int | None = None,
        confidence: float = 0.3,
        nms_iou: float = 0.6,
        max_detections: int = 1000,
        device: str = "cpu",
    ) -> None:
        """Open the networks; ``confidence`` and ``nms_iou`` are the demonstration bundle's by default.

        A segmenter takes erythrocytes for cells at an image size it was not trained for, and the crops would dominate
        the time: ``max_detections`` keeps the best of each field, so that the work matches that with its own weights.
        """
        self.threads = threads or os.cpu_count() or 1
        self.image_size, self.crop_size, self.batch_size = image_size, crop_size, batch_size
        self.device = torch.device(device)
        self._folder = tempfile.TemporaryDirectory(prefix="usual-pipeline-")
        folder = Path(self._folder.name)
        ultralytics = load_ultralytics(folder)
        logging.getLogger("ultralytics").setLevel(logging.WARNING)
        weights = segmenter_weights if segmenter_weights.suffix == ".pt" else name_graph(segmenter_weights, folder)
        self._yolo = ultralytics.YOLO(str(weights), task="segment")
        self._options = {
            "imgsz": image_size,
            "conf": confidence,
            "iou": nms_iou,
            "max_det": max_detections,
            "retina_masks": False,
            "device": device,
            "stream": True,
            "save": False,
            "verbose": False,
        }
        self._classifiers = [classifier.eval().to(self.device) for classifier in classifiers]
        self._views = views
        self._mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(IMAGENET_STD, device=self.device).view(1, 3, 1, 1) * 255
        self.channels_last = False

    @torch.inference_mode()
    def warm_up(self, path: Path) -> None:
        """Run both networks once, choose the faster memory layout, and give both libraries all threads."""
        for _ in self._segment([path]):
            pass
        # Ultralytics sets these when it opens a network, to one thread fewer than there are cores and to one.
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(self.threads)
        for _ in self._segment([path]):
            pass
        crops = [np.zeros((self.crop_size, self.crop_size, 3), dtype=np.uint8)] * self.batch_size
        seconds = {False: float("inf"), True: float("inf")}
        for layout in [False, True] * (1 + LAYOUT_TRIALS):
            self._set_layout(channels_last=layout)
            started = time.perf_counter()
            self._classify(crops)
            seconds[layout] = min(seconds[layout], time.perf_counter() - started)
        self._set_layout(channels_last=seconds[True] < seconds[False])

    @torch.inference_mode()
    def run(self, paths: Sequence[Path]) -> UsualResult:
        """Find and classify the cells of every image, in the order of their names, as Ultralytics sorts them."""
        paths = sorted(paths, key=lambda path: str(path.resolve()))
        result = UsualResult([str(path) for path in paths], threads=torch.get_num_threads())
        result.channels_last = self.channels_last
        pending: list[ImageArray] = []
        probabilities: list[NDArray[np.float32]] = []
        started, cpu_started = time.perf_counter(), time.process_time()
        found = self._segment(paths)
        while True:
            with _clock(result, "segment_s"):
                field_found = next(found, None)
            if field_found is None:
                break
            path, image_bgr, contours = field_found
            result.contours[path] = contours
            with _clock(result, "crop_s"):
                pending += [square_crop(image_bgr, contour, self.crop_size) for contour in contours]
            with _clock(result, "classify_s"):
                while len(pending) >= self.batch_size:
                    probabilities.append(self._classify(pending[: self.batch_size]))
                    pending = pending[self.batch_size :]
        with _clock(result, "classify_s"):
            if pending:
                probabilities.append(self._classify(pending))
        result.seconds, result.cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        if probabilities:
            result.probabilities = np.concatenate(probabilities)
        return result

    def _segment(self, paths: Sequence[Path]) -> Iterator[tuple[str, ImageArray, list[ContourArray]]]:
        """Yield path, decoded image (BGR) and contours of one image after the other."""
        listed = Path(self._folder.name) / "images.txt"
        listed.write_text("\n".join(str(path.resolve()) for path in paths), encoding="utf-8")
        given = {str(path.resolve()): str(path) for path in paths}
        for found in self._yolo.predict(str(listed), **self._options):
            outlines = [] if found.masks is None else found.masks.xy
            yield given[found.path], found.orig_img, [outline for outline in outlines if len(outline) > 2]  # noqa: PLR2004

    def _classify(self, crops: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Compute the probabilities (n, categories) of crops (s, s, 3) in RGB."""
        batch = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        normalized = batch.to(torch.float32, memory_format=layout).sub_(self._mean).div_(self._std)
        seen = normalized if self._views == 1 else torch.cat([normalized, normalized.flip(3)])
        probabilities = []
        for classifier in self._classifiers:
            given = classifier(seen)
            logits = given if isinstance(given, torch.Tensor) else given.category
            probabilities.append(logits.reshape(self._views, len(batch), -1).mean(dim=0).softmax(dim=1))
        return np.asarray(torch.stack(probabilities).mean(dim=0).cpu().numpy(), dtype=np.float32)

    def _set_layout(self, *, channels_last: bool) -> None:
        self.channels_last = channels_last
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._classifiers = [classifier.to(memory_format=layout) for classifier in self._classifiers]


def run_usual(
    paths: Sequence[Path],
    *,
    image_size: int,
    crop_size: int,
    segmenter: Path | None = None,
    classifier: Path | None = None,
    members: int = 1,
    views: int = 1,
    batch_size: int = 32,
    threads: int | None = None,
    confidence: float = 0.3,
    nms_iou: float = 0.6,
    max_detections: int = 1000,
    device: str = "cpu",
) -> UsualResult:
    """Open, warm up and time the usual pipeline on ``paths``; call it in a separate process."""
    pipeline = UsualPipeline(
        segmenter or DEMONSTRATION_GRAPH,
        [open_classifier(classifier) for _ in range(members)],
        image_size,
        crop_size,
        views=views,
        batch_size=batch_size,
        threads=threads,
        confidence=confidence,
        nms_iou=nms_iou,
        max_detections=max_detections,
        device=device,
    )
    pipeline.warm_up(paths[0])
    return pipeline.run(paths)


def open_classifier(weights: Path | None) -> torch.nn.Module:
    """Return a timm EfficientNet-B0: with random weights, or ours from a classifier.safetensors."""
    if weights is None:
        model: torch.nn.Module = timm.create_model("efficientnet_b0", pretrained=False, num_classes=N_CATEGORIES)
        return model
    tensors, meta = load_tensors(weights)
    info = ClassifierInfo.model_validate(meta)
    ours = CellClassifier(info.architecture, len(info.categories), n_morphology=len(info.morphology), norm=info.norm)
    ours.load_state_dict(tensors)
    return ours


def square_crop(image_bgr: ImageArray, contour_xy: ContourArray, size_px: int) -> ImageArray:
    """Cut a square around the contour's box with a margin, kept inside the image where it fits, resized, in RGB."""
    height, width = image_bgr.shape[:2]
    (x0, y0), (x1, y1) = contour_xy.min(axis=0), contour_xy.max(axis=0)
    side = min(max(4, round(float(max(x1 - x0, y1 - y0)) * CROP_MARGIN)), height, width)
    left = min(max(round(float(x0 + x1 - side) / 2), 0), width - side)
    top = min(max(round(float(y0 + y1 - side) / 2), 0), height - side)
    patch = image_bgr[top : top + side, left : left + side]
    how = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    return np.asarray(
        cv2.cvtColor(cv2.resize(patch, (size_px, size_px), interpolation=how), cv2.COLOR_BGR2RGB), np.uint8
    )


def name_graph(graph_path: Path, folder: Path) -> Path:
    """Copy an exported graph and add what Ultralytics' own export would have written into it."""
    import onnx  # noqa: PLC0415 - a checkpoint needs none

    graph = onnx.load(str(graph_path))
    added = {"task": "segment", "names": "{0: 'cell'}", "stride": "32", "batch": "1", "imgsz": "[640, 640]"}
    added |= {"dynamic": "True", "args": "{'dynamic': True}", "channels": "3"}
    kept = {entry.key: entry.value for entry in graph.metadata_props} | added
    del graph.metadata_props[:]
    for key, value in kept.items():
        graph.metadata_props.add(key=key, value=value)
    named = folder / "segmenter.onnx"
    onnx.save(graph, str(named))
    return named


@contextmanager
def _clock(result: UsualResult, part: str) -> Iterator[None]:
    """Add the time of a block to one part of the result."""
    started = time.perf_counter()
    yield
    setattr(result, part, getattr(result, part) + time.perf_counter() - started)


def main() -> None:
    """Time the pipeline on a folder and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder searched for images, at any depth")
    parser.add_argument("--image-size", type=int, default=640, help="long side the segmenter sees, in pixels")
    parser.add_argument("--crop-size", type=int, default=128, help="side the classifier sees, in pixels")
    parser.add_argument("--segmenter", type=Path, help="checkpoint (.pt) or graph (.onnx)")
    parser.add_argument("--classifier", type=Path, help="classifier.safetensors; random weights without it")
    parser.add_argument("--members", type=int, default=1, help="classifiers whose probabilities are averaged")
    parser.add_argument("--views", type=int, default=1, choices=[1, 2], help="2: the crop and its mirror")
    parser.add_argument("--fields", type=int, help="only the first N images, by name")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--confidence", type=float, default=0.3)
    parser.add_argument("--nms-iou", type=float, default=0.6)
    parser.add_argument("--max-detections", type=int, default=1000, help="cells kept per image, the best by score")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:0")
    parser.add_argument("--contours", type=Path, help="write the contours of every image to this JSON file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    paths = sorted(path for path in given.folder.rglob("*") if is_image_path(path))[: given.fields]
    if not paths:
        sys.exit(f"{given.folder}: found no image")
    result = run_usual(
        paths,
        image_size=given.image_size,
        crop_size=given.crop_size,
        segmenter=given.segmenter,
        classifier=given.classifier,
        members=given.members,
        views=given.views,
        batch_size=given.batch_size,
        threads=given.threads,
        confidence=given.confidence,
        nms_iou=given.nms_iou,
        max_detections=given.max_detections,
        device=given.device,
    )
    if given.contours:
        rounded = {path: [np.round(c, 2).tolist() for c in found] for path, found in result.contours.items()}
        given.contours.write_text(json.dumps(rounded), encoding="utf-8")
    figures = result.figures()
    if given.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:20} {value:.3f}" if isinstance(value, float) else f"{name:20} {value}")


if __name__ == "__main__":
    main()
