"""A bundle: its description, error rates, golden sample and graphs; a graph that loads is run on the golden sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from marrowscope.bundle import SPEC_NAME, load_bundle, write_bundle
from marrowscope.bundle.bundle import GOLDEN_FILE
from marrowscope.bundle.golden import check_golden
from marrowscope.disk import write_text
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_bytes, sha256_file
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE, Quantification
from tests import bundles
from tests.damage.kinds import Kind, is_finite
from tests.damage.mutations import damaged_arrays, damaged_bytes, damaged_graph, damaged_json, damaged_toml
from tests.patient.quantify.patients import N5, N, make_rates
from tests.patient.test_assess import THRESHOLD, assess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_GRAPHS = ("classifier-0.onnx", "segmenter/segmenter.onnx")


def bundle_kinds(root: Path) -> list[Kind]:
    """Write a bundle of constant graphs with error rates."""
    folder = root / "bundle"
    small = bundles.make_bundle(root / "small", n_members=2)
    measured = Quantification(source="a test", rates=make_rates({N: 0.9, N5: 0.05}, spread=0.01), threshold=THRESHOLD)
    files = {name: small.folder / name for name in small.spec.files} | {QUANTIFICATION_FILE: measured.as_json()}
    write_bundle(folder, small.spec, files)
    spec = folder / SPEC_NAME
    names = (GOLDEN_FILE, QUANTIFICATION_FILE, *_GRAPHS)
    valid = {name: sha256_file(folder / name) for name in names}

    def loads(_: bytes) -> bool:
        load_bundle(folder)
        return all(sha256_file(folder / name) == valid[name] for name in names)

    def rates_are_read(_: bytes) -> bool:
        found = load_bundle(folder).quantification
        return found is not None and is_finite(found.model_dump(mode="json"))

    def ratio_is_corrected(_: bytes) -> bool:
        row = assess({"P": (150, 150, 5)}, load_bundle(folder).quantification).row(0, named=True)
        ratios = [row["corrected_lower"], row["corrected_ratio"], row["corrected_upper"]]
        return ratios == [None] * 3 or (None not in ratios and 0 <= ratios[0] <= ratios[1] <= ratios[2] <= 1)

    def runs_on(backend: str) -> Callable[[bytes], bool]:
        return lambda _: _passes(folder, backend)

    def restate(name: str) -> Callable[[bytes], None]:
        return lambda data: write_text(spec, spec.read_text().replace(valid[name], sha256_bytes(data)))

    made = [Kind("bundle.toml", spec, damaged_toml, loads)]
    for name in names:
        title = f"bundle {name.rpartition('/')[2]}, hash wrong"
        made.append(Kind(title, folder / name, damaged_bytes, loads, is_text=False, every=8))
    rates, golden = folder / QUANTIFICATION_FILE, folder / GOLDEN_FILE
    after = restate(QUANTIFICATION_FILE)
    made += [
        Kind("bundle quantification.json", rates, damaged_json, rates_are_read, after),
        Kind("bundle quantification.json, used", rates, damaged_json, ratio_is_corrected, after, every=4),
        Kind(
            "bundle golden.npz",
            golden,
            damaged_arrays,
            runs_on("onnxruntime"),
            restate(GOLDEN_FILE),
            is_text=False,
            every=4,
        ),
    ]
    for name in _GRAPHS:
        short, path, after = name.rpartition("/")[2], folder / name, restate(name)
        made += [
            Kind(f"bundle {short}, run", path, damaged_graph, runs_on("onnxruntime"), after, is_text=False, every=2),
            Kind(f"bundle {short}, openvino", path, damaged_graph, runs_on("openvino"), after, is_text=False, every=8),
        ]
    return made


def _passes(folder: Path, backend: str) -> bool:
    """Run the golden sample as doctor does, in this process; a failure is a sentence there."""
    result = check_golden(load_bundle(folder), backend)
    if not result.passed:
        raise BundleError(result.sentence())
    return all(map(math.isfinite, result.differences.values()))
