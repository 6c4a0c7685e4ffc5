"""A folder of this machine that stands for addresses of an object store while a command runs.

    ROOT/bucket/cohort/patients.csv        copied when the address is listed
    ROOT/bucket/cohort/P1/f1.jpg           a file of the object's size and time without its content, until it is fetched

Files of that kind take no room on the disk. Every rule about folders (which file is a photograph, whose it is, what may
be replaced) thus works on them as on a folder, and only what a shard needs is copied. Where a table or a message states
a path in it, the address stands there instead.

Invariant: nothing outside ROOT is written, whatever the keys of the store are, and ROOT is removed in the end, also
when the command is interrupted; one of a killed call goes with the next. Photographs of patients lie in it: only the
user may read it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import ValidationError

from marrowscope.cluster.object_store import ObjectStore, gone_sentence
from marrowscope.cohort.inputs import Inputs, collect_inputs
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.cohort.shards import Block, take_shard
from marrowscope.disk import MARKER_NAME
from marrowscope.disk.addresses import address_of, at_place, place_of
from marrowscope.disk.locks import Holder, has_ended, this_process
from marrowscope.errors import InputError, MarrowscopeError, RunError
from marrowscope.imaging import IMAGE_SUFFIXES, SLIDE_SUFFIXES
from marrowscope.imaging.names import path_below
from marrowscope.records import InputImage
from marrowscope.runs.manifest import MANIFEST_NAME
from marrowscope.runs.parquet import scan_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from marrowscope.cluster.object_store import StoredObject
    from marrowscope.cohort.shards import Shard
    from marrowscope.cohort.stated import Stated
    from marrowscope.records import Fault

_WHOLE = frozenset({PATIENTS_NAME, MARKER_NAME, MANIFEST_NAME})
"""Files whose content decides what a folder is."""
_START_BYTES = 512
"""As many as ``imaging`` looks at to tell what a file is whose name does not say it."""
_MANY = 1000
_PREFIX = "marrowscope-store-"
_OWNER = ".owner"
"""Beside the buckets, none of whose names begins with a dot: the process whose mirror it is."""
_NS = 1_000_000_000


class Mirror:
    """What stands for addresses below ``root``; ``store`` is where they are."""

    def __init__(self, store: ObjectStore, root: Path) -> None:
        self.store, self.root = store, root
        self._objects: dict[Path, StoredObject] = {}
        self._fetched: set[Path] = set()

    def path(self, address: str) -> Path:
        """Return the path that stands for ``address``; InputError where its key leads out of the folder."""
        return _below(self.root, place_of(address))

    def stated(self, path: Path) -> str:
        """Return a path as it is stated: an address where it stands for one."""
        return at_place(path.relative_to(self.root).as_posix()) if path.is_relative_to(self.root) else str(path)

    def words(self, text: str) -> str:
        """Return a sentence with addresses in place of the paths that stand for them."""
        return text.replace(f"{self.root.as_posix()}/", at_place("")).replace(f"{self.root}{os.sep}", at_place(""))

    def list(self, address: str) -> Path:
        """Make files that stand for everything below ``address``, and those beside it that describe it.

        Raises InputError where there is nothing.
        """
        place = place_of(address)
        objects = self.store.list_below(place)
        if not objects:
            message = f"{address}: found nothing in the store, expected a folder or a file; check the address"
            raise InputError(message)
        parent = place.rpartition("/")[0]
        if [item.place for item in objects] == [place]:  # one file is judged by those beside it, as on a disk
            objects = self.store.list_folder(parent)
            parent = parent.rpartition("/")[0]
        if parent and (table := self.store.describe(f"{parent}/{PATIENTS_NAME}")) is not None:
            objects = [*objects, table]
        self._stand_in(objects)
        return self.path(address)

    def list_output(self, address: str) -> Path:
        """Make files that stand for what is at ``address`` already; there may be nothing."""
        self._stand_in(self.store.list_below(place_of(address)))
        path = self.path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def copy(self, address: str) -> Path:
        """Copy everything below ``address``; InputError where there is nothing, and for a file that changes meanwhile.

        For runs and annotations, which are small.
        """
        path = self.list(address)
        self._fetch_or_refuse([item for item in self._objects if item == path or item.is_relative_to(path)])
        return path

    def copy_if_there(self, address: str) -> None:
        """Copy everything below ``address``; there may be nothing."""
        self.copy_listed(self.store.list_below(place_of(address)))

    def copy_listed(self, objects: Sequence[StoredObject]) -> None:
        """Copy objects that were listed; InputError for one that was changed meanwhile."""
        self._stand_in(objects)
        self._fetch_or_refuse(_below(self.root, item.place) for item in objects)

    def inputs(self, paths: Sequence[Path], *, stated: Stated, shard: Shard | None = None) -> Inputs | Block:
        """List the patients and images in ``paths`` and fetch those of ``shard``, or all.

        An object that is gone or was changed since fails its own image. Raises as ``collect_inputs`` does, and RunError
        where the disk has no room.
        """
        whole = self.listed(paths, stated=stated)
        if shard is None:
            return self.fetched(whole)
        block = take_shard(whole, shard)
        return replace(block, inputs=self.fetched(block.inputs))

    def listed(self, paths: Sequence[Path], *, stated: Stated) -> Inputs:
        """List the patients and images in ``paths`` without fetching one."""
        found = collect_inputs(paths, stated=stated)
        return replace(
            found,
            images=tuple(self._addressed(image) for image in found.images),
            faults=tuple(self._said(fault) for fault in found.faults),
        )

    def fetched(self, inputs: Inputs) -> Inputs:
        """Fetch the images of ``inputs``, and whatever else lies beside a slide."""
        wanted = dict.fromkeys(image.path for image in inputs.images)
        of_slides = {path.parent for path in wanted if path.suffix.lower() in SLIDE_SUFFIXES}
        wanted |= dict.fromkeys(item for item in self._objects if not of_slides.isdisjoint(item.parents))
        problems = self.fetch(wanted)
        images = tuple(replace(image, problem=problems.get(image.path)) for image in inputs.images)
        return replace(inputs, images=images)

    def from_elsewhere(self, inputs: Inputs) -> Inputs:
        """Fetch images that another machine listed; addresses have come here, paths have not.

        One that is gone since has its own problem, as in ``inputs``.
        """
        images = [replace(image, path=self.path(image.address)) if image.address else image for image in inputs.images]
        for folder in dict.fromkeys(image.path.parent for image in images if image.address):
            self._stand_in(self.store.list_below(folder.relative_to(self.root).as_posix()))
        return self.fetched(replace(inputs, images=tuple(images)))

    def pictures_of(self, run: Path) -> Path:
        """Fetch the images of a run that lie in the store; returns the folder below which a report finds them.

        One that is gone, or is another one now, is left to the report, which says so.
        """
        places = scan_table(run / "fields.parquet", "fields").select(pl.col("path").unique(maintain_order=True))
        addresses = filter(None, map(address_of, places.collect()["path"].to_list()))
        images = tuple(InputImage("", "", Path(), None, address=address) for address in addresses)
        self.from_elsewhere(Inputs((), images))
        return self.root

    def fetch(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Fetch the content of files that stand for objects; returns those that have none, each with the reason."""
        here = [path for path in paths if path.is_relative_to(self.root) and path not in self._fetched]
        wanted = [(self._objects[path], path) for path in here if path in self._objects]
        self._refuse_full_disk(sum(stored.n_bytes for stored, _ in wanted))
        problems = {path: gone_sentence(self.stated(path)) for path in here if path not in self._objects}
        for start in range(0, len(wanted), _MANY):
            problems |= self.store.fetch(wanted[start : start + _MANY])
        for stored, path in wanted:
            if path not in problems:
                _set_time(path, stored)
                self._fetched.add(path)
        return problems

    def _fetch_or_refuse(self, paths: Iterable[Path]) -> None:
        for reason in self.fetch(paths).values():
            raise InputError(reason)

    def _stand_in(self, objects: Sequence[StoredObject]) -> None:
        """Make the files that stand for ``objects``: with content where it tells what they are."""
        new: dict[Path, StoredObject] = {}
        for stored in objects:
            path = _below(self.root, stored.place)
            if path in self._objects:
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as stream:
                    stream.truncate(stored.n_bytes)
            except (FileExistsError, NotADirectoryError) as error:
                message = (
                    f"{stored.address}: found another object whose name is the same on this disk, or a folder of that "
                    "name, expected each name once; rename one"
                )
                raise InputError(message) from error
            self._objects[path] = new[path] = stored
        whole = [path for path in new if path.name in _WHOLE]
        known = IMAGE_SUFFIXES | SLIDE_SUFFIXES - {".vms"}
        unclear = [path for path in new if path.name not in _WHOLE and path.suffix.lower() not in known]
        whole += [path for path in unclear if path.suffix.lower() == ".vms"]  # a list of other files
        self._fetch_or_refuse(whole)
        starts = self.store.read_starts([new[path] for path in unclear], _START_BYTES)
        for path, start in zip(unclear, starts, strict=True):
            with path.open("r+b") as stream:
                stream.write(start)
        for path, stored in new.items():
            _set_time(path, stored)

    def _addressed(self, image: InputImage) -> InputImage:
        return replace(image, address=self.stated(image.path)) if image.path.is_relative_to(self.root) else image

    def _said(self, fault: Fault) -> Fault:
        return replace(fault, where=self.words(fault.where), found=self.words(fault.found))

    def _refuse_full_disk(self, n_bytes: int) -> None:
        free = shutil.disk_usage(self.root).free
        if n_bytes > free:
            message = (
                f"{self.root}: found {free / 1e9:.2f} GB free, expected the {n_bytes / 1e9:.2f} GB of the images to be "
                "fetched; set TMPDIR to a larger disk, or take a smaller part with --shard i/n"
            )
            raise RunError(message)


