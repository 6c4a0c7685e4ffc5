"""A lock in an object store: a second call with one ``--out`` is refused while the first one lives.

The lock is an object beside the address (``.run.marrowscope-lock`` for ``run``), which names the host, the process and
the time, as a lock on a disk does. It is made, renewed and taken over by conditional writes alone (If-None-Match,
If-Match), each of which the store does in one step. It is stale when its process on this machine is gone, or when it
was not renewed for a minute by the clock of the store. Invariant: in a store that honors these conditions, one call at
a time holds a lock; ``say`` gets a sentence where the store does not.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from pydantic import ValidationError

from marrowscope.disk.addresses import at_place, place_of
from marrowscope.disk.locks import LOCK_SUFFIX, Holder, has_ended, this_process
from marrowscope.errors import LockLostError, MarrowscopeError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from marrowscope.cluster.object_store import ObjectStore

_RENEWED_EVERY_S = 15.0
_STALE_AFTER_S = 60.0
_TRIES = 3


class StoreLock:
    """A lock that is held, renewed by a thread until ``stop``."""

    def __init__(self, store: ObjectStore, place: str, content: bytes, tag: str) -> None:
        self.is_lost = False
        self._store, self._place, self._content, self._tag = store, place, content, tag
        self._stopped = Event()
        self._thread = Thread(target=self._beat, daemon=True, name="store-lock")
        self._thread.start()

    def check(self) -> None:
        """Raise LockLostError where another call took the lock over."""
        if self.is_lost or self._store.read(self._place) != self._content:
            message = (
                f"{at_place(self._place)}: another call took this lock over, expected to hold it to the end; call "
                "again as before"
            )
            raise LockLostError(message)

    def release(self) -> None:
        """Stop renewing, and remove the lock where it is still ours."""
        self._stopped.set()
        self._thread.join()
        with contextlib.suppress(MarrowscopeError):
            if self._store.read(self._place) == self._content:
                self._store.remove([self._place])

    def _beat(self) -> None:
        while not self._stopped.wait(_RENEWED_EVERY_S):
            with contextlib.suppress(MarrowscopeError):  # the store may be away for a moment
                tag = self._store.replace(self._place, self._content, self._tag)
                if tag is not None:
                    self._tag = tag
                elif self._store.read(self._place) != self._content:
                    self.is_lost = True
                    is_deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in the background of a shell
                    _thread.interrupt_main(signal.SIGTERM if is_deaf else signal.SIGINT)
                    return


@contextmanager
def locked_address(store: ObjectStore, address: str, say: Callable[[str], object]) -> Iterator[StoreLock]:
    """Hold the lock of ``address``. Raises RunError, which names the holder, where another call has it."""
    folder, _, name = place_of(address).rpartition("/")
    place = f"{folder}/.{name}{LOCK_SUFFIX}"
    content = this_process().model_dump_json().encode() + b"\n"
    lock = StoreLock(store, place, content, _take(store, place, content, address, say))
    try:
        yield lock
    except (KeyboardInterrupt, SystemExit):
        if lock.is_lost:
            lock.check()
        raise
    finally:
        lock.release()


def _take(store: ObjectStore, place: str, content: bytes, address: str, say: Callable[[str], object]) -> str:
    """Make the lock, or take over one that is stale; returns the store's tag of it."""
    for _ in range(_TRIES):
        earlier = store.read(place)
        if earlier is None:
            if (tag := store.create(place, content)) is None:
                continue
            if store.create(place, content) is not None:
                say(
                    f"{address}: found a store that overwrites an object where it was asked not to, expected it to "
                    "refuse: it cannot keep a second call with this --out away."
                )
        elif earlier == content:  # written, though the answer was lost
            found = store.describe(place)
            return found.tag if found else ""
        else:
            found = store.describe(place)
            silent_s = 0.0 if found is None else store.age_s(place)
            holder = _read(earlier)
            who = holder.sentence() if holder else "another call"
            is_gone = holder is not None and has_ended(holder)
            if found is not None and silent_s <= _STALE_AFTER_S and not is_gone:
                message = (
                    f"{address}: found it in use by {who}, expected one call at a time; wait for its end, or choose "
                    f"another address (if that call is gone, its lock {at_place(place)} is free after a minute)"
                )
                raise RunError(message)
            if found is None or (tag := store.replace(place, content, found.tag)) is None:
                continue
            reason = "whose process is gone" if is_gone else f"which was not renewed for {silent_s:.0f} s"
            say(f"{address}: took over the lock of {who}, {reason}.")
        return tag
    message = f"{address}: found another call that started at the same time, expected one; call again"
    raise RunError(message)


def _read(content: bytes) -> Holder | None:
    try:
        return Holder.model_validate_json(content)
    except ValidationError:
        return None
