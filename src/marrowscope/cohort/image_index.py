"""Which image an annotation belongs to, by the path that it states and by the name of its file.

Paths are compared as text with those of the images that are there; nothing is opened by a stated path. Folders in
front of a path (another machine's, ``./``, ``..``, backslashes) do not matter where exactly one image ends like it.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Parts = tuple[str, ...]


class ImageIndex:
    """The images below a folder, to be found by what an annotation says of them."""

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        """Index ``images``, all of them below ``root``."""
        self._root = root
        self._by_parts: dict[Path, Parts] = {path: _parts_of(path.relative_to(root)) for path in images}
        self._by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self._by_folded: defaultdict[str, list[Path]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[Path]] = defaultdict(list)
        for path, parts in self._by_parts.items():
            self._by_name[parts[-1]].append(path)
            self._by_folded[parts[-1].casefold()].append(path)
            self._by_stem[_plain(path.stem).casefold()].append(path)
        self._folders = {parts[:length] for parts in self._by_parts.values() for length in range(1, len(parts))}

    def folder(self, file: Path) -> Parts:
        """Return the folder of an annotation file as parts below the root; empty for a file elsewhere."""
        return _parts_of(file.parent.relative_to(self._root)) if file.is_relative_to(self._root) else ()

    def named(self, stated: str, folder: Parts) -> list[Path]:
        """Return the images that the path ``stated`` may mean in a file of ``folder``; one where it is clear."""
        parts = tuple(part for part in _plain(stated).split("/") if part not in ("", "."))
        tail = _resolved(parts)
        if not tail:
            return []
        candidates = self._by_name.get(tail[-1]) or self._by_folded.get(tail[-1].casefold(), [])
        exact = {_fold(_resolved((*folder, *parts))), _fold(tail)}
        for wanted in (_resolved((*folder, *parts)), tail):
            found = [path for path in candidates if self._by_parts[path] == wanted]
            found = found or [path for path in candidates if _fold(self._by_parts[path]) in exact]
            if found:
                return found
        behind_prefix = [path for path in candidates if _ends_with(tail, self._by_parts[path])]
        if behind_prefix:
            longest = max(len(self._by_parts[path]) for path in behind_prefix)
            return [path for path in behind_prefix if len(self._by_parts[path]) == longest]
        partial = [path for path in candidates if _ends_with(self._by_parts[path], tail)]
        if partial:
            return self._nearest(partial, folder, lambda path: self._by_parts[path][: -len(tail)])
        if len(tail) > 1 and tail[:-1] not in self._folders and (tail[-2],) not in self._folders:
            return [path for path in candidates if folder and self._by_parts[path][:-1] == folder]
        return []

    def is_in_another_folder(self, image: Path, stated: str) -> bool:
        """Say whether the path ``stated`` names a folder that is not the image's: only the names of the files agree.

        A whole path, with a drive or from the root, is that of another machine and says nothing of folders here.
        """
        if PureWindowsPath(stated).root:
            return False
        tail = _fold(_resolved(tuple(part for part in _plain(stated).split("/") if part not in ("", "."))))
        parts = _fold(self._by_parts[image])
        return len(tail) > 1 and not (_ends_with(tail, parts) or _ends_with(parts, tail))

    def own(self, base_name: str, folder: Parts, *, beside_only: bool = False) -> list[Path]:
        """Return the images named as an annotation file, with or without their suffix; the nearest to ``folder``."""
        wanted = _plain(base_name)
        found = self._by_name.get(wanted) or self._by_folded.get(wanted.casefold()) or []
        stems = self._by_stem.get(wanted.casefold(), [])
        found = found or [path for path in stems if _plain(path.stem) == wanted] or stems
        if beside_only:
            return [path for path in found if self._by_parts[path][:-1] == folder]
        return self._nearest(found, folder, lambda path: self._by_parts[path][:-1])

    @staticmethod
    def _nearest(paths: Sequence[Path], folder: Parts, scope_of: Callable[[Path], Parts]) -> list[Path]:
        """Keep the images in the nearest of ``folder`` and the folders above it; all for a file of the root.

        A bare name in one patient's folder never means another patient's image.
        """
        for length in range(len(folder), 0, -1):
            inside = [path for path in paths if scope_of(path) == folder[:length]]
            if inside:
                return inside
        return [] if folder else list(paths)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\\", "/"))


def _parts_of(path: Path) -> Parts:
    return tuple(unicodedata.normalize("NFC", part) for part in path.parts)


def _resolved(parts: Parts) -> Parts:
    """Return the parts without ``..``; those that lead above the first part are dropped."""
    result: list[str] = []
    for part in parts:
        if part != "..":
            result.append(part)
        elif result:
            result.pop()
    return tuple(result)


def _fold(parts: Parts) -> Parts:
    return tuple(part.casefold() for part in parts)


def _ends_with(parts: Parts, tail: Parts) -> bool:
    return _fold(parts[-len(tail) :]) == _fold(tail)
