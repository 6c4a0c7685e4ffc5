"""Workers in several processes, for runs long enough to repay opening the networks in each process.

Threads share one interpreter, which runs the Python code of one thread at a time. On two cores this costs a third of
the speed; on many cores it is the limit. Here each process has a worker with one thread and takes a few fields at a
time. Fields are returned in order, with the same results as from threads.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Self, TypeVar

from marrowscope.bundle import load_bundle
from marrowscope.errors import MarrowscopeError, RunError
from marrowscope.machine import available_cores, process_pool
from marrowscope.runs.finished_fields import FieldsFile
from marrowscope.slides import SlideCache
from marrowscope.streaming.clock import StageClock
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from marrowscope.bundle import Bundle, BundleSpec
    from marrowscope.records import FoundField, InputImage
    from marrowscope.runs.finished_fields import FinishedFields
    from marrowscope.streaming.config import PredictConfig

_FIELDS_AT_ONCE = 8
"""Enough that only a few percent of the crops are left in partial batches; few enough that no process waits long for
another at the end of a run."""
_TASKS_A_PROCESS = 2
_IMAGES_A_PROCESS = 150
"""This many repay the seconds that a process takes to start, on two cores."""
PROCESSOR = "processor"
"""Stage of the clock that has the CPU time of the pool's processes."""

_worker: Worker | MarrowscopeError
_T = TypeVar("_T")


@contextmanager
def open_worker(bundle: Bundle, config: PredictConfig, n_images: int) -> Iterator[Worker | WorkerPool]:
    """Open the worker or pool that ``config`` asks for, else the faster of the two, and close it on exit.

    ``n_images`` is the number of images that processes may share: 0 for slides, whose regions depend on each other.
    """
    n_cores = config.threads or available_cores()
    n_processes = config.processes or min(n_cores, n_images // _IMAGES_A_PROCESS)
    if n_images == 0 or n_processes <= 1:
        yield Worker(bundle, config)
        return
    with WorkerPool(bundle, config, n_processes) as pool:
        yield pool


class WorkerPool:
    """Several processes with one worker each, and the same interface as ``Worker``. ``open_worker`` closes it."""

    def __init__(self, bundle: Bundle, config: PredictConfig, n_processes: int) -> None:
        self.n_threads = n_processes
        self.bundle_sha256 = bundle.spec_sha256
        self.clock = StageClock()
        self.slides = SlideCache()  # stays empty: several processes read no slides
        alone = config.model_copy(update={"threads": 1})
        with ExitStack() as processes:
            self._pool = processes.enter_context(process_pool(n_processes, _open, (bundle.folder, bundle.spec, alone)))
            self.backend, self.device, self.precision = self._result(self._pool.submit(_describe))
            self._processes = processes.pop_all()

    def find(self, fields: Iterable[InputImage], finished: FinishedFields | None = None) -> Generator[FoundField]:
        """Find and classify the cells of ``fields``; yields each field, in order, as soon as it is complete.

        The process that found a field writes it to ``finished`` at once. Raises RunError if a process was ended from
        outside.
        """
        source = iter(fields)
        tasks: deque[Future[tuple[list[FoundField], dict[str, float]]]] = deque()

        def submit_next() -> None:
            if few := list(islice(source, _FIELDS_AT_ONCE)):
                path = finished.new_file(image.field_id for image in few) if finished is not None else None
                tasks.append(self._pool.submit(_find, few, path))

        try:
            for _ in range(_TASKS_A_PROCESS * self.n_threads):
                submit_next()
            while tasks:
                found, seconds = self._result(tasks.popleft())
                submit_next()
                self.clock.add(seconds)
                yield from found
        finally:
            for task in tasks:
                task.cancel()

    def __enter__(self) -> Self:
        """Return the open pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes, at once where the block was left by an error."""
        self._processes.__exit__(kind, error, traceback)

    def close(self) -> None:
        """End the processes."""
        self._processes.close()

    @staticmethod
    def _result(task: Future[_T]) -> _T:
        try:
            return task.result()
        except BrokenProcessPool as error:
            message = (
                "found a prediction process that ended early, expected it to run to the end; the system may have ended "
                "it for lack of memory: run the same command again to resume, with fewer --processes to save memory"
            )
            raise RunError(message) from error


def _open(folder: Path, spec: BundleSpec, config: PredictConfig) -> None:
    """Open the worker of this process, once.

    The graphs are checked against the hashes of ``spec``, the parent's. An error is kept for ``_describe`` to raise:
    one raised in an initializer does not reach the parent.
    """
    global _worker  # noqa: PLW0603 - a process of the pool has one worker
    try:
        _worker = Worker(replace(load_bundle(folder, verify=False, with_rates=False), spec=spec), config)
    except MarrowscopeError as error:
        _worker = error


def _opened() -> Worker:
    if isinstance(_worker, MarrowscopeError):
        raise _worker
    return _worker


def _describe() -> tuple[str, str, str]:
    worker = _opened()
    return worker.backend, worker.device, worker.precision


def _find(fields: list[InputImage], path: Path | None) -> tuple[list[FoundField], dict[str, float]]:
    """Find a few fields; each is in the file ``path`` as soon as it is found."""
    worker = _opened()
    worker.clock.reset()
    started = time.process_time()
    with FieldsFile(path) if path is not None else nullcontext() as finished:
        found = list(worker.find(fields, finished))
    return found, worker.clock.seconds() | {PROCESSOR: time.process_time() - started}