@contextmanager
def open_mirror() -> Iterator[Mirror]:
    """Yield a mirror in the system's temporary folder, and remove it in the end.

    An error that names a path in it names the address instead.
    """
    store = ObjectStore()
    _remove_leftovers(Path(tempfile.gettempdir()))
    root = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()  # readable for its owner alone
    try:
        (root / _OWNER).write_text(this_process().model_dump_json(), encoding="utf-8")
        mirror = Mirror(store, root)
        try:
            yield mirror
        except MarrowscopeError as error:
            error.args = (mirror.words(str(error)), *error.args[1:])
            raise
    finally:
        shutil.rmtree(root, ignore_errors=True)
        store.close()


def _remove_leftovers(temporary: Path) -> None:
    """Remove the mirrors of killed calls of this user on this machine."""
    for folder in temporary.glob(f"{_PREFIX}*"):
        try:
            owner = Holder.model_validate_json((folder / _OWNER).read_bytes())
            is_ours = not folder.is_symlink() and folder.stat().st_uid == (folder / _OWNER).stat().st_uid == _user()
        except (OSError, ValidationError):
            continue
        if is_ours and has_ended(owner):
            shutil.rmtree(folder, ignore_errors=True)


def _user() -> int:
    return os.getuid() if sys.platform != "win32" else 0


def _below(root: Path, place: str) -> Path:
    """Return the path for ``bucket/key``; InputError for a key that is no path of a file below a folder."""
    where = at_place(place)
    if not {"", "."}.isdisjoint(place.split("/")):
        message = (
            f"{where}: found a key with an empty part or a dot as one, expected names of folders; rename the object"
        )
        raise InputError(message)
    return path_below(root, place, where="object store")


def _set_time(path: Path, stored: StoredObject) -> None:
    """Give a file the time of its object, and as its nanoseconds a digest of the object's tag.

    A store tells times by the second; the journal of an interrupted call tells files apart by size and time.
    """
    fraction = int.from_bytes(sha256(stored.tag.encode()).digest()[:8], "big") % _NS
    modified_ns = int(stored.modified_s) * _NS + fraction
    os.utime(path, ns=(modified_ns, modified_ns))
