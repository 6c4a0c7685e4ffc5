"""Where the shards of one prediction meet: a folder that all machines see, on a shared disk or in an object store.

    archive.shards/journal.json    what is predicted, and with what; another job begins anew
    archive.shards/engine.json     on what the networks were opened
    archive.shards/00001/          the run of the first shard, and so on; unfinished: 00001.part

Invariant: a shard counts as finished when its manifest is there, which is written last, and one worker at a time
writes a shard: it holds the lock beside it. In a store a worker makes its shard on its own disk and publishes it;
parts of an unfinished one are copied as they are written.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from marrowscope.cluster.mirror import open_mirror
from marrowscope.cluster.publish import StoredFolder
from marrowscope.cluster.store_lock import locked_address
from marrowscope.disk import MARKER_NAME, begin_folder, locked, remove_unfinished, write_json
from marrowscope.disk.addresses import address_of, place_of
from marrowscope.disk.whole_files import PART
from marrowscope.errors import RunError
from marrowscope.runs.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from marrowscope.cohort.shards import Block

_KIND = "shards"
_LOCK_FREE_AFTER_S = 90.0
"""A lock of a process on a node that is gone is stale after a minute."""
_LOCK_TRIED_EVERY_S = 3.0
_T = TypeVar("_T")
_OF_A_SHARD = re.compile(r"(\d{5})/[^/]+")


def shard_path(folder: Path, index: int) -> Path:
    """Return where the run of a shard lies."""
    return folder / f"{index:05}"


class MeetingPlace(Protocol):
    """What the driver does with the folder."""

    @property
    def folder(self) -> Path:
        """Its path, or its address as a path."""

    def begin(self) -> None:
        """Make it empty and mark it; RunError where anything but an unfinished prediction is there."""

    def read(self, name: str) -> bytes | None:
        """Return the content of one small file, None where there is none that can be read."""

    def write(self, name: str, content: object) -> None:
        """Write ``content`` as JSON."""

    def finished(self) -> frozenset[int]:
        """Return the numbers of the shards that are whole."""

    def gather(self, n_shards: int) -> list[Path]:
        """Return the folders of all shards on a disk of this machine, by number."""

    def remove(self) -> None:
        """Remove it, its marker last."""


@dataclass(frozen=True)
class SharedDisk:
    """A folder on a disk that all nodes see under the same path."""

    folder: Path

    def begin(self) -> None:
        """See ``MeetingPlace``."""
        begin_folder(self.folder, _KIND)

    def read(self, name: str) -> bytes | None:
        """See ``MeetingPlace``."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, content: object) -> None:
        """See ``MeetingPlace``."""
        write_json(self.folder / name, content)

    def finished(self) -> frozenset[int]:
        """See ``MeetingPlace``."""
        names = (path.parent.name for path in self.folder.glob(f"*/{MANIFEST_NAME}"))
        return frozenset(int(name) for name in names if name.isdecimal())

    def gather(self, n_shards: int) -> list[Path]:
        """See ``MeetingPlace``."""
        return [shard_path(self.folder, index) for index in range(1, n_shards + 1)]

    def remove(self) -> None:
        """See ``MeetingPlace``."""
        remove_unfinished(self.folder)


@dataclass(frozen=True)
class SharedStore:
    """A folder in an object store, beside the run ``out`` that is written there; its lock is the lock of ``out``."""

    folder: Path
    out: StoredFolder

    def begin(self) -> None:
        """See ``MeetingPlace``; what was there is gone before anything of the new prediction is written."""
        with open_mirror() as mirror:
            folder = mirror.list_output(self._address)
            there = StoredFolder(mirror, self._address, folder, self.out.check)
            begin_folder(folder, _KIND)
            there.publish()

    def read(self, name: str) -> bytes | None:
        """See ``MeetingPlace``."""
        return self.out.mirror.store.read(f"{self._place}/{name}")

    def write(self, name: str, content: object) -> None:
        """See ``MeetingPlace``."""
        self.out.check()
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        self.out.mirror.store.write_bytes(f"{self._place}/{name}", text.encode())

    def finished(self) -> frozenset[int]:
        """See ``MeetingPlace``."""
        names = (self._name(item.place) for item in self.out.mirror.store.list_below(self._place))
        found = ((name, _OF_A_SHARD.fullmatch(name)) for name in names)
        return frozenset(int(match[1]) for name, match in found if match and name.endswith(f"/{MANIFEST_NAME}"))

    def gather(self, n_shards: int) -> list[Path]:
        """See ``MeetingPlace``; RunError where this disk has no room for the tables of all shards."""
        mirror = self.out.mirror
        listed = mirror.store.list_below(self._place)
        mirror.copy_listed([item for item in listed if _OF_A_SHARD.fullmatch(self._name(item.place))])
        return [mirror.path(f"{self._address}/{index:05}") for index in range(1, n_shards + 1)]

    def remove(self) -> None:
        """See ``MeetingPlace``; the run is in the store before."""
        self.out.publish()
        self.out.check()
        store, marker = self.out.mirror.store, f"{self._place}/{MARKER_NAME}"
        places = [item.place for item in store.list_below(self._place)]
        store.remove(place for place in places if place != marker)
        store.remove([marker])

    @property
    def _address(self) -> str:
        return address_of(self.folder) or ""

    @property
    def _place(self) -> str:
        return place_of(self._address)

    def _name(self, place: str) -> str:
        return place.removeprefix(f"{self._place}/")


@dataclass(frozen=True)
class ShardOnDisk:
    """A shard that a worker is to predict: ``block`` with photographs of this machine, and the folder to write."""

    block: Block
    out: Path
    progress: Callable[[int, int], None] | None = None


@contextmanager
def shard_to_predict(place: Path, block: Block) -> Iterator[ShardOnDisk | None]:
    """Hold the lock of the shard at ``place`` and yield what is to be predicted; None where it is whole already.

    Photographs in a store are fetched. What the caller wrote to ``out`` is published at the end, unless it raises.
    """
    address = address_of(place)
    with ExitStack() as stack:
        is_stored = address is not None or any(image.address for image in block.inputs.images)
        mirror = stack.enter_context(open_mirror()) if is_stored else None
        if address is None or mirror is None:
            _lock_in_time(stack, partial(locked, place))
            out, stored = place, None
        else:
            lock = _lock_in_time(stack, partial(locked_address, mirror.store, address, _say_nothing))
            mirror.copy_if_there(f"{address}{PART}")
            out = mirror.list_output(address)
            stored = StoredFolder(mirror, address, out, lock.check)
        if (out / MANIFEST_NAME).is_file():  # the process that made it ended before it could say so
            yield None
            return
        if mirror is not None:
            block = replace(block, inputs=mirror.from_elsewhere(block.inputs))
        yield ShardOnDisk(block, out, stored.saving(None) if stored else None)
        if stored:
            stored.publish()
            stored.save_parts()


def _lock_in_time(
    stack: ExitStack, lock: Callable[[], AbstractContextManager[_T]], limit_s: float = _LOCK_FREE_AFTER_S
) -> _T:
    """Hold a lock, waiting for that of a worker on a node that is gone; RunError after ``limit_s``."""
    end = time.monotonic() + limit_s
    while True:
        try:
            return stack.enter_context(lock())
        except RunError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOCK_TRIED_EVERY_S)


def _say_nothing(_: str) -> None:
    """Take a sentence about a lock: a worker has nobody to tell it."""
