"""Whatever one image raises becomes its own error, and no error is taken for another."""

from __future__ import annotations

import errno
import struct

import cv2
import pytest

from marrowscope.errors import ImageError, ScaleError
from marrowscope.imaging import decode_image, one_image, read_header
from tests.imaging.pictures import PICTURE, saved

KINDS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")


def no_memory(*_: object) -> None:
    error = cv2.error("OpenCV(5.0.0) error: (-4:Insufficient memory) Failed to allocate 9999 bytes")
    error.code = -4
    raise error


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), OverflowError(), struct.error("x"), RecursionError(), KeyError(3), cv2.error("bad")]
)
def test_any_error_of_a_decoder_is_the_images_own(error: Exception) -> None:
    with (
        pytest.raises(
            ImageError, match=rf"^p1/f: found a file that stops its decoder \({type(error).__name__}"
        ) as caught,
        one_image("p1/f"),
    ):
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.fault is not None
    assert caught.value.__cause__ is error


def test_errors_of_the_package_and_of_the_user_pass() -> None:
    for error in (ScaleError("no scale"), ImageError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, one_image("f"):
            raise error
        assert caught.value is error


def test_a_disk_that_fails_is_called_one() -> None:
    with (
        pytest.raises(
            ImageError, match=r"f: found no access \(Input/output error\), expected an image; check the file, its"
        ),
        one_image("f"),
    ):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["raises MemoryError", "raises its own error"])
def test_out_of_memory_is_never_called_damage(kind: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(PICTURE, kind)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", fail if how == "raises MemoryError" else no_memory)
    with pytest.raises(
        ImageError, match=r"^f: found too little memory, expected room for its pixels; give the process"
    ):
        decode_image(data, "f")


@pytest.mark.parametrize("kind", KINDS)
def test_silence_of_opencv_without_memory_is_not_called_damage(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(PICTURE, kind)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with pytest.raises(ImageError, match="bytes that do not decode"):
        decode_image(data, "f")

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("marrowscope.imaging.decode.np.empty", full)
    with pytest.raises(ImageError, match=r"^f: found too little memory"):
        decode_image(data, "f")


def test_error_of_a_header_reader_is_the_images_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.imaging.header.png.read_png", lambda _: int("nonsense"))
    with pytest.raises(ImageError, match=r"^f: found a file that stops its decoder \(ValueError: invalid literal"):
        read_header(saved(PICTURE, "PNG"), "f")
