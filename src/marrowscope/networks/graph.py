"""What an ONNX file holds, read from its bytes before a runtime sees them.

A graph of a bundle is data from outside. A runtime that is given its path may read other files that the graph names
(external data), and runs whatever it says. So the file is read once, its hash checked, its content looked through, and
a runtime is given these bytes alone. Refused: what reads other files, what runs code of others (custom operators), what
may never end (loops, bodies), what answers otherwise each time (random numbers), and sizes that no graph here has.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. The base installation has no package for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_bytes
from marrowscope.networks.wire import Walker, WireError, signed
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Size of a file; an ensemble's members have 16 MB each, the largest segmenter of the family 250 MB."""
MAX_NODES = 100_000
MAX_ELEMENTS = 1 << 28
"""Values that a constant may ask for, as the shape of something the graph makes: 1 GB in float32."""
MAX_ATTRIBUTE = 1 << 16
"""Padding, stride or kernel of a layer in pixels."""
FLOAT = 1
"""The element type of every input and output."""

# Known fields of each message: a newer kind of graph may name files in ways that nobody here has looked at.
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14})
_GRAPH_FIELDS = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 16})
_NODE_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9})
_ATTRIBUTE_FIELDS = frozenset({1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 20})
_TENSOR_FIELDS = frozenset({1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 16})
_IN_WORDS = {
    ("model", 20): "a training, not a network alone",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a graph inside a node",
    ("attribute", 11): "graphs inside a node",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 3): "a tensor in segments",
    ("tensor", 6): "a tensor of texts",
    ("tensor", 13): "external data, a tensor in another file",
    ("tensor", 14): "external data, a tensor in another file",
}
_ENDLESS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_PLAIN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_MICROSOFT = "com.microsoft"
_MICROSOFT_OPERATORS = frozenset(
    {
        "Attention", "BiasGelu", "BiasSoftmax", "ConvTransposeWithDynamicPads", "DequantizeLinear",
        "DynamicQuantizeMatMul", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "MatMulInteger16",
        "MatMulIntegerToFloat", "MatMulNBits", "MultiHeadAttention", "NhwcMaxPool", "Pad", "QAttention", "QGemm",
        "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool",
        "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere",
        "QuantizeLinear", "QuickGelu", "SkipLayerNormalization",
    }
)  # fmt: skip
"""Fused and quantized layers of ONNX Runtime. Others of that domain read files (EPContext) or search without end."""
_SIZES_AT: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,), "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1),
    "Resize": (2, 3), "Tile": (1,), "Upsample": (1,),
}  # fmt: skip
"""Operators that make more than they are given, and which of their inputs say how much."""
_LAYERS = frozenset(
    {"AveragePool", "Conv", "ConvInteger", "ConvTranspose", "FusedConv", "LpPool", "MaxPool", "Pad", "QLinearConv"}
)
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16} | {
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4,
}  # fmt: skip
"""Element type to bits of one value."""
_FEW_OF = {FLOAT: "<f4", 7: "<i8"}
_FEW = 16
"""Values of a constant that may be a size."""
_INT64_DATA, _RAW_DATA = 7, 9


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output as the graph declares it: name, element type, and sizes, None where one is open."""

    name: str
    element_type: int
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Return it as in a sentence: ``p_cblc (n, 2)``."""
        sizes = ", ".join("n" if size is None else str(size) for size in self.shape)
        kind = "" if self.element_type == FLOAT else f" of type {self.element_type}"
        return f"{self.name} ({sizes}){kind}"


@dataclass(frozen=True, slots=True)
class Graph:
    """A file of which every byte was looked at: a runtime is given ``data``, never ``path``, which only names it."""

    path: Path
    data: bytes = field(repr=False)
    sha256: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_graph(path: Path, sha256: str | None = None) -> Graph:
    """Read an ONNX file once, check its hash where one is given, and what it holds.

    Raises BundleError, one sentence, for what is no such file, has another hash, or holds what is refused.
    """
    if not path.is_file():
        message = f"{path}: not found, expected an ONNX graph; check the bundle"
        raise BundleError(message)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        raise BundleError(message) from error
    if size > MAX_BYTES:
        _refuse(path, f"{size:,} bytes", f"at most {MAX_BYTES:,}")
    found = sha256_bytes(data)
    if sha256 is not None and found != sha256:
        message = f"{path}: found SHA-256 {found}, expected {sha256}; the file was changed, copy the bundle again"
        raise BundleError(message)
    inspector = _Inspector(path)
    try:
        inspector.model(memoryview(data))
    except (WireError, UnicodeDecodeError) as error:
        message = f"{path}: found {_what(error)}, expected an ONNX graph; export it again"
        raise BundleError(message) from error
    # Graphs of older versions list their weights among the inputs.
    inputs = tuple(port for port in inspector.inputs if port.name not in inspector.initializers)
    return Graph(path, data, found, inputs, tuple(inspector.outputs))


