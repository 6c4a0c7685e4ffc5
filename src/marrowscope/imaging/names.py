"""Names that come from data: file names made of them, and paths that may be opened below a folder.

A patient id, a center or an image's name is text that anybody may have written. ``file_names`` turns such texts into
file names that every system can hold, ``path_below`` takes a relative path from a table, a bundle or a manifest and
refuses whatever leads out of its folder. Invariant: distinct texts give distinct names, also on a disk that does not
tell letter case or Unicode forms apart, and no name is a path.

It stands beside ``files.py``, which reads what a path names: every package that joins a path with data stands above.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

from marrowscope.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from marrowscope.errors import MarrowscopeError

MAX_NAME_BYTES = 200
"""Longest name that is made, in UTF-8: 255 is the limit of most disks, and ``.part`` and other suffixes come on top."""
_MAX_PART_BYTES = 255
_MAX_PLAIN = 60
_MAX_READABLE = 40
"""Characters of a changed name that are kept before its hash."""
_FEWEST_DIGITS = 10
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_UNPLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_FORBIDDEN = '/\\:*?"<>|'
_FLAGS = re.IGNORECASE | re.DOTALL
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³])\s*(\..*)?", _FLAGS)
"""Names of devices on Windows, with any suffix."""
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_DRIVE = re.compile(r"[A-Za-z]:")


def file_names(
    texts: Iterable[str],
    suffix: str = "",
    *,
    plain: bool = False,
    own_suffix: bool = False,
    nameless: str = "unnamed",
) -> dict[str, str]:
    """Return each of ``texts`` a file name that every system can hold and no other shares, ending in ``suffix``.

    A text that is such a name already keeps it. Any other, and one that differs from another only in letter case or
    Unicode form, becomes its readable part (``nameless`` where there is none) and a part of its SHA-256. With
    ``plain`` only ASCII letters, digits, ``-`` and ``_`` are kept, at most 60 of them: a link needs no escapes then.
    With ``own_suffix`` the texts are names of files: their suffixes stay, and the names differ without them too, so
    that another suffix can take their place.
    """
    texts = list(dict.fromkeys(texts))
    parts = {text: _split(text) if own_suffix else (text, suffix) for text in texts}
    changed = {text for text in texts if not _fits(*parts[text], plain=plain)}
    digits = _FEWEST_DIGITS
    while True:
        stems = {text: parts[text][0] for text in texts}
        for text in changed:
            digest = sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:digits]
            stems[text] = f"{_readable(stems[text], plain=plain) or nameless}-{digest}"
        taken = Counter(map(_folded, stems.values()))
        shared = {text for text in texts if taken[_folded(stems[text])] > 1}
        if not shared:
            return {text: f"{stems[text]}{parts[text][1]}" for text in texts}
        digits *= 1 if shared - changed else 2  # only a collision of shortened hashes needs longer ones
        changed |= shared


def is_folder_name(text: str) -> bool:
    """Say whether a folder that somebody made can have this name on every system; its Unicode form is free."""
    return _is_part(text) and len(text.encode(errors="surrogatepass")) <= _MAX_PART_BYTES


def path_below(
    root: Path, name: str, *, where: str, links: bool = False, error: type[MarrowscopeError] = InputError
) -> Path:
    """Return the path of ``name``, a relative path that data state, below ``root``; the file may be absent.

    Refused with ``error``, whose sentence begins with ``where``: an absolute path, ``..``, a drive letter, a path of
    another computer, a backslash, a control character, a device's name, a link that leads out of ``root``, and
    anything there that is neither file nor folder. ``links`` follows links: in a folder that is the user's own they
    are the user's too.
    """
    found = _leads_out(name)
    path = root / name if found is None else root
    if found is None:
        try:
            if not links and not path.resolve().is_relative_to(root.resolve()):
                found = "a link that leads out of the folder"
            elif path.exists() and not (path.is_file() or path.is_dir()):
                found = "a device or a pipe"
        except (OSError, RuntimeError):  # a name too long for the disk; a circle of links
            found = "a path that cannot be followed"
    if found is not None:
        message = f"{where}: found {_shown(name)}, {found}, expected a path inside {root}; do not use it"
        raise error(message)
    return path


def _leads_out(name: str) -> str | None:
    """Say what is wrong with a relative path as text, None where nothing is."""
    faults = {
        "an empty path": not name,
        "a path with control characters": not name.isprintable(),
        "a path with a backslash": "\\" in name,
        "a path with a drive letter": _DRIVE.match(name),
        "an absolute path": name.startswith("/"),
        "a path through the folder above": ".." in name.split("/"),
        "the name of a device": any(_RESERVED.fullmatch(part) for part in name.split("/")),
    }
    return next((found for found, is_so in faults.items() if is_so), None)


def _fits(stem: str, suffix: str, *, plain: bool) -> bool:
    if plain:
        return len(stem) <= _MAX_PLAIN and _PLAIN.fullmatch(stem) is not None and not _RESERVED.fullmatch(stem)
    is_whole = _is_part(stem) and unicodedata.normalize("NFC", stem) == stem
    return is_whole and len(f"{stem}{suffix}".encode(errors="surrogatepass")) <= MAX_NAME_BYTES


def _is_part(text: str) -> bool:
    """Say whether a text is one part of a path, whatever its length: not hidden, no device, nothing cut off its end."""
    if not text or not text.isprintable() or set(text) & set(_FORBIDDEN) or _RESERVED.fullmatch(text):
        return False
    return text.strip(" ") == text and text[0] != "." and text[-1] != "."


def _split(name: str) -> tuple[str, str]:
    """Split a file's name into stem and suffix; what looks like no suffix belongs to the stem."""
    stem, dot, end = name.rpartition(".")
    return (stem, dot + end) if stem and _SUFFIX.fullmatch(dot + end) else (name, "")


def _readable(stem: str, *, plain: bool) -> str:
    """Return the part of a text that a name can hold; empty where there is none."""
    if plain:
        kept = _UNPLAIN.sub("-", stem)
    else:
        form = unicodedata.normalize("NFC", stem)
        kept = "".join("-" if letter in _FORBIDDEN or not letter.isprintable() else letter for letter in form)
        kept = kept.replace(".", "-")  # a device's name before a dot stays a device
    return kept.strip("- ")[:_MAX_READABLE].strip("- ")


def _folded(name: str) -> str:
    """Return a name as a disk compares it that tells neither letter case nor Unicode forms apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _shown(name: str) -> str:
    return ascii(name) if not name.isprintable() else repr(name)
