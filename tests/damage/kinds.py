"""One damaged file and what becomes of it: read right, named in a fault, refused in a sentence, or none of these.

A ``Kind`` is one kind of file: where a valid one lies, what is done to it, how it is read. Kind and seed give a damaged
file again. ``kinds`` writes a valid file of each kind; the modules ``*_kinds`` have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marrowscope.errors import MarrowscopeError
from tests.damage.mutations import damaged_bytes, damaged_text, generator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator

READ, REFUSED, TRACEBACK, WRONG = "read", "refused", "traceback", "wrong silently"
BESIDE = ("manifest.json", "bundle.toml")
"""Files that state the hash of others: put back with the damaged one."""
_LONGEST = 300


@dataclass(frozen=True)
class Kind:
    """One kind of file; ``read`` gives whether the result is right.

    ``after`` is called once the file is damaged; ``every`` is how many seeds pass between two that are tried.
    """

    name: str
    path: Path
    structural: Callable[[bytes, Generator], bytes]
    read: Callable[[bytes], bool]
    after: Callable[[bytes], None] = lambda _: None
    is_text: bool = True
    every: int = 1


def judge(kind: Kind, seed: int) -> tuple[str, str]:
    """Damage a file, read it and put it back; gives READ, REFUSED, TRACEBACK or WRONG, and why."""
    valid, rng = kind.path.read_bytes(), generator(kind.name, seed)
    ways = [damaged_bytes, kind.structural, kind.structural, *([damaged_text] if kind.is_text else [])]
    data = ways[int(rng.integers(0, len(ways)))](valid, rng)
    beside = {path: path.read_bytes() for name in BESIDE if (path := kind.path.parent / name).is_file()}
    try:
        kind.path.write_bytes(data)
        kind.after(data)
        return (READ, "") if kind.read(data) else (WRONG, "")
    except MarrowscopeError as error:
        return (REFUSED, "") if is_sentence(str(error)) else (TRACEBACK, f"no sentence: {str(error)[:_LONGEST]!r}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return TRACEBACK, f"{type(error).__name__}: {str(error)[:_LONGEST]!r}"
    except BaseException as error:  # polars panics outside Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return TRACEBACK, f"{type(error).__name__}: {str(error)[:_LONGEST]!r}"
    finally:
        for path, content in {kind.path: valid, **beside}.items():
            path.write_bytes(content)


def is_sentence(text: str) -> bool:
    """Say whether a message can be printed on one line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text.strip()) and len(text.splitlines()) == 1


def is_finite(value: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    """Say whether every number in a document is finite."""
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
