"""Gates of a precision: what passes is what the changes say, and `auto` takes the fastest that passed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.bundle import BundleSpec, load_bundle, write_bundle
from marrowscope.bundle.precisions import (
    CenterChange,
    PrecisionGate,
    choose_precision,
    int8_name,
    networks_fingerprint,
    why_not,
)
from marrowscope.errors import BundleError, ConfigError
from tests.bundles import make_bundle, make_spec

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"segmenter/segmenter.onnx": "a", "classifier-0.onnx": "b", "CARD.md": "c"}
QUANTIZED = FILES | {"classifier-0-int8.onnx": "d"}


def make_change(f1: float = 0.0005, mae: float = -0.0004) -> CenterChange:
    return CenterChange(
        n_patients=3,
        n_cells=100,
        n_ratios=3,
        cblc_weighted_f1=0.9,
        cblc_weighted_f1_change=f1,
        cblc_weighted_f1_interval=(-0.001, 0.002),
        ratio_mae=0.05,
        ratio_mae_change=mae,
    )


def make_gate(
    precision: str,
    *changes: CenterChange,
    files: dict[str, str] = QUANTIZED,
    **values: Any,  # noqa: ANN401 - whatever a gate takes
) -> PrecisionGate:
    centers = {f"center {index}": change for index, change in enumerate(changes or (make_change(),))}
    given: dict[str, Any] = {
        "passed": all(change.is_within(0.002) for change in centers.values()),
        "backend": "openvino",
        "device": "CPU",
        "measured_on": "100 cells of 3 patients",
        "input_sha256": "0",
        "networks_sha256": networks_fingerprint(files, precision),
        "centers": centers,
    }
    return PrecisionGate(**(given | values))


FAILED = make_change(mae=0.003)
BF16, BF16_FAILED = make_gate("bf16"), make_gate("bf16", FAILED)
INT8, INT8_FAILED = make_gate("int8"), make_gate("int8", FAILED)


@pytest.mark.parametrize(
    ("gates", "capabilities", "files", "expected"),
    [
        ({}, ("f32", "bf16", "int8"), QUANTIZED, "f32"),
        ({"bf16": BF16}, ("f32", "bf16"), FILES, "bf16"),
        ({"bf16": BF16}, ("f32",), FILES, "f32"),
        ({"bf16": BF16_FAILED}, ("f32", "bf16"), FILES, "f32"),
        ({"bf16": BF16, "int8": INT8}, ("f32", "bf16", "int8"), QUANTIZED, "int8"),
        ({"bf16": BF16, "int8": INT8}, ("f32", "bf16"), QUANTIZED, "bf16"),
        ({"bf16": BF16, "int8": INT8}, ("f32", "int8"), FILES, "f32"),
        ({"bf16": BF16, "int8": INT8_FAILED}, ("f32", "bf16", "int8"), QUANTIZED, "bf16"),
        ({"f16": make_gate("f16")}, ("f32", "f16"), FILES, "f16"),
    ],
)
def test_auto_is_the_fastest_precision_that_is_there_and_passed(
    gates: dict[str, PrecisionGate], capabilities: tuple[str, ...], files: dict[str, str], expected: str
) -> None:
    assert choose_precision(gates, files, capabilities=capabilities) == expected


def test_a_gate_measured_with_other_networks_does_not_count() -> None:
    gate = make_gate("bf16", files=FILES | {"classifier-0.onnx": "another"})
    assert (
        why_not("bf16", {"bf16": gate}, FILES, capabilities=("bf16",))
        == "its accuracy was measured with other networks"
    )


def test_quantized_graphs_leave_the_gate_of_bf16_as_it_is() -> None:
    assert why_not("bf16", {"bf16": make_gate("bf16", files=FILES)}, QUANTIZED, capabilities=("bf16",)) == ""
    changed = QUANTIZED | {"classifier-0-int8.onnx": "another"}
    assert "other networks" in why_not("int8", {"int8": INT8}, changed, capabilities=("int8",))


def test_a_gate_measured_with_another_runtime_does_not_count() -> None:
    reason = why_not("int8", {"int8": INT8}, QUANTIZED, capabilities=("int8",), backend="onnxruntime")
    assert reason == "its accuracy was measured with openvino"
    assert why_not("int8", {"int8": INT8}, QUANTIZED, capabilities=("int8",), backend="openvino") == ""


def test_a_gate_measured_on_another_device_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    gates, here = {"bf16": BF16}, ("f32", "bf16")
    reason = why_not("bf16", gates, QUANTIZED, capabilities=here, backend="openvino", device="gpu.0")
    assert reason == "its accuracy was measured on CPU"
    for device in ("auto", "cpu", "CPU", None):
        assert choose_precision(gates, QUANTIZED, capabilities=here, backend="openvino", device=device) == "bf16"
    assert choose_precision(gates, QUANTIZED, capabilities=here, backend="openvino", device="GPU") == "f32"
    card = {"int8": make_gate("int8", backend="onnxruntime", device="CUDA")}
    for devices, expected in ((("CPU", "CUDA"), "int8"), (("CPU",), "f32")):
        monkeypatch.setattr("marrowscope.networks.runtimes.available_devices", lambda _, devices=devices: devices)
        chosen = choose_precision(card, QUANTIZED, capabilities=("int8",), backend="onnxruntime", device="auto")
        assert chosen == expected


def test_a_failed_gate_says_by_how_much() -> None:
    reason = why_not("bf16", {"bf16": BF16_FAILED}, FILES, capabilities=("bf16",))
    assert "gate FAILED on 100 cells of 3 patients" in reason
    assert "ratio MAE by up to +0.0030" in reason


@pytest.mark.parametrize("f1", [0.002, -0.002, 0.01, math.nan])
def test_a_change_of_the_limit_or_of_no_number_does_not_pass(f1: float) -> None:
    assert not make_change(f1=f1).is_within(0.002)
    assert make_change(f1=0.00199).is_within(0.002)


def test_a_verdict_that_its_changes_contradict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found passed = true beside changes of which one is not below 0\.002"):
        make_gate("bf16", make_change(), FAILED, passed=True)
    with pytest.raises(ValueError, match=r"found passed = false beside changes of which none reaches 0\.002"):
        make_gate("bf16", passed=False)
    with pytest.raises(ValueError, match=r"less than or equal to 0\.002"):
        make_gate("bf16", max_change=0.01)


def _with_int8(folder: Path) -> tuple[BundleSpec, dict[str, Path | bytes]]:
    source = make_bundle(folder, n_members=2)
    files: dict[str, Path | bytes] = {name: source.folder / name for name in source.spec.files}
    # Any other graph shows which one is opened.
    return source.spec, files | {"classifier-0-int8.onnx": source.folder / "classifier-1.onnx"}


def test_a_bundle_with_a_quantized_graph_and_gates_round_trips(tmp_path: Path) -> None:
    spec, files = _with_int8(tmp_path / "first")
    hashes = write_bundle(tmp_path / "hashes", spec, files).spec.files
    undefined = make_gate("int8", make_change(f1=math.nan), files=dict(hashes))
    gates = {"bf16": make_gate("bf16", files=dict(hashes)), "int8": undefined}
    written = write_bundle(tmp_path / "second", make_spec(precisions=gates), files)
    read = load_bundle(tmp_path / "second")
    assert read.spec.precisions["bf16"] == gates["bf16"]
    assert math.isnan(read.spec.precisions["int8"].centers["center 0"].cblc_weighted_f1_change)
    assert read.classifier_files == ("classifier-0.onnx", "classifier-1.onnx")
    assert "classifier-0-int8.onnx" in written.spec.files
    assert read.resolve_precision("auto", ("f32", "bf16", "int8")) == "bf16"
    assert read.resolve_precision("auto", ("f32", "bf16", "int8"), backend="onnxruntime") == "f32"
    assert read.resolve_precision("auto", ("f32", "bf16"), backend="openvino", device="GPU") == "f32"
    assert read.resolve_precision("int8", ("f32", "int8")) == "int8"  # asked for: needs no gate


def test_int8_opens_the_quantized_graph_and_the_float_one_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, files = _with_int8(tmp_path / "first")
    bundle = write_bundle(tmp_path / "second", spec, files)
    opened: list[str] = []
    monkeypatch.setattr(
        "marrowscope.bundle.bundle.open_network", lambda graph, *_, **__: opened.append(graph.path.name)
    )
    bundle.open_classifiers(precision="int8")
    bundle.open_segmenter(precision="int8")
    bundle.open_classifiers(precision="f32")
    assert opened == [
        "classifier-0-int8.onnx",
        "classifier-1.onnx",
        "segmenter.onnx",
        "classifier-0.onnx",
        "classifier-1.onnx",
    ]
    assert int8_name("segmenter/segmenter.onnx") == "segmenter/segmenter-int8.onnx"


def test_a_precision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert bundle.resolve_precision("bf16", ("f32", "bf16")) == "bf16"
    with pytest.raises(ConfigError, match="precision 'f8': expected auto or one of f32, bf16, f16, int8"):
        bundle.resolve_precision("f8", ("f32",))
    with pytest.raises(
        ConfigError, match="precision 'bf16': the device here computes in f32; choose one of them or auto"
    ):
        bundle.resolve_precision("bf16", ("f32",))
    with pytest.raises(ConfigError, match="precision 'int8': the bundle has no quantized graph"):
        bundle.resolve_precision("int8", ("f32", "int8"))


def test_a_gate_written_by_hand_against_its_changes_is_no_bundle(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", spec=make_spec(precisions={"bf16": BF16_FAILED}))
    path = bundle.folder / "bundle.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("passed = false", "passed = true"), encoding="utf-8")
    with pytest.raises(BundleError, match=r"\[precisions\.bf16\]: found passed = true beside changes"):
        load_bundle(bundle.folder)
