"""Fields through the networks of one bundle, many at once: read, find, classify.

A thread a core takes a field and does everything up to its crops, each network run on a one-thread stream; crops are
classified by the same threads in batches that fill across fields. Reading, networks and measuring of different fields
thus overlap, and no core waits for another. What is under way is bounded, so that memory does not grow with the number
of fields.

Invariant: the fields come back in their order and are the same whatever the number of threads and the size of the
batches: a batch is always run full, and a crop's result does not depend on the others beside it.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.cells.calls import call_cells
from marrowscope.cells.find import CellFinder, coarsest_um_per_px, find_cells
from marrowscope.cohort.duplicates import image_fingerprint
from marrowscope.errors import ImageError, ScaleError
from marrowscope.imaging import one_image, sha256_bytes
from marrowscope.imaging.photograph import decode_photograph, read_file
from marrowscope.imaging.scale import choose_scale
from marrowscope.machine import available_cores
from marrowscope.networks import capabilities, choose_backend
from marrowscope.records import FieldImage, FoundField
from marrowscope.segment.segmenter import Segmenter
from marrowscope.slides import SlideCache
from marrowscope.streaming.clock import StageClock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.networks import Network
    from marrowscope.records import Call, ImageArray, InputImage
    from marrowscope.runs.finished_fields import FieldsFile, FinishedFields
    from marrowscope.streaming.config import PredictConfig

_SMALLER = 4
"""The crops left over at the end run in batches smaller by this: two shapes are compiled, and few crops are blank."""
_FIELDS_A_THREAD = 3
"""Fields under way for each thread: one it works on, one it takes next, one more for a field that takes long."""


@dataclass(frozen=True, slots=True)
class _Under:
    """A field under way: what was found in it, the crops (n, s, s, 3) of its kept cells and their positions."""

    found: FoundField
    kept: tuple[int, ...] = ()
    crops: Sequence[ImageArray] = ()


class Worker:
    """The networks of one bundle, opened once, and the fields through them."""

    def __init__(self, bundle: Bundle, config: PredictConfig) -> None:
        self._config = config
        self._vocabulary = bundle.vocabulary
        self._predicts_plasma = bundle.spec.predicts_plasma
        self._rule, self._embeddings = bundle.spec.joint, bundle.embeddings
        self.bundle_sha256 = bundle.spec_sha256
        self.n_threads = config.threads or available_cores()
        backend = choose_backend(config.backend, config.device)
        here = capabilities(backend, config.device)
        precision = bundle.resolve_precision(config.precision, here, backend=backend, device=config.device)
        options = (backend, config.device, precision)
        network = bundle.open_segmenter(*options, threads=self.n_threads, streams=self.n_threads)
        self.finder = CellFinder(
            Segmenter(network, bundle.spec.segmenter, bundle.segmenter_sha256),
            bundle.spec.quality_rules,
            bundle.spec.crop,
        )
        self._members: list[Network] = bundle.open_classifiers(*options, threads=self.n_threads, streams=self.n_threads)
        self._small_batches: bool | None = None  # whether they give the same bits; unknown before the first
        self.slides = SlideCache()
        self.clock = StageClock()
        self.backend, self.device, self.precision = network.backend, network.device, precision

    def find(
        self, fields: Iterable[InputImage], finished: FinishedFields | FieldsFile | None = None
    ) -> Generator[FoundField]:
        """Find and classify the cells of ``fields``; gives each field, in order, as soon as it is complete.

        A field that cannot be read comes back with its error. Each is written to ``finished`` before it is given.
        """
        source, limit, size = iter(fields), _FIELDS_A_THREAD * self.n_threads, self._config.batch_size
        finding: deque[Future[_Under]] = deque()
        incomplete: deque[tuple[_Under, int]] = deque()  # with the number of crops up to and with this field
        classifying: deque[Future[list[Call]]] = deque()
        waiting: list[ImageArray] = []
        calls: deque[Call] = deque()
        n_crops = n_called = 0
        n_threads_before = cv2.getNumThreads()
        cv2.setNumThreads(1)  # ours are enough; and some results differ in their last bits with their number
        pool = ThreadPoolExecutor(self.n_threads, thread_name_prefix="worker")

        def submit_next() -> None:
            if (item := next(source, None)) is not None:
                finding.append(pool.submit(self._find_field, item))

        try:
            for _ in range(limit):
                submit_next()
            while finding:
                under = finding.popleft().result()
                submit_next()
                n_crops += len(under.crops)
                incomplete.append((under, n_crops))
                waiting += under.crops
                # Fields without a crop complete no batch: what they wait behind is classified before they pile up.
                while len(waiting) >= size or (waiting and (not finding or len(incomplete) > limit)):
                    n_next = size
                    if len(waiting) < size:  # the last ones: what no smaller batch would hold is taken whole
                        n_next = max(1, size // _SMALLER) if len(waiting) <= size // 2 else size
                    batch, waiting = waiting[:n_next], waiting[n_next:]
                    classifying.append(pool.submit(self._classify, batch))
                while classifying and (
                    classifying[0].done() or len(classifying) > limit or len(incomplete) > limit or not finding
                ):
                    done = classifying.popleft().result()
                    calls += done
                    n_called += len(done)
                while incomplete and incomplete[0][1] <= n_called:
                    complete = _complete(incomplete.popleft()[0], calls)
                    if finished is not None:
                        finished.add(complete)
                    yield complete
        finally:
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(n_threads_before)

    def run_classifiers(self, batch: ImageArray) -> list[dict[str, NDArray[np.float32]]]:
        """Run every member on crops (n, s, s, 3) uint8."""
        return [member.run_images(batch) for member in self._members]

    def blank_batch(self, n: int | None = None) -> ImageArray:
        """Return ``n`` black crops (n, s, s, 3) uint8, by default as many as are classified at once."""
        size = self.finder.crop.size_px
        return np.zeros((n or self._config.batch_size, size, size, 3), dtype=np.uint8)

    def read(self, item: InputImage) -> FieldImage:
        """Read one field, no finer than both networks can use.

        Raises ImageError for a field that cannot be read, ScaleError for one without a scale.
        """
        if item.problem is not None:
            raise ImageError(item.problem)
        if item.region is not None:
            scale = choose_scale(item.path, item.um_per_px, self._config.um_per_px)
            with self.slides.slide(item.path) as slide:
                pixels = slide.read(item.region)
            return FieldImage(pixels, scale, pixels.shape[1], pixels.shape[0], item.sha256, region=item.region)
        return self._decode(read_file(item.path), item)

    def _decode(self, data: bytes, item: InputImage) -> FieldImage:
        coarsest = coarsest_um_per_px(self.finder.segmenter.config.um_per_px, self.finder.crop.um_per_px)
        return decode_photograph(
            data,
            item.path,
            stated_um_per_px=item.um_per_px,
            default_um_per_px=self._config.um_per_px,
            coarsest_um_per_px=coarsest if self._config.reduce else 0.0,
        )

    def _find_field(self, item: InputImage) -> _Under:
        """Read one field and find its cells; whatever is wrong with it is the field's error."""
        bare = FoundField(item, item.sha256)
        try:
            with one_image(item.path):  # whatever one image raises is its own error, not the run's
                with self.clock("read"):
                    if item.problem is None and item.region is None:
                        data = read_file(item.path)
                        bare = replace(bare, sha256=sha256_bytes(data))
                        image = self._decode(data, item)
                    else:
                        image = self.read(item)
                bare = FoundField(
                    item,
                    bare.sha256,
                    image.um_per_px,
                    image.width_px,
                    image.height_px,
                    is_simulated=image.is_simulated,
                )
                if item.region is None:
                    bare = replace(bare, fingerprint=image_fingerprint(image.pixels))
                found = find_cells(image, self.finder, morphology=self._config.morphology, lap=self.clock)
        except (ImageError, ScaleError) as error:
            says_where = str(item.path) in str(error) or item.place in str(error)
            reason = str(error) if says_where else f"{item.path}: {error}"
            return _Under(replace(bare, error=reason))
        complete = replace(bare, cells=found.cells, measures=found.measures, erythrocytes=found.erythrocytes)
        return _Under(complete, found.kept, list(found.crops))

    def _classify(self, crops: Sequence[ImageArray]) -> list[Call]:
        """Call the cells of ``crops``. The batch is run full, with blank crops at its end.

        Two sizes of batches are enough: each is compiled, and what is left at the end fills a small one. It does so
        only where the runtime gives the same bits in both: on a processor without AVX-512, OpenVINO does not, and a
        cell would depend on how many others were left with it.
        """
        few = max(1, self._config.batch_size // _SMALLER)
        batch = self.blank_batch()
        for index, crop in enumerate(crops):
            batch[index] = crop
        with self.clock("classify"):
            if len(crops) <= few < len(batch) and self._small_batches is not False:
                outputs = self.run_classifiers(batch[:few])
                if self._small_batches is None:
                    whole = self.run_classifiers(batch)
                    self._small_batches = _have_equal_bits(outputs, whole)
                    outputs = whole
            else:
                outputs = self.run_classifiers(batch)
        return call_cells(
            outputs,
            len(crops),
            self._vocabulary,
            self._rule,
            self._embeddings,
            predicts_plasma=self._predicts_plasma,
        )


def _have_equal_bits(
    few: Sequence[Mapping[str, NDArray[np.float32]]], whole: Sequence[Mapping[str, NDArray[np.float32]]]
) -> bool:
    """Tell whether the first rows of ``whole`` are the rows of ``few``, member by member and output by output."""
    return all(
        np.array_equal(values, of_whole[name][: len(values)])
        for of_few, of_whole in zip(few, whole, strict=True)
        for name, values in of_few.items()
    )


def _complete(under: _Under, calls: deque[Call]) -> FoundField:
    """Return the field with the calls of its kept cells, which are the next of ``calls``."""
    cells = list(under.found.cells)
    for index in under.kept:
        cells[index] = replace(cells[index], call=calls.popleft())
    return replace(under.found, cells=tuple(cells))
