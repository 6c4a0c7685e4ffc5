"""Named arrays from the bytes of an .npz, every size known to be right before anything is unpacked.

An .npz is a ZIP archive of .npy files. A small one can unpack to any size, and NumPy makes room for whatever the header
of an array claims: so the archive's directory and each header are held against what is expected, and then the data are
read, no further than that.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MAX_BYTES = 1 << 28
"""Size of all arrays together, unpacked; the golden sample of a large ensemble has some megabytes."""
_MAX_HEADER = 10_000
_DAMAGE = (
    OSError, EOFError, KeyError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    SyntaxError, tokenize.TokenError,
)  # fmt: skip
"""What the readers of archives and headers raise for bytes that are wrong."""
_SUFFIX = ".npy"


@dataclass(frozen=True, slots=True)
class Expected:
    """An array that has to be there: its type, and its sizes, None where any will do."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Return it as in a sentence: ``uint8 (n, 96, 96, 3)``."""
        return f"{self.dtype} ({', '.join('n' if size is None else str(size) for size in self.shape)})"

    def fits(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bool:
        """Say whether an array of this type and shape is the expected one."""
        same = len(shape) == len(self.shape) and all(
            wanted in (None, size) for size, wanted in zip(shape, self.shape, strict=True)
        )
        return same and dtype == np.dtype(self.dtype)


def read_arrays(
    data: bytes, path: Path, expected: Mapping[str, Expected], *, what: str = "golden sample"
) -> dict[str, NDArray[np.generic]]:
    """Read the ``expected`` arrays out of ``data``, the content of ``path``; others in it are left alone.

    ``what`` names the file's content in the error.

    Raises BundleError, one sentence, for an archive that is damaged, lacks one or holds one of another type or size.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = {entry.filename.removesuffix(_SUFFIX): entry.file_size for entry in archive.infolist()}
            if missing := expected.keys() - sizes.keys():
                _refuse(path, f"no {', '.join(sorted(missing))}", "them in it")
            if (total := sum(sizes[name] for name in expected)) > MAX_BYTES:
                _refuse(path, f"{total:,} bytes of arrays", f"at most {MAX_BYTES:,}")
            arrays = {}
            for name, wanted in expected.items():
                with archive.open(name + _SUFFIX) as stream:
                    arrays[name] = _read_array(stream, sizes[name], wanted, f"{path}, {name}")
            return arrays
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{path}: no readable {what} ({reason}); export the bundle again"
        raise BundleError(message) from error


def _read_array(stream: IO[bytes], size: int, wanted: Expected, where: str) -> NDArray[np.generic]:
    """Read one .npy of ``size`` bytes; a header that asks for objects is of another type than expected."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream, max_header_size=_MAX_HEADER)
    if not wanted.fits(dtype, shape):
        _refuse(where, f"{dtype} {shape}", str(wanted))
    n_bytes = math.prod(shape) * dtype.itemsize
    content = stream.read(n_bytes + 1)
    if len(content) != n_bytes or stream.tell() != size:
        _refuse(where, f"{len(content):,} bytes of data", f"{n_bytes:,}")
    array = np.frombuffer(content, dtype=dtype)
    array = array.reshape(shape, order="F" if is_fortran else "C")
    if not np.isfinite(array).all():
        _refuse(where, "values that are not finite", "numbers")
    return array


def _refuse(where: object, found: str, expected: str) -> None:
    message = f"{where}: found {found}, expected {expected}; export the bundle again"
    raise BundleError(message)