@dataclass(slots=True)
class _Tensor:
    """What is gathered of a tensor: its values stand in one field of bytes, or in one for their type."""

    name: str = ""
    kind: int = 0
    sizes: list[int] = field(default_factory=list)
    n_bytes: int = 0
    is_raw: bool = False
    values: memoryview = field(default_factory=lambda: memoryview(b""))
    numbers: list[int] = field(default_factory=list)

    def add(self, number: int, value: int | memoryview) -> None:
        """Add what stands in field ``number``; integers are read only while they are few."""
        self.is_raw = self.is_raw or number == _RAW_DATA
        self.n_bytes += 1 if isinstance(value, int) else len(value)
        if number == _INT64_DATA and self.n_bytes <= 10 * _FEW:  # one has up to ten bytes
            self.numbers += _integers(value)
        elif not isinstance(value, int):
            self.values = value

    def is_whole(self) -> bool:
        """Say whether there are as many values as the sizes say; of integers, at least that many bytes."""
        count = math.prod(self.sizes)
        held = (count * _BITS[self.kind] + 7) // 8 == self.n_bytes if self.is_raw else count <= self.n_bytes
        return held and all(size >= 0 for size in self.sizes)

    def few(self) -> list[float]:
        """Return the values where they are few, whole numbers or float32; else nothing."""
        count, dtype = math.prod(self.sizes), _FEW_OF.get(self.kind)
        if count > _FEW:
            return []
        if self.numbers:
            return [float(number) for number in self.numbers]
        if dtype is None or len(self.values) != count * np.dtype(dtype).itemsize:
            return []
        return [float(value) for value in np.frombuffer(self.values, dtype)]


