"""JSON written piece by piece: a file of 100,000 cells is never a tree of lists in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from marrowscope.disk import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from marrowscope.records import JsonDict

_encode = json.JSONEncoder(ensure_ascii=False).encode


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write ``pieces`` one after the other to ``path``, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(pieces)


def object_with_list(members: JsonDict, key: str, items: Iterable[str]) -> Iterator[str]:
    """Return the JSON of an object that has ``members`` and, as its last one, the list ``items`` of JSON texts."""
    start = _encode(members)[:-1]
    yield f"{start}{', ' if members else ''}{_encode(key)}: "
    yield from list_of(items)
    yield "}"


def list_of(items: Iterable[str]) -> Iterator[str]:
    """Return the JSON of a list of JSON texts."""
    yield "["
    for number, item in enumerate(items):
        yield f", {item}" if number else item
    yield "]"


def json_text(value: object) -> str:
    """Return ``value`` as JSON in one line; floats keep all digits."""
    return _encode(value)
