"""Fields come back as they were written; what is no message ends in a word for it."""

import pytest

from marrowscope.networks.wire import Walker, WireError, signed
from tests.onnx_graphs import chunk, number


def test_fields_in_their_order() -> None:
    message = number(1, 300) + chunk(2, b"abc") + b"\x1d\x01\x02\x03\x04" + b"\x21" + bytes(8) + number(1, 1 << 62)
    found = [
        (field, value if isinstance(value, int) else bytes(value))
        for field, value in Walker().fields(memoryview(message))
    ]
    assert found == [(1, 300), (2, b"abc"), (3, b"\x01\x02\x03\x04"), (4, bytes(8)), (1, 1 << 62)]


def test_packed_and_negative_integers() -> None:
    assert Walker.varints(memoryview(b"\x01\xac\x02")) == [1, 300]
    assert signed((1 << 64) - 5) == -5
    assert signed(5) == 5


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (b"\x0a\x05ab", "an end in the middle of a field"),
        (b"\x0b", "a field of wire type 3"),
        (b"\x02\x00", "a field without a number"),
        (b"\x08" + b"\xff" * 11, "an integer without an end"),
        (b"\x08", "an integer without an end"),
    ],
)
def test_what_is_no_message(message: bytes, word: str) -> None:
    with pytest.raises(WireError, match=word):
        list(Walker().fields(memoryview(message)))
