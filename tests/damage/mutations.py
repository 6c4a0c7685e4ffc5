"""Changes that a bad disk, copy, editor or program makes to files; all follow from a seed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import tomllib
import zipfile
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tests.imaging.mutations import _cut, _double, _flip_anywhere, _flip_early, _flip_late, _hole, _swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

_DEEP = 5000
_BYTES = (_cut, _flip_early, _flip_anywhere, _flip_late, _double, _hole, _swap)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**18, -(10**18), 2**63, 10**30, 0.5, -0.5, 1e308, math.nan, math.inf, -math.inf,
    "", " ", "1", "nan", "N", "\ud800", "a\nb", "a\0b", "../../x", "/", "\u202e\U0001f9ea", "x" * 3000,
    [], {}, [[]], [None], [1, 2], [[1, 2]], [[0, 0], [0, 0], [0, 0]], {"": 1}, {"a": {"b": [1]}},
)  # fmt: skip
"""Values of another type, outside every range, or that no program writes."""
_ODD_CELLS = (
    "", " ", "nan", "inf", "-1", "0", "1e999", "9" * 5000, "true", "0,15", "=1+1", "\u202e", "N", "P1", "P2", "p1",
    "P1 ", "..", "CON", "a/b", "\0", "\ufeff", '"', "x" * 140_000,
)  # fmt: skip


def damaged_bytes(data: bytes, rng: Generator) -> bytes:
    """Give ``data`` with one or two of its bytes' parts changed, whatever they mean."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        if len(changed) > 16:
            _BYTES[int(rng.integers(0, len(_BYTES)))](changed, rng)
    return bytes(changed)


def damaged_text(data: bytes, rng: Generator) -> bytes:
    """Give a text as another editor or copy leaves it: mark, line ends, encoding, empty, twice, endlessly nested."""
    text = data.decode()
    lines = text.splitlines(keepends=True)
    at = int(rng.integers(0, len(lines)))
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: b"\xef\xbb\xbf" + data,
        lambda: text.replace("\r\n", "\n").replace("\n", "\r\n").encode(),
        lambda: text.replace("\n", "\r").encode(),
        lambda: text.encode("utf-16"),
        lambda: text.encode().replace(b"1", b"\xed\xa0\x80", 1),
        lambda: b"",
        lambda: b"\n \n",
        lambda: data + data,
        lambda: b"[" * _DEEP + b"]" * _DEEP,
        lambda: b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
        lambda: b"a = " + b"[" * _DEEP + b"]" * _DEEP,
        lambda: "".join([*lines[:at], lines[at], *lines[at:]]).encode(),
        lambda: "".join([*lines[:at], *lines[at + 1 :]]).encode(),
        lambda: _more_digits(text, rng).encode(),
    )
    return ways[int(rng.integers(0, len(ways)))]()


def damaged_json(data: bytes, rng: Generator) -> bytes:
    """Give JSON whose form is right and whose content is not."""
    document = json.loads(data)
    for _ in range(int(rng.integers(1, 3))):
        document = _damage_tree(document, rng)
    text = json.dumps(document)
    if rng.random() < 0.1 and text.startswith("{"):
        text = f'{{"{rng.choice(list(document) or ["a"])}": 1, {text[1:]}'
    return text.encode()


def damaged_toml(data: bytes, rng: Generator) -> bytes:
    """Give TOML whose form is right and whose content is not."""
    document: dict[str, Any] = tomllib.loads(data.decode())
    for _ in range(int(rng.integers(1, 3))):
        changed = _damage_tree(document, rng)
        document = changed if isinstance(changed, dict) else document
    text = "".join(f"{_toml(str(key))} = {_toml(value)}\n" for key, value in document.items() if value is not None)
    return text.encode(errors="replace")


