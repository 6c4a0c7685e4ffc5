"""Archives of arrays: nothing is unpacked or made room for before its size is known to be right."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from marrowscope.bundle.arrays import Expected, read_arrays
from marrowscope.errors import BundleError

PATH = Path("golden.npz")
WANTED = {"a": Expected("float32", (None, 3))}
GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(shape: str, data: bytes, dtype: str = "<f4") -> bytes:
    """Give an array file whose header claims ``shape``, whatever its data are."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(content: bytes, name: str = "a.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr(name, content)
    return buffer.getvalue()


def test_what_was_saved_is_read() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.asfortranarray(GOOD), more=np.ones(3))
    found = read_arrays(buffer.getvalue(), PATH, WANTED)
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], GOOD)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npy("(1000000000000, 3)", GOOD.tobytes()), r"golden\.npz, a: found 24 bytes of data, expected 12,000,000,0"),
        (npy("(2, 3)", GOOD.tobytes() + b"more"), r"golden\.npz, a: found 25 bytes of data, expected 24"),
        (npy("(2, 3)", GOOD.tobytes()[:-4]), r"golden\.npz, a: found 20 bytes of data, expected 24"),
        (npy("(2, 4)", bytes(32)), r"a: found float32 \(2, 4\), expected float32 \(n, 3\); export the bundle again"),
        (npy("((2, 3", GOOD.tobytes()), r"golden\.npz: no readable golden sample \(.*\); export the bundle again"),
        (npy("(6,)", GOOD.tobytes()), r"a: found float32 \(6,\), expected float32 \(n, 3\)"),
        (npy("(2, 3)", bytes(48), "<f8"), r"a: found float64 \(2, 3\), expected float32 \(n, 3\)"),
        (npy("(2, 3)", b"\x80\x04N.", "|O"), r"a: found object \(2, 3\), expected float32 \(n, 3\)"),
        (npy("(1, 3)", struct.pack("<3f", 1, float("nan"), 2)), "a: found values that are not finite"),
        (npy("(1, 3)", struct.pack("<3f", 1, float("inf"), 2)), "a: found values that are not finite"),
        (b"\x93NUMPY\x01\x00\xff", "no readable golden sample"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "no readable golden sample"),
        (b"", "no readable golden sample"),
    ],
)  # fmt: skip
def test_a_wrong_array_is_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        read_arrays(archive(content), PATH, WANTED)


def test_a_small_archive_of_a_large_array_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    large = archive(npy("(100000000, 3)", bytes(1 << 20)))
    monkeypatch.setattr("marrowscope.bundle.arrays.MAX_BYTES", 1 << 19)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(BundleError, match=r"found 1,048,704 bytes of arrays, expected at most 524,288"):
        read_arrays(large, PATH, WANTED)


def test_damage_anywhere_is_read_or_refused() -> None:
    content = archive(npy("(2, 3)", GOOD.tobytes()))
    rng = np.random.default_rng(3)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        for damaged in (content[:at], bytes(changed)):
            try:
                np.testing.assert_array_equal(read_arrays(damaged, PATH, WANTED)["a"], GOOD)
            except BundleError:
                continue
