"""Addresses of an object store among the paths of a call: told apart, read and written; nothing is opened here.

A path that went through ``Path`` has lost the second stroke of ``s3://bucket/folder``; both spellings are read.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from marrowscope.errors import InputError

SCHEME = "s3"
"""The one scheme that is read; others are refused by name."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)(.*)", re.DOTALL)
"""Two letters at least before the colon: one is a drive of Windows."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def address_of(path: PurePath | str) -> str | None:
    """Return the address that ``path`` is, None for a path of the file system.

    Raises InputError for another scheme than ``s3``, and for a bucket that has no bucket's name; what was given is not
    repeated then, because it may hold a password.
    """
    found = _ADDRESS.fullmatch(path.as_posix() if isinstance(path, PurePath) else path)
    if found is None:
        return None
    scheme, place = found[1], found[2].rstrip("/")
    if scheme != SCHEME:
        message = (
            f"found an address that begins with {scheme}://, expected {SCHEME}://BUCKET/FOLDER or a path; copy the "
            "files to a folder, or to a store that speaks S3"
        )
        raise InputError(message)
    if not _BUCKET.fullmatch(place.partition("/")[0]):
        message = (
            f"found an address whose first part is not the name of a bucket, expected {SCHEME}://BUCKET/FOLDER; keys "
            "and passwords belong into the environment or the files of the AWS tools"
        )
        raise InputError(message)
    return f"{SCHEME}://{place}"


def place_of(address: str) -> str:
    """Return bucket and key of an address, ``bucket/folder/file``, as the store's library names them."""
    return address.removeprefix(f"{SCHEME}://")


def at_place(place: str) -> str:
    """Return the address of ``bucket/folder/file``."""
    return f"{SCHEME}://{place}"
