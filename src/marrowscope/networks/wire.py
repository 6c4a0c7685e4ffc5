"""Protobuf's wire format, walked without a schema: field number and value, nothing copied.

Source of the format: https://protobuf.dev/programming-guides/encoding/. Groups, which ONNX never had, are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_MORE, _LOW_BITS, _MAX_SHIFT = 0x80, 0x7F, 63

MAX_FIELDS = 2_000_000
"""Fields walked in one file; the shipped graphs have 11,000 and 60,000."""


class WireError(ValueError):
    """Bytes that are no protobuf message; the text says what is wrong with them."""


class Walker:
    """Gives the fields of messages, and stops after MAX_FIELDS of them in all."""

    def __init__(self) -> None:
        self._n_left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Return (number, value) in the order of the bytes: an integer, or the bytes of text, data or a message.

        Raises WireError where the bytes end too early, are of a kind that ONNX does not use, or never end.
        """
        position, end = 0, len(message)
        while position < end:
            self._n_left -= 1
            if self._n_left < 0:
                error = f"more than {MAX_FIELDS} fields"
                raise WireError(error)
            tag, position = _varint(message, position)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, position = _varint(message, position)
                yield number, value
                continue
            if kind == _LENGTH:
                size, position = _varint(message, position)
            elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
                size = 8 if kind == _EIGHT_BYTES else 4
            else:
                error = f"a field of wire type {kind}"
                raise WireError(error)
            if number == 0 or position + size > end:
                error = "a field without a number" if number == 0 else "an end in the middle of a field"
                raise WireError(error)
            yield number, message[position : position + size]
            position += size

    @staticmethod
    def varints(packed: memoryview) -> list[int]:
        """Return the integers of a packed field, as they stand there: negative ones are above 2**63."""
        values, position = [], 0
        while position < len(packed):
            value, position = _varint(packed, position)
            values.append(value)
        return values


def signed(value: int) -> int:
    """Return the int64 that an integer of the wire stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read the integer at ``position``; gives it and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(message) or shift > _MAX_SHIFT:
            error = "an integer without an end"
            raise WireError(error)
        byte = message[position]
        position += 1
        value |= (byte & _LOW_BITS) << shift
        if byte < _MORE:
            return value & (1 << 64) - 1, position
        shift += 7
