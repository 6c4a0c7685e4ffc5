"""A lock on a place that a command writes to: a second call is refused while the first one lives.

The lock is a file beside the place (``.run.marrowscope-lock`` for ``run``). It is made exclusively, which every file
system can do; locks of the system are not used, since shared disks do not agree on them. It names the host, the process
and the time, and a thread renews its time of change. It is stale when its process on this host is gone, or when it was
not renewed for a minute by the clock of the disk itself. A stale lock is taken over. Invariant: only the call that
made a lock removes it.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from pydantic import ValidationError

from marrowscope.config import FrozenModel
from marrowscope.errors import LockLostError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCK_SUFFIX = ".marrowscope-lock"
"""End of the name of every lock; the file is hidden, so that no command takes it for input."""
LOCK_WITHIN = LOCK_SUFFIX
"""Name of the lock inside a folder whose parent cannot be written to, a mounted one for example."""
_RENEWED_EVERY_S = 10.0
_STALE_AFTER_S = 60.0
_TRIES = 5


class Holder(FrozenModel):
    """Who holds a lock: ``machine`` tells hosts of one name apart, ``started`` processes of one number."""

    host: str
    machine: str
    process: int
    started: str
    since: str
    token: str

    def sentence(self) -> str:
        """Return who holds the lock, and since when."""
        return f"process {self.process} on {self.host} since {self.since}"


def this_process() -> Holder:
    """Return a holder that is this process."""
    return Holder(
        host=socket.gethostname(),
        machine=_machine(),
        process=os.getpid(),
        started=_started(os.getpid()),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        token=uuid.uuid4().hex,
    )


def has_ended(holder: Holder) -> bool:
    """Say whether a holder was a process of this machine that is gone; of another machine nobody knows."""
    if holder.machine != _machine():
        return False
    return not _is_alive(holder.process) or (holder.started != "" and _started(holder.process) != holder.started)


@contextmanager
def locked(out: Path, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of ``out``, a file or folder that is written to; ``say`` gets a sentence on a stale lock.

    Folders above ``out`` that had to be made for the lock are removed when they are empty at the end. Raises RunError
    when another call holds it, when ``out`` is below a file, and where the lock was lost to another call meanwhile.
    """
    refuse_below_file(out)
    made = _make_parents(out)
    try:
        path, holder = _take(out, say)
        heart = _Heart(path, holder.token)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if not heart.lost:
                raise
            message = f"{path}: another call took this lock over, expected to hold it to the end; call again as before"
            raise LockLostError(message) from None
        finally:
            heart.stop()
            _release(path, holder.token)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def refuse_below_file(out: Path) -> None:
    """Raise RunError when something above ``out`` is a file."""
    for path in out.parents:
        if path.exists():
            if not path.is_dir():
                message = f"{path}: found a file, expected a folder to write to; choose another"
                raise RunError(message)
            return


def _make_parents(out: Path) -> list[Path]:
    """Make the folders above ``out``; returns those that were absent, the innermost first."""
    absent = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    return absent


def _take(out: Path, say: Callable[[str], None] | None) -> tuple[Path, Holder]:
    """Make the lock of ``out``; a stale one is taken over."""
    holder = this_process()
    path = _place(out)
    try:
        _make(path, holder)
    except FileExistsError:
        pass
    except OSError:
        if not out.is_dir():
            raise
        path = out / LOCK_WITHIN  # the folder is writable where the one above it is not
        with contextlib.suppress(FileExistsError):
            _make(path, holder)
    for _ in range(_TRIES):
        earlier = _read(path)
        if earlier is not None and earlier.token == holder.token:
            return path, holder
        reason = _reason_stale(path, earlier)
        if reason is None:
            who = earlier.sentence() if earlier else "another call"
            message = (
                f"{out}: found it in use by {who}, expected one call at a time; wait for its end, or choose another "
                f"folder (if that call is gone, its lock {path.name} is free after a minute)"
            )
            raise RunError(message)
        if _set_aside(path, earlier) and say:
            say(f"{out}: took over the lock of {earlier.sentence() if earlier else 'an earlier call'}, {reason}.")
        with contextlib.suppress(FileExistsError):
            _make(path, holder)
    message = f"{path}: found another call that started at the same time, expected one; call again"
    raise RunError(message)


def _place(out: Path) -> Path:
    """Return where the lock of ``out`` is: beside it, also where ``out`` is given as a link or as '.'."""
    resolved = out.resolve()
    return resolved.with_name(f".{resolved.name}{LOCK_SUFFIX}") if resolved.name else resolved / LOCK_WITHIN


def _make(path: Path, holder: Holder) -> None:
    """Make the lock file; raises FileExistsError when there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(holder.model_dump_json() + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Holder | None:
    """Return who holds the lock; None where the file is gone, or nobody can be read from it."""
    try:
        return Holder.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def _reason_stale(path: Path, holder: Holder | None) -> str | None:
    """Say why a lock is stale; None where it is not."""
    if holder is not None and holder.machine == _machine():
        if has_ended(holder):
            return "whose process is gone"
        if holder.started:
            return None  # a process that was suspended renews nothing and still holds its lock
    try:
        silent_s = _now_on_disk(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return "which was given back"
    return f"which was not renewed for {silent_s:.0f} s" if silent_s > _STALE_AFTER_S else None


def _set_aside(path: Path, stale: Holder | None) -> bool:
    """Remove a stale lock; one that a third call made meanwhile is put back. Says whether it was removed."""
    aside = path.with_name(f".{uuid.uuid4().hex}{LOCK_SUFFIX}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    if _read(aside) != stale:
        with contextlib.suppress(OSError):
            aside.rename(path)
        return False
    aside.unlink(missing_ok=True)
    return True


def _release(path: Path, token: str) -> None:
    """Remove the lock where it still is ours."""
    holder = _read(path)
    if holder is not None and holder.token == token:
        with contextlib.suppress(OSError):
            path.unlink()


class _Heart:
    """Renews a lock every few seconds; ``lost`` once another call has it, and then the main thread is interrupted."""

    def __init__(self, path: Path, token: str) -> None:
        self.lost = False
        self._path, self._token, self._stopped = path, token, Event()
        self._thread = Thread(target=self._beat, daemon=True, name="lock")
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.wait(_RENEWED_EVERY_S):
            holder = _read(self._path)
            if holder is not None and holder.token != self._token:
                self.lost = True
                is_deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in the background of a shell
                _thread.interrupt_main(signal.SIGTERM if is_deaf else signal.SIGINT)
                return
            with contextlib.suppress(OSError):  # the disk may be away for a moment
                os.utime(self._path)


def _now_on_disk(folder: Path) -> float:
    """Return the time of the disk that ``folder`` is on: a shared one has its own clock."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=LOCK_SUFFIX) as file:
            return Path(file.name).stat().st_mtime
    except OSError:
        return time.time()


def _machine() -> str:
    """Return what tells this machine, its present start and its container apart from others of the same name."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _started(process: int) -> str:
    """Return when a process of this machine started, in ticks since the machine did; empty where unknown or ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]


def _is_alive(process: int) -> bool:
    """Say whether a process of this machine lives; on Windows, where asking could end it, always yes."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
