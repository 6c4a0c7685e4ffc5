"""The stream of images through the networks of one bundle: read, decode, segment, measure, cut, classify.

One worker a core takes an image and does everything up to its crops, each network run on a one-thread stream; crops
are classified by the same workers in batches that fill across images. Reading, networks and measuring of different
images thus overlap, and no core waits for another. What is under way is bounded, so that memory does not grow with
the number of images.

Invariant: the rows come in the order of the images and are the same whatever the number of workers and the size of the
batches: a batch is always run full, and a crop's result does not depend on the others beside it.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field as Setting

from marrowscope.cells.calls import decode_calls
from marrowscope.cells.crop import CropSpec, cut_crops
from marrowscope.cells.field_measures import SCALE_UM_PER_PX as FIELD_SCALE_UM_PER_PX
from marrowscope.cells.field_measures import measure_field
from marrowscope.cells.morphology import measure_cells
from marrowscope.cells.quality import QualityRules, judge_contours
from marrowscope.config import StageConfig, validate_config
from marrowscope.errors import ImageError, ScaleError
from marrowscope.machine import available_cores
from marrowscope.networks import capabilities, choose_backend
from marrowscope.patient.flags import FlagRules, StainReference, field_flags, stain_distance
from marrowscope.segment.letterbox import letterbox
from marrowscope.segment.segmenter import Segmenter
from marrowscope.slides import SEAM_UM, SlideCache, SlideConfig, own_cells
from marrowscope.streaming.clock import StageClock
from marrowscope.streaming.photograph import ReadField, read_field
from marrowscope.streaming.rows import FieldRows, cell_row, failed_rows, field_row, nan_to_none

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.cohort.inputs import InputImage
    from marrowscope.networks import Network
    from marrowscope.records import ImageArray
    from marrowscope.segment.letterbox import Letterbox

_SMALLER = 4
"""The crops left over at the end run in batches smaller by this: two shapes are compiled, and few crops are blank."""
_IMAGES_A_WORKER = 3
"""Images under way for each worker: one it works on, one it takes next, one more for an image that takes long."""


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
        """Give the settings that can change a result: not the threads and processes, nor the size of a batch."""
        return self.model_dump(mode="json", exclude={"batch_size", "threads", "processes"})


@dataclass(frozen=True, slots=True)
class _Crop:
    """A crop (s, s, 3) uint8 that waits for its classification, and the row that will hold it."""

    image: ImageArray
    row: dict[str, Any]


class CellEngine:
    """The networks of one bundle, opened once, and the stream of images through them."""

    def __init__(self, bundle: Bundle, config: PredictConfig) -> None:
        self._config = config
        self.bundle_sha256 = bundle.spec_sha256
        self._vocabulary = bundle.vocabulary
        self._crop_spec = validate_config(CropSpec, bundle.spec.crop, where="bundle.toml [crop]")
        self._rules = validate_config(QualityRules, bundle.spec.quality_rules, where="bundle.toml [quality_rules]")
        self.flag_rules = self.read_flag_rules(bundle)
        self._stain = (
            validate_config(StainReference, bundle.spec.stain_reference, where="bundle.toml [stain_reference]")
            if bundle.spec.stain_reference
            else None
        )
        self.n_workers = config.threads or available_cores()
        backend = choose_backend(config.backend, config.device)
        here = capabilities(backend, config.device)
        precision = bundle.resolve_precision(config.precision, here, backend=backend, device=config.device)
        options = (backend, config.device, precision)
        network = bundle.open_segmenter(*options, threads=self.n_workers, streams=self.n_workers)
        self._segmenter = Segmenter(network, bundle.segmenter_config, bundle.segmenter_sha256)
        self.slides = SlideCache()
        self._members: list[Network] = bundle.open_classifiers(*options, threads=self.n_workers, streams=self.n_workers)
        self.clock = StageClock()
        self.backend, self.device, self.precision = network.backend, network.device, network.precision

    @staticmethod
    def read_flag_rules(bundle: Bundle) -> FlagRules:
        """Give the rules by which fields and patients are flagged."""
        return validate_config(FlagRules, bundle.spec.flags, where="bundle.toml [flags]")

    def run(self, images: Iterable[InputImage]) -> Generator[FieldRows]:
        """Predict ``images``; gives the rows of each, in order, as soon as they are complete."""
        n_threads_before = cv2.getNumThreads()
        cv2.setNumThreads(
            1
        )  # the workers are the threads; and some results differ in their last bits with their number
        pool = ThreadPoolExecutor(self.n_workers, thread_name_prefix="engine")
        try:
            yield from self._stream(pool, iter(images))
        finally:
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(n_threads_before)

    def run_segmenter(self, canvas: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run the segmenter's network on a field as ``letterbox`` gives it."""
        return self._segmenter.run(canvas)

    def run_classifiers(self, batch: ImageArray) -> list[dict[str, NDArray[np.float32]]]:
        """Run every member on crops (n, s, s, 3) uint8."""
        return [member.run_images(batch) for member in self._members]

    def blank_batch(self) -> ImageArray:
        """Give a batch (n, s, s, 3) uint8 of black crops, as large as the batches that are classified."""
        return self._blank(self._config.batch_size)

    def shapes(self, images: Iterable[InputImage]) -> Counter[tuple[int, ...]]:
        """Count the shapes (1, h, w, 3) in which the segmenter sees ``images``, without those that cannot be read."""
        found: Counter[tuple[int, ...]] = Counter()
        for item in images:
            read = self._read(item)
            if not isinstance(read.image, ImageError):
                scale = (read.um_per_px or 0.0) * read.reduce
                found[letterbox(read.image, scale, self._segmenter.config)[0].shape] += 1
        return found

    def _stream(self, pool: ThreadPoolExecutor, images: Iterator[InputImage]) -> Iterator[FieldRows]:
        segmenting: deque[Future[tuple[FieldRows, list[_Crop]]]] = deque()
        incomplete: deque[tuple[FieldRows, int]] = deque()  # with the number of crops up to and with this image
        classifying: deque[Future[int]] = deque()
        waiting: list[_Crop] = []
        n_crops = n_classified = 0
        limit = _IMAGES_A_WORKER * self.n_workers

        def submit_next() -> None:
            if (item := next(images, None)) is not None:
                segmenting.append(pool.submit(self._segment, item))

        for _ in range(limit):
            submit_next()
        while segmenting:
            rows, crops = segmenting.popleft().result()
            submit_next()
            n_crops += len(crops)
            incomplete.append((rows, n_crops))
            waiting += crops
            # Images without a crop complete no batch: what they wait behind is classified before they pile up.
            while len(waiting) >= self._config.batch_size or (waiting and (not segmenting or len(incomplete) > limit)):
                size = self._config.batch_size
                if len(waiting) < size:  # the last ones: what no smaller batch would hold is taken whole
                    size = max(1, size // _SMALLER) if len(waiting) <= size // 2 else size
                batch, waiting = waiting[:size], waiting[size:]
                classifying.append(pool.submit(self._classify, batch))
            while classifying and (
                classifying[0].done() or len(classifying) > limit or len(incomplete) > limit or not segmenting
            ):
                n_classified += classifying.popleft().result()
            while incomplete and incomplete[0][1] <= n_classified:
                yield incomplete.popleft()[0]

    def _blank(self, n: int) -> ImageArray:
        size = self._crop_spec.size_px
        return np.zeros((n, size, size, 3), dtype=np.uint8)

    def _segment(self, item: InputImage) -> tuple[FieldRows, list[_Crop]]:
        """Read one field and find its cells; gives its rows and the crops of the contours that are kept."""
        with self.clock("read"):
            read = self._read(item)
        if isinstance(read.image, ImageError):
            return failed_rows(read, str(read.image)), []
        try:
            return self._find_cells(read, read.image)
        except (ScaleError, cv2.error, MemoryError) as error:  # one image's fault, not the run's
            reason = str(error) or "found too little memory, expected room for its pixels; predict it in parts"
            return failed_rows(read, f"{item.path}: {reason}"), []

    def _read(self, item: InputImage) -> ReadField:
        """Read one field, no finer than both networks can use: two pixels for one of theirs are left.

        At one for one a crop is only moved between pixels where it would be averaged, and 2% of the calls change.
        """
        finer = min(self._segmenter.config.um_per_px, self._crop_spec.um_per_px)
        coarsest = finer / 2 if self._config.reduce else 0.0
        return read_field(item, self.slides, um_per_px=self._config.um_per_px, coarsest_um_per_px=coarsest)

    def _find_cells(self, read: ReadField, image: ImageArray) -> tuple[FieldRows, list[_Crop]]:
        """Segment, judge, measure and cut. Raises ScaleError for a scale too coarse for the network."""
        scale = (read.um_per_px or 0.0) * read.reduce
        with self.clock("place"):
            canvas, transform = letterbox(image, scale, self._segmenter.config)
        with self.clock("segment"):
            outputs = self.run_segmenter(canvas)
        height, width = image.shape[:2]
        with self.clock("contours"):
            detections = self._segmenter.cells_of(outputs, transform, width, height)
            if (region := read.item.region) is not None:
                tolerance_px = SEAM_UM / scale
                detections = [detections[index] for index in own_cells(detections, region, tolerance_px)]
        with self.clock("judge"):
            judged = judge_contours([found.contour_xy for found in detections], self._rules, width, height, scale)
            cells = [cell_row(read, *pair, scale) for pair in zip(detections, judged, strict=True)]
            reasons = [judgement.reason for judgement in judged]
            row = field_row(read, detections, reasons)
        with self.clock("field"):
            measures = measure_field(image, scale, self._shrunk(canvas, transform, scale))
            row |= nan_to_none(measures | {"stain_distance": stain_distance(measures, self._stain)})
            row |= {"flags": field_flags(row, self.flag_rules)}
        kept = [index for index, reason in enumerate(reasons) if reason is None]
        contours = [detections[index].contour_xy for index in kept]
        with self.clock("crop"):
            images, masks = cut_crops(image, contours, scale, self._crop_spec, masks=self._config.morphology)
        if self._config.morphology:
            with self.clock("morphology"):
                measured = measure_cells(images, masks, contours, scale, self._crop_spec.um_per_px)
                for index, values in zip(kept, measured, strict=True):
                    cells[index] |= nan_to_none(values)
        rows = FieldRows(row, cells, [found.n_parts for found in detections])
        return rows, [_Crop(crop, cells[index]) for index, crop in zip(kept, images, strict=True)]

    def _shrunk(self, canvas: ImageArray, transform: Letterbox, um_per_px: float) -> ImageArray | None:
        """Give what ``measure_field`` would shrink once more, where the segmenter sees the field at the same scale."""
        if self._segmenter.config.um_per_px != FIELD_SCALE_UM_PER_PX or um_per_px >= FIELD_SCALE_UM_PER_PX:
            return None
        return np.ascontiguousarray(canvas[0, : transform.height_px, : transform.width_px])

    def _classify(self, crops: Sequence[_Crop]) -> int:
        """Fill the rows of ``crops``; gives how many. The batch is run full, with blank crops at its end.

        Two sizes of batches are enough: each is compiled, and what is left at the end fills a small one.
        """
        few = max(1, self._config.batch_size // _SMALLER)
        batch = self._blank(self._config.batch_size if len(crops) > few else few)
        for index, crop in enumerate(crops):
            batch[index] = crop.image
        with self.clock("classify"):
            full = self.run_classifiers(batch)
        outputs = [{name: values[: len(crops)] for name, values in output.items()} for output in full]
        p_cblc, p_countable, p_category = (
            _member_mean(outputs, name) for name in ("p_cblc", "p_countable", "p_category")
        )
        spread = np.std([output["p_cblc"][:, 1] for output in outputs], axis=0) if len(outputs) > 1 else None
        calls = decode_calls(p_category, p_cblc[:, 1], p_countable[:, 1], self._vocabulary)
        for index, crop in enumerate(crops):
            crop.row.update(
                p_cblc=float(p_cblc[index, 1]),
                p_countable=float(p_countable[index, 1]),
                p_category=p_category[index].tolist(),
                category=self._vocabulary.categories[calls.category_index[index]],
                is_cblc=bool(calls.is_cblc[index]),
                is_countable=bool(calls.is_countable[index]),
                contradiction=bool(calls.contradiction[index]),
                member_spread=None if spread is None else float(spread[index]),
            )
        return len(crops)


def slide_config(bundle: Bundle) -> SlideConfig:
    """Give how slides are cut into regions: on the grid of the bundle's segmenter."""
    segmenter = bundle.segmenter_config
    return SlideConfig(grid_um=segmenter.stride * segmenter.um_per_px)


def _member_mean(outputs: Sequence[dict[str, NDArray[np.float32]]], name: str) -> NDArray[np.float64]:
    return np.asarray(np.mean([output[name] for output in outputs], axis=0), dtype=np.float64)
