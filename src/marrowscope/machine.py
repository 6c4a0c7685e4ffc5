"""What this process may use, cores and memory, and processes of its own that never outlive it."""

from __future__ import annotations

import errno
import os
import platform
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING

from marrowscope.errors import MarrowscopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_LIMIT = _CGROUP / "cpu.max"
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_NO_MEMORY = (
    os.strerror(errno.ENOMEM).lower(),
    os.strerror(errno.EAGAIN).lower(),  # no further thread, or no memory for its stack
    "unable to allocate",  # numpy
    "not enough memory",  # torch
    "insufficient memory",  # OpenCV
    "bad_alloc",  # C++
    "bad allocation",  # C++ on Windows
    "failed to allocate",  # ONNX Runtime, OpenVINO
    "can't alloc",  # TBB, of OpenVINO
    "out of memory",
    "failed to map segment",  # a library that is loaded
    "can't start new thread",  # Python
)
_LEAST_ADDRESSES, _LEAST_TO_TRAIN = 9 * 1024**3 // 4, 5 * 1024**3
_ADDRESSES_PER_CORE, _MOST_BLAS_THREADS = 128 * 1024**2, 64
_NUMERICAL = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")


def available_cores(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return the smallest of the machine's cores, the process's affinity and its container's quota; at least 1.

    A container limited to two cores of a machine with 64 is slowed down by 64 threads, not sped up.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = min(cores, len(os.sched_getaffinity(0)))
    try:
        quota, period = cgroup_limit.read_text(encoding="ascii").split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        pass
    return max(1, cores)


def available_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes available on the machine and within the process's container; None if unknown.

    A container's cached files count as used memory until it is needed elsewhere, so inactive file memory is added.
    """
    known = [int(line.split()[1]) * 1024 for line in _lines(meminfo) if line.startswith("MemAvailable:")]
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        taken = int((cgroup / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        pass
    else:
        idle = [int(line.split()[1]) for line in _lines(cgroup / "memory.stat") if line.startswith("inactive_file ")]
        known.append(max(0, limit - taken + sum(idle)))
    return min(known, default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that this process got no memory, or no thread, whatever library raised it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def refuse_small_address_space(*, trains: bool = False) -> None:
    """Raise MarrowscopeError where the address space is limited (``ulimit -v``) to less than the libraries take.

    Below that OpenBLAS asks for its buffers without end while it is loaded, and polars ends the process by a signal: no
    error of theirs could be said. Measured on two cores: predict takes 2.3 GB of addresses and evaluate 2.1 GB, most of
    them reserved and never used; with 0.96 GB the first hangs, with 1.9 GB the second is aborted. A command that
    ``trains`` takes 5.4 GB with PyTorch, and is aborted with 4.8 GB.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = _LEAST_TO_TRAIN if trains else _LEAST_ADDRESSES
    least += _ADDRESSES_PER_CORE * min(available_cores(), _MOST_BLAS_THREADS)
    if limit != resource.RLIM_INFINITY and limit < least:
        message = (
            f"found an address space limited to {limit / 1024**3:.2f} GiB, expected at least {least / 1024**3:.2f} GiB "
            "to load the libraries; raise the limit (ulimit -v), then call again as before"
        )
        raise MarrowscopeError(message)


def processor_features(cpuinfo: Path = _CPUINFO) -> str:
    """Return the instruction set and those of its extensions by which numerical libraries choose their kernels.

    Networks give equal bytes on processors that have equal features. Where the system does not list them, only the
    instruction set is known.
    """
    listed = [line.partition(":")[2].split() for line in _lines(cpuinfo) if line.startswith(("flags", "Features"))]
    named = listed[0] if listed else []
    known = sorted({name for name in named if name.startswith(_NUMERICAL)})
    return " ".join([platform.machine().lower(), *known])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


class WorkerProcess(SpawnProcess):
    """A spawned process that no signal disturbs while it starts.

    The terminal sends an interrupt to every process of a command: one that is still importing would print a traceback.
    A handler of this process that raised during the start would leave the new one half of what it reads, and that one
    would print a traceback too.
    """

    def start(self) -> None:
        """Start the process with the interrupt blocked; this process takes its signals afterwards."""
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            resource_tracker.ensure_running()  # starting it would unblock the interrupt again
        try:
            with _handlers_held(), _interrupt_blocked():
                super().start()
        except BaseException:  # a signal that waited arrives here, before any pool knows of this process
            if self.pid is not None:
                self.kill()
            raise


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Block the interrupt from the keyboard in this thread, and in processes that it starts; Windows cannot."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handlers_held() -> Iterator[None]:
    """Let no handler of a signal run inside; the first signal that came is handled at the end."""
    if current_thread() is not main_thread():  # handlers run in the main thread alone
        yield
        return
    came: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    try:
        with ExitStack() as stack:  # takes every step, even if a signal arrives between two of them
            for number, handler in handlers.items():
                stack.callback(signal.signal, number, handler)
                signal.signal(number, lambda number, _frame: came.append(number))
            yield
    finally:
        if came:
            handlers[signal.Signals(came[0])](came[0], None)


class WorkerContext(SpawnContext):
    """How processes are started here: spawned, not forked, since a copy of a process with threads hangs."""

    Process = WorkerProcess


@contextmanager
def process_pool(
    n_processes: int, begin: Callable[..., object] | None = None, arguments: tuple[object, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Open ``n_processes`` processes that never outlive this one; each calls ``begin(*arguments)`` first.

    Where the block is left by an error, an interrupt from the keyboard included, they are ended at once.
    """
    pool = ProcessPoolExecutor(n_processes, mp_context=WorkerContext(), initializer=_begin, initargs=(begin, arguments))
    try:
        yield pool
    except BaseException:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """End this process, made by ``multiprocessing``, when the one that started it is gone, killed for one.

    An interrupt from the keyboard is left to that process, which ends this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _begin(begin: Callable[..., object] | None, arguments: tuple[object, ...]) -> None:
    end_with_parent()
    if begin is not None:
        begin(*arguments)