class _Inspector:
    """Walks through one file; what it may not hold is refused where it is met."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fields = Walker().fields
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.initializers: set[str] = set()
        self._few: dict[str, list[float]] = {}
        self._sizes: list[tuple[str, str]] = []  # operator that takes a size, name of the value that states it
        self._n_nodes = 0

    def model(self, data: memoryview) -> None:
        # Writers begin with the version; a file of another format that some runtime takes as well does not.
        if bytes(data[:1]) != b"\x08" or bytes(data[4:8]) in {b"ORTM", b"TFL3"}:
            error = "another kind of file"
            raise WireError(error)
        graphs = 0
        for number, value in self._known("model", data, _MODEL_FIELDS):
            if number == 7:  # noqa: PLR2004 - field numbers stand in onnx.proto
                graphs += 1
                self._graph(_message(value))
        if graphs != 1:
            error = f"{count_of(graphs, 'graph')} in it"
            raise WireError(error)
        for operator, name in self._sizes:
            asked = math.prod(max(1.0, abs(value)) for value in self._few.get(name, []))
            if not asked <= MAX_ELEMENTS:
                _refuse(self._path, f"{operator} asked for {asked:.3g} values", f"at most {MAX_ELEMENTS:,}")

    def _graph(self, data: memoryview) -> None:
        for number, value in self._known("graph", data, _GRAPH_FIELDS):
            match number:
                case 1:
                    self._node(_message(value))
                case 5:
                    name, values = self._tensor(_message(value))
                    self.initializers.add(name)
                    self._few[name] = values
                case 11 | 12:
                    (self.inputs if number == 11 else self.outputs).append(self._port(_message(value)))  # noqa: PLR2004

    def _node(self, data: memoryview) -> None:
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES:
            _refuse(self._path, f"more than {MAX_NODES:,} nodes", "fewer")
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: list[memoryview] = []
        operator = domain = ""
        for number, value in self._known("node", data, _NODE_FIELDS):
            match number:
                case 1:
                    inputs.append(_text(value))
                case 2:
                    outputs.append(_text(value))
                case 4:
                    operator = _text(value)
                case 5:
                    attributes.append(_message(value))
                case 7:
                    domain = _text(value)
        self._operator(operator, domain)
        made = [number for item in attributes for number in self._attribute(operator, item)]
        if operator == "Constant" and outputs:
            self._few[outputs[0]] = made
        self._sizes += [(operator, inputs[at]) for at in _SIZES_AT.get(operator, ()) if at < len(inputs)]

    def _operator(self, operator: str, domain: str) -> None:
        if domain not in _PLAIN_DOMAINS and not (domain == _MICROSOFT and operator in _MICROSOFT_OPERATORS):
            _refuse(self._path, f"the custom operator {operator!r} of {domain!r}", "operators of ONNX alone")
        if operator in _ENDLESS:
            _refuse(self._path, f"{operator}, which may run without end", "a graph without loops and branches")
        if operator in _RANDOM:
            _refuse(self._path, f"{operator}, which gives another answer each time", "the same answer each time")

    def _attribute(self, operator: str, data: memoryview) -> list[float]:
        """Check one attribute; gives the few numbers in it, which a Constant hands on."""
        numbers: list[float] = []
        for number, value in self._known("attribute", data, _ATTRIBUTE_FIELDS):
            match number:
                case 3:
                    numbers.append(signed(_number(value)))
                case 5 | 10:
                    numbers += self._tensor(_message(value))[1]
                case 8:
                    numbers += _integers(value)
                    if operator in _LAYERS and (worst := max(map(abs, numbers), default=0)) > MAX_ATTRIBUTE:
                        _refuse(self._path, f"{operator} with a size of {worst:,}", f"at most {MAX_ATTRIBUTE:,}")
        return numbers

    def _tensor(self, data: memoryview) -> tuple[str, list[float]]:
        """Check that a tensor's values are here and as many as its sizes say; gives its name and values, if few."""
        found = _Tensor()
        for number, value in self._known("tensor", data, _TENSOR_FIELDS):
            match number:
                case 1:
                    found.sizes += _integers(value)
                case 2:
                    found.kind = _number(value)
                case 8:
                    found.name = _text(value)
                case 4 | 5 | 7 | 9 | 10 | 11:
                    found.add(number, value)
        if found.kind not in _BITS:
            _refuse(self._path, f"the tensor {found.name!r} of type {found.kind}", "numbers")
        if not found.is_whole():
            stated = " x ".join(map(str, found.sizes)) or "1"
            held = f"the tensor {found.name!r} of {stated} values in {found.n_bytes:,} bytes"
            _refuse(self._path, held, "as many as it states")
        return found.name, found.few()

    def _port(self, data: memoryview) -> Port:
        """Read a declared input or output: ValueInfoProto, TypeProto, TypeProto.Tensor, TensorShapeProto."""
        name, kind, shape = "", 0, []
        for number, value in self._fields(data):
            if number == 1:
                name = _text(value)
            for tensor in self._inner(value, 1) if number == 2 else ():  # noqa: PLR2004
                for inner, content in self._fields(tensor):
                    if inner == 1:
                        kind = _number(content)
                    for size in self._inner(content, 1) if inner == 2 else ():  # noqa: PLR2004
                        stated = [signed(_number(entry)) for place, entry in self._fields(size) if place == 1]
                        shape.append(stated[-1] if stated else None)
        return Port(name, kind, tuple(shape))

    def _inner(self, value: int | memoryview, number: int) -> list[memoryview]:
        """Return the messages in field ``number`` of a message."""
        return [_message(content) for place, content in self._fields(_message(value)) if place == number]

    def _known(self, kind: str, data: memoryview, known: frozenset[int]) -> list[tuple[int, int | memoryview]]:
        """Return the fields of a message; one that is not known is refused."""
        fields = list(self._fields(data))
        for number, value in fields:
            # The place of a tensor's data is written out by some: 0, in this file.
            if number not in known and not (kind == "tensor" and number == 14 and value == 0):  # noqa: PLR2004
                found = _IN_WORDS.get((kind, number), f"field {number} of a {kind}, which is not known here")
                _refuse(self._path, found, "a graph that stands alone")
        return fields


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        error = "a number in place of a message"
        raise WireError(error)
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        error = "a text in place of a number"
        raise WireError(error)
    return value


def _integers(value: int | memoryview) -> list[int]:
    """Return the integers of a repeated field, packed or each for itself."""
    return [signed(item) for item in ([value] if isinstance(value, int) else Walker.varints(value))]


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8")


def _what(error: Exception) -> str:
    return "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _refuse(path: Path, found: str, expected: str) -> NoReturn:
    message = f"{path}: found {found}, expected {expected}; do not use the graph, export it again"
    raise BundleError(message)
