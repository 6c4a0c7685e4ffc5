"""A folder that a command made, into an object store: a reader never sees half of it.

Steps: a marker that the folder is being filled, which names every file; away with an earlier manifest, so that nothing
there counts as a run; all other files; what the earlier one had more; the manifest; the marker of a complete folder.
A call that is killed between any two of them leaves what the same call, or another one, may fill again.

The parts of a run that is not finished lie at ADDRESS.part, as they lie beside a folder on a disk. They are copied as
they are written, so that the same call goes on with them on any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.disk import MARKER_NAME, Marker, read_marker
from marrowscope.disk.addresses import place_of
from marrowscope.runs import parts
from marrowscope.runs.finished_fields import FOLDER as FOUND
from marrowscope.runs.folder import staging_folder
from marrowscope.runs.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from marrowscope.cluster.mirror import Mirror

_Facts = dict[str, tuple[int, int]]
"""Size and time of each file of a folder, by its path in it."""


class StoredFolder:
    """A folder at an address, and the one of ``mirror`` in which a command makes or changes it.

    ``check`` is called before every step that others see, and raises where the lock was lost.
    """

    def __init__(self, mirror: Mirror, address: str, folder: Path, check: Callable[[], object]) -> None:
        self.mirror, self.address, self.folder, self.check = mirror, address, folder, check
        self._store, self._place = mirror.store, place_of(address)
        self._parts = staging_folder(folder)
        self._before, self._saved = _facts(folder), _facts(self._parts)

    def save_parts(self) -> None:
        """Make the unfinished run in the store the one on this disk; after the last step there is none."""
        now = _facts(self._parts)
        if now == self._saved:
            return
        self.check()
        base = f"{self._place.rpartition('/')[0]}/{self._parts.name}"
        self._store.remove(f"{base}/{name}" for name in sorted(self._saved.keys() - now.keys()))
        new = [name for name, facts in now.items() if self._saved.get(name) != facts]
        self._store.write([(self._parts / name, f"{base}/{name}") for name in new])
        self._saved = now

    def saving(self, advance: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
        """Return a progress that also copies the parts of the unfinished run, as soon as one is whole."""

        def advanced(n_done: int, n_all: int) -> None:
            if n_done % parts.IMAGES_A_PART == 0:
                self.save_parts()
            if advance:
                advance(n_done, n_all)

        return advanced

    def publish(self) -> None:
        """Write what the command made or changed; nothing where it did neither."""
        now = _facts(self.folder)
        if now == self._before or not now:
            return
        self.check()
        new = [name for name, facts in now.items() if self._before.get(name) != facts]
        gone = sorted(self._before.keys() - now.keys())
        if MANIFEST_NAME in now and MANIFEST_NAME not in new:  # files were added to a run; its marker names them first
            first, last = [name for name in new if name == MARKER_NAME], []
        else:
            first, last = [], [name for name in (MANIFEST_NAME, MARKER_NAME) if name in new]
            self._begin_filling(now)
        self._write(first)
        self._write(name for name in new if name not in {*first, *last})
        self._store.remove(map(self._at, gone))
        for name in last:
            self.check()
            self._write([name])
        self._before = now

    def _begin_filling(self, now: _Facts) -> None:
        """State in the store that the folder is being filled, and that there is no run meanwhile."""
        if (marker := read_marker(self.folder)) is None:
            return
        names = tuple(sorted({*self._before, *now} - {MARKER_NAME}))
        filling = Marker(kind=marker.kind, files=names, complete=False)
        self._store.write_bytes(self._at(MARKER_NAME), (filling.model_dump_json(indent=2) + "\n").encode())
        self._store.remove([self._at(MANIFEST_NAME)])

    def _write(self, names: Iterable[str]) -> None:
        self._store.write([(self.folder / name, self._at(name)) for name in names])

    def _at(self, name: str) -> str:
        return f"{self._place}/{name}"


def _facts(folder: Path) -> _Facts:
    """List a folder. Single fields of an unfinished run stay on this disk: nothing can be appended to an object."""
    paths = (path for path in sorted(folder.rglob("*")) if path.parent != folder / FOUND)
    found = ((path, path.stat()) for path in paths if path.is_file())
    return {path.relative_to(folder).as_posix(): (facts.st_size, facts.st_mtime_ns) for path, facts in found}
