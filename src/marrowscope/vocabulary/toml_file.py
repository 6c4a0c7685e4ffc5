"""Read the package's own kind of TOML file, and refuse with one sentence what does not fit."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from marrowscope.config import UNREADABLE, one_line
from marrowscope.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA_DIR = Path(__file__).parents[1] / "data"
SCHEMA_VERSION = 1
_MAX_SHOWN = 120


def read_document(path: Path) -> tuple[dict[str, Any], str]:
    """Return the content of a TOML file of this schema version, and the SHA-256 of its bytes."""
    try:
        data = path.read_bytes()
        document = tomllib.loads(data.decode("utf-8"))
    except (OSError, *UNREADABLE) as error:
        message = f"{path}: found no readable TOML file ({error}); correct the path or the file"
        raise VocabularyError(message) from error
    if document.get("schema_version") != SCHEMA_VERSION:
        refuse(str(path), f"schema_version {document.get('schema_version')!r}", str(SCHEMA_VERSION))
    return document, hashlib.sha256(data).hexdigest()


def require_keys(
    row: dict[str, Any], required: set[str], where: str, optional: set[str] | frozenset[str] = frozenset()
) -> None:
    """Refuse a row that lacks a required key or has one that is neither required nor optional."""
    missing = sorted(required - row.keys())
    if missing:
        refuse(where, f"no key {', '.join(missing)}", f"the keys {', '.join(sorted(required))}")
    unknown = sorted(row.keys() - required - optional)
    if unknown:
        refuse(where, f"unknown key {', '.join(unknown)}", f"only {', '.join(sorted(required | optional))}")


def require_text(row: dict[str, Any], keys: Iterable[str], where: str) -> None:
    """Refuse a row in which one of ``keys`` is no text or an empty one."""
    for key in keys:
        if not isinstance(row[key], str) or not row[key].strip():
            refuse(where, f"{key} = {row[key]!r}", "a text that is not empty")


def require_texts(row: dict[str, Any], keys: Iterable[str], where: str) -> None:
    """Refuse a row in which one of ``keys`` is no list of texts that are not empty."""
    for key in keys:
        texts = row[key]
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            refuse(where, f"{key} = {texts!r}"[:_MAX_SHOWN], "a list of texts that are not empty")


def require_rows(document: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """Return the tables of ``key``; refuse anything else."""
    rows = document[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        refuse(where, f"{key} = {rows!r}"[:_MAX_SHOWN], f"a [[{key}]] table for each")
    return list(rows)


def refuse(where: str, found: str, expected: str) -> NoReturn:
    """Raise VocabularyError: where, what was found, what was expected."""
    message = f"{where}: found {one_line(found)}, expected {one_line(expected)}; correct the file"
    raise VocabularyError(message)