def damaged_csv(data: bytes, rng: Generator) -> bytes:
    """Give a table with cells, rows and columns changed, dropped, doubled or in another order."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(int(rng.integers(1, 4))):
        line = int(rng.integers(0, len(rows)))
        row = rows[line]
        at = int(rng.integers(0, len(row))) if row else 0
        way = int(rng.integers(0, 7))
        if way == 0 and row:
            row[at] = _ODD_CELLS[int(rng.integers(0, len(_ODD_CELLS)))]
        elif way == 1 and row:
            del row[at]
        elif way == 2:
            rows.insert(line, list(row))
        elif way == 3 and len(rows) > 1:
            del rows[line]
        elif way == 4 and row:
            for other in rows:
                del other[at : at + 1]
        elif way == 5:
            rng.shuffle(row)
        else:
            row.append("1")
    stream = io.StringIO()
    csv.writer(stream, delimiter=",;\t|"[int(rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))]).writerows(rows)
    return stream.getvalue().encode(errors="replace")


def damaged_rows(data: bytes, rng: Generator) -> bytes:
    """Give a Parquet table of the same columns and types with odd values in some of its cells."""
    return _parquet(data, rng, n_ways=4)


def damaged_table(data: bytes, rng: Generator) -> bytes:
    """Give a whole Parquet table with odd values, or columns dropped, doubled, renamed or of another type."""
    return _parquet(data, rng, n_ways=9)


def _parquet(data: bytes, rng: Generator, *, n_ways: int) -> bytes:
    table, metadata = pl.read_parquet(data), pl.read_parquet_metadata(io.BytesIO(data))
    metadata = {key: value for key, value in metadata.items() if key.startswith("marrowscope")}
    for _ in range(int(rng.integers(1, 3))):
        name, way = str(rng.choice(table.columns)), int(rng.integers(0, n_ways))
        at, other = (int(value) for value in rng.integers(0, max(1, len(table)), 2))
        if way <= 1 and len(table):
            values = table[name].to_list()
            values[at] = _odd_like(values[at], rng) if way else values[other]
            with contextlib.suppress(TypeError, pl.exceptions.PolarsError):  # a value that the column cannot hold
                table = table.with_columns(pl.Series(name, values, dtype=table.schema[name], strict=False))
        elif way == 2:
            table = pl.concat([table, table[at : at + 1]])
        elif way == 3:
            table = table[:at]
        elif way == 4 and table.width > 1:
            table = table.drop(name)
        elif way == 5:
            table = table.rename({name: f"{name}_"})
        elif way == 6:
            table = table.with_columns(pl.lit(ODD_VALUES[int(rng.choice([0, 1, 3, 11, 14, 17, 19]))]).alias(name))
        elif way == 7:
            key = str(rng.choice(sorted(metadata) or ["marrowscope_table"]))  # a crop set's table has no such key
            metadata[key] = str(rng.choice(["", "cells", "-1", "99", "3", "1e3", "\u0663"]))
        else:
            table = table.select(reversed(table.columns))
    stream = io.BytesIO()
    table.write_parquet(stream, metadata=metadata)
    return stream.getvalue()


def _odd_like(value: object, rng: Generator) -> object:  # noqa: PLR0911 - one line per type
    """Give another value of the same type, or none: negative, huge, NaN, empty, short, long."""
    pick = int(rng.integers(0, 7))
    if isinstance(value, bool):
        return (None, not value)[pick % 2]
    if isinstance(value, int):
        return (None, -1, 0, 2**62, -(2**62), value + 1, -value)[pick]
    if isinstance(value, float):
        return (None, math.nan, math.inf, -1.0, 1e300, 0.0, 1.5)[pick]
    if isinstance(value, str):
        return (None, "", "x", "a\nb\0", "<b>\u202e", "../..", value * 50)[pick]
    if isinstance(value, list):
        odd = [_odd_like(item, rng) for item in value[:1]]
        return (None, [], value[:-1], value * 2, [*value[1:], *odd], [None] * len(value), odd)[pick]
    if isinstance(value, dict):
        key = str(rng.choice(list(value)))
        return value | {key: _odd_like(value[key], rng)}
    return (1, -1, 0.5, "x", [], [1], None)[pick]


def damaged_arrays(data: bytes, rng: Generator) -> bytes:
    """Give an .npz that is whole, with one or two arrays of other values, another size or type, or none."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(sorted(arrays)))
        array, way = arrays[name], int(rng.integers(0, 8))
        if rng.random() < 0.1:
            return _claiming(arrays, name, int(rng.choice([2, 1000, 2**33, 2**62])))
        if way == 0 and len(arrays) > 1:
            del arrays[name]
        elif way == 1:
            arrays[name] = array[:0]
        elif way == 2:
            arrays[name] = array[..., :-1]
        elif way == 3:
            arrays[name] = array.astype(rng.choice(["float64", "int8", "float16", "bool"]))
        elif way == 4:
            arrays[name] = np.repeat(array, 2, axis=int(rng.integers(0, array.ndim)))
        elif way == 5 and array.dtype == np.float32 and array.size:
            arrays[name] = array.copy()
            arrays[name].flat[int(rng.integers(0, array.size))] = rng.choice([np.nan, np.inf, 1e30, -1.0])
        elif way == 6:
            arrays[name] = np.asfortranarray(array)
        else:
            arrays[name] = array.ravel()
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _claiming(arrays: dict[str, Any], name: str, times: int) -> bytes:
    """Give an .npz in which the header of one array claims so many times its data."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for other, array in arrays.items():
            shape = (array.shape[0] * times, *array.shape[1:]) if other == name else array.shape
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
            content = io.BytesIO()
            np.lib.format.write_array_header_1_0(content, header)
            archive.writestr(f"{other}.npy", content.getvalue() + array.tobytes())
    return stream.getvalue()


def damaged_tensors(data: bytes, rng: Generator) -> bytes:
    """Give safetensors whose header says something else than its bytes hold, or whose numbers are none."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    way = int(rng.integers(0, 4))
    if way == 0 and body:
        at = int(rng.integers(0, max(1, len(body) - 4)))
        body[at : at + 4] = np.array(rng.choice([np.nan, np.inf, 1e30, -1.0]), dtype="<f4").tobytes()
    elif way == 1 and "__metadata__" in header:
        name = str(rng.choice(sorted(header["__metadata__"])))
        header["__metadata__"][name] = damaged_json(header["__metadata__"][name].encode(), rng).decode(errors="replace")
    else:
        header = _damage_tree(header, rng)
    text = json.dumps(header).encode()
    if way == 3:
        size = int(rng.choice([0, len(text) - 1, len(text) + 1, 2**40, 2**63]))
        return size.to_bytes(8, "little") + text + bytes(body)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def damaged_graph(data: bytes, rng: Generator) -> bytes:
    """Give an ONNX graph with another word, number or byte in one or two places: most of its fields stay whole."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        at, way = int(rng.integers(0, len(changed))), int(rng.integers(0, 4))
        if way == 0:  # one letter of a name, an operator or an attribute
            letters = [place for place in range(len(changed)) if chr(changed[place]).isalpha() and changed[place] < 128]
            at = letters[int(rng.integers(0, len(letters)))]
            changed[at] = int(rng.integers(97, 123))
        elif way == 1:  # a small number: a size, an axis, a type
            small = [place for place in range(len(changed)) if changed[place] < 16]
            changed[small[int(rng.integers(0, len(small)))]] = int(rng.integers(0, 16))
        elif way == 2:
            changed[at : at + 4] = np.array(rng.choice([np.nan, np.inf, 1e30, -1.0]), dtype="<f4").tobytes()
        else:
            changed[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _damage_tree(document: Any, rng: Generator) -> Any:  # noqa: ANN401 - whatever a file holds
    """Change one place of a document, chosen evenly over its depths: drop, another value, doubled, renamed, nested."""
    holder, steps = document, int(rng.integers(0, 6))
    if not isinstance(document, dict | list) or not document:
        return _odd(rng)
    for _ in range(steps):
        inner = [value for value in _values(holder) if isinstance(value, dict | list) and value]
        if not inner:
            break
        holder = inner[int(rng.integers(0, len(inner)))]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = keys[int(rng.integers(0, len(keys)))]
    other = keys[int(rng.integers(0, len(keys)))]
    way = int(rng.integers(0, 8))
    if way == 0:
        del holder[key]
    elif way == 1:
        holder[key] = holder[other]
    elif way == 2 and isinstance(holder, list):
        holder.insert(other, holder[key])
    elif way == 3 and isinstance(holder, dict):
        holder[f"{key}\n"[: int(rng.integers(0, len(str(key)) + 2))]] = holder.pop(key)
    elif way == 4:
        holder[key] = [holder[key]]
    elif way == 5 and isinstance(holder[key], int | float | str):
        value = holder[key]
        holder[key] = -value if isinstance(value, int | float) else value * 2
    else:
        holder[key] = _odd(rng)
    return document


def _odd(rng: Generator) -> Any:  # noqa: ANN401 - any type
    return json.loads(json.dumps(ODD_VALUES[int(rng.integers(0, len(ODD_VALUES)))]))


def _values(holder: Any) -> list[Any]:  # noqa: ANN401 - dict or list
    return list(holder.values()) if isinstance(holder, dict) else list(holder)


def _more_digits(text: str, rng: Generator) -> str:
    places = [at for at, letter in enumerate(text) if letter.isdecimal()]
    if not places:
        return text
    at = places[int(rng.integers(0, len(places)))]
    return text[:at] + "9" * int(rng.choice([20, 400, 5000])) + text[at:]


def _toml(value: Any) -> str:  # noqa: ANN401 - one line per type
    """Write a value as TOML on one line; what TOML lacks becomes an empty text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return value.isoformat() if isinstance(value, date | datetime | time) else '""'


def generator(kind: str, seed: int) -> Generator:
    """Give the random numbers of a kind and a seed."""
    return np.random.default_rng([seed, *kind.encode()])
