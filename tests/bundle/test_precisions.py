"""Gates of a precision: what passes is what the changes say, and `auto` takes the fastest that passed."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.bundle import BundleSpec, load_bundle, write_bundle
from marrowscope.bundle.precisions import (
    CHOICES,
    CenterChange,
    PrecisionGate,
    by_network,
    choose_precision,
    networks_fingerprint,
    why_not,
)
from marrowscope.errors import BundleError, ConfigError
from marrowscope.networks import PRECISIONS
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
    *changes: CenterChange,
    files: dict[str, str] = FILES,
    **values: Any,  # noqa: ANN401 - whatever a gate takes
) -> PrecisionGate:
    centers = {f"center {index}": change for index, change in enumerate(changes or (make_change(),))}
    given: dict[str, Any] = {
        "passed": all(change.is_within(0.002) for change in centers.values()),
        "backend": "openvino",
        "device": "CPU",
        "measured_on": "100 cells of 3 patients",
        "input_sha256": "0",
        "networks_sha256": networks_fingerprint(files),
        "centers": centers,
    }
    return PrecisionGate(**(given | values))


FAILED = make_change(mae=0.003)
PASSED_GATE, FAILED_GATE = make_gate(), make_gate(FAILED)


@pytest.mark.parametrize(
    ("change", "passed", "shown"),
    [
        (-0.00197, True, "-0.00197"),
        (0.00204, False, "+0.00204"),
        (0.002, False, "+0.0020"),
        (-0.0004, True, "-0.0004"),
        (0.0019999, True, "+0.0019999"),
    ],
)
def test_a_change_is_never_printed_as_the_limit_that_it_is_not_at(change: float, *, passed: bool, shown: str) -> None:
    gate = make_gate(make_change(mae=change))
    assert gate.passed == passed
    assert gate.shown(change) == shown
    assert f"ratio MAE by up to {shown}, 0.002 is the limit" in gate.sentence()


@pytest.mark.parametrize(
    ("gates", "capabilities", "expected"),
    [
        ({}, ("f32", "bf16"), "f32"),
        ({"bf16": PASSED_GATE}, ("f32", "bf16"), "bf16"),
        ({"bf16": PASSED_GATE}, ("f32",), "f32"),
        ({"bf16": FAILED_GATE}, ("f32", "bf16"), "f32"),
        ({"bf16": PASSED_GATE, "bf16-segmenter": PASSED_GATE}, ("f32", "bf16"), "bf16"),
        ({"bf16": FAILED_GATE, "bf16-segmenter": PASSED_GATE}, ("f32", "bf16"), "bf16-segmenter"),
        ({"bf16-segmenter": PASSED_GATE}, ("f32", "bf16", "f16"), "bf16-segmenter"),
        ({"bf16-segmenter": PASSED_GATE}, ("f32", "f16"), "f32"),
        ({"bf16-segmenter": PASSED_GATE}, ("bf16",), "f32"),
        ({"bf16": FAILED_GATE, "bf16-segmenter": FAILED_GATE}, ("f32", "bf16"), "f32"),
        ({"bf16-segmenter": PASSED_GATE, "f16": PASSED_GATE}, ("f32", "bf16", "f16"), "bf16-segmenter"),
        ({"f16": PASSED_GATE}, ("f32", "f16"), "f16"),
    ],
)
def test_auto_is_the_fastest_precision_that_is_there_and_passed(
    gates: dict[str, PrecisionGate], capabilities: tuple[str, ...], expected: str
) -> None:
    assert choose_precision(gates, FILES, capabilities=capabilities) == expected


def test_each_choice_names_what_either_kind_of_network_is_computed_in() -> None:
    assert by_network("bf16-segmenter") == ("bf16", "f32")
    assert {name: by_network(name) for name in CHOICES if name != "bf16-segmenter"} == {
        name: (name, name) for name in PRECISIONS
    }
    assert {precision for name in CHOICES for precision in by_network(name)} == set(PRECISIONS)


def test_a_gate_measured_with_other_networks_does_not_count() -> None:
    for changed in ("classifier-0.onnx", "segmenter/segmenter.onnx"):
        gate = make_gate(files=FILES | {changed: "another"})
        assert (
            why_not("bf16", {"bf16": gate}, FILES, capabilities=("bf16",))
            == "its accuracy was measured with other networks"
        )


def test_a_quantized_graph_of_an_earlier_version_leaves_the_gate_of_bf16_as_it_is() -> None:
    assert why_not("bf16", {"bf16": PASSED_GATE}, QUANTIZED, capabilities=("bf16",)) == ""
    # The fingerprint by which those versions stored that gate: of both float graphs, not of the quantized one.
    lines = "classifier-0.onnx b\nsegmenter/segmenter.onnx a"
    assert networks_fingerprint(QUANTIZED) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_gate_measured_with_another_runtime_does_not_count() -> None:
    gates, here = {"bf16-segmenter": PASSED_GATE}, ("f32", "bf16")
    reason = why_not("bf16-segmenter", gates, FILES, capabilities=here, backend="onnxruntime")
    assert reason == "its accuracy was measured with openvino"
    assert why_not("bf16-segmenter", gates, FILES, capabilities=here, backend="openvino") == ""


def test_a_gate_measured_on_another_device_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    gates, here = {"bf16": PASSED_GATE}, ("f32", "bf16")
    reason = why_not("bf16", gates, FILES, capabilities=here, backend="openvino", device="gpu.0")
    assert reason == "its accuracy was measured on CPU"
    for device in ("auto", "cpu", "CPU", None):
        assert choose_precision(gates, FILES, capabilities=here, backend="openvino", device=device) == "bf16"
    assert choose_precision(gates, FILES, capabilities=here, backend="openvino", device="GPU") == "f32"
    card = {"bf16": make_gate(backend="onnxruntime", device="CUDA")}
    for devices, expected in ((("CPU", "CUDA"), "bf16"), (("CPU",), "f32")):
        monkeypatch.setattr("marrowscope.networks.runtimes.available_devices", lambda _, devices=devices: devices)
        chosen = choose_precision(card, FILES, capabilities=("bf16",), backend="onnxruntime", device="auto")
        assert chosen == expected


def test_a_failed_gate_says_by_how_much() -> None:
    reason = why_not("bf16", {"bf16": FAILED_GATE}, FILES, capabilities=("bf16",))
    assert "gate FAILED on 100 cells of 3 patients" in reason
    assert "ratio MAE by up to +0.0030" in reason


@pytest.mark.parametrize("f1", [0.002, -0.002, 0.01, math.nan])
def test_a_change_of_the_limit_or_of_no_number_does_not_pass(f1: float) -> None:
    assert not make_change(f1=f1).is_within(0.002)
    assert make_change(f1=0.00199).is_within(0.002)


def test_a_verdict_that_its_changes_contradict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found passed = true beside changes of which one is not below 0\.002"):
        make_gate(make_change(), FAILED, passed=True)
    with pytest.raises(ValueError, match=r"found passed = false beside changes of which none reaches 0\.002"):
        make_gate(passed=False)
    with pytest.raises(ValueError, match=r"less than or equal to 0\.002"):
        make_gate(max_change=0.01)


def _with_quantized(folder: Path) -> tuple[BundleSpec, dict[str, Path | bytes]]:
    """Give what a bundle of an earlier version holds that has a quantized graph, here no graph at all."""
    source = make_bundle(folder, n_members=2)
    files: dict[str, Path | bytes] = {name: source.folder / name for name in source.spec.files}
    return source.spec, files | {"classifier-0-int8.onnx": b"no graph", "segmenter/segmenter-int8.onnx": b"none either"}


def test_a_bundle_with_gates_round_trips(tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "first", n_members=2)
    files: dict[str, Path | bytes] = {name: source.folder / name for name in source.spec.files}
    hashes = dict(source.spec.files)
    undefined = make_gate(make_change(f1=math.nan), files=hashes)
    gates = {"bf16": undefined, "bf16-segmenter": make_gate(files=hashes)}
    write_bundle(tmp_path / "second", make_spec(precisions=gates), files)
    read = load_bundle(tmp_path / "second")
    assert "\n[precisions.bf16-segmenter]\n" in (tmp_path / "second" / "bundle.toml").read_text(encoding="utf-8")
    assert read.spec.precisions["bf16-segmenter"] == gates["bf16-segmenter"]
    assert math.isnan(read.spec.precisions["bf16"].centers["center 0"].cblc_weighted_f1_change)
    here = ("f32", "bf16")
    assert read.resolve_precision("auto", here) == "bf16-segmenter"
    assert read.resolve_precision("auto", ("f32",)) == "f32"
    assert read.resolve_precision("auto", here, backend="onnxruntime") == "f32"
    assert read.resolve_precision("auto", here, backend="openvino", device="GPU") == "f32"
    assert read.resolve_precision("bf16", here) == "bf16"  # asked for: needs no gate


def test_quantized_graphs_of_an_earlier_version_are_hashed_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, files = _with_quantized(tmp_path / "first")
    bundle = write_bundle(tmp_path / "second", spec, files)  # loads it: what is no graph is not looked through
    assert bundle.read_file("classifier-0-int8.onnx") == b"no graph"
    assert bundle.classifier_files == ("classifier-0.onnx", "classifier-1.onnx")
    opened: list[tuple[str, object]] = []
    monkeypatch.setattr(
        "marrowscope.bundle.bundle.open_network",
        lambda graph, _, __, precision, **___: opened.append((graph.path.name, precision)),
    )
    bundle.open_classifiers(precision="bf16")
    bundle.open_segmenter(precision="bf16")
    assert opened == [("classifier-0.onnx", "bf16"), ("classifier-1.onnx", "bf16"), ("segmenter.onnx", "bf16")]
    (bundle.folder / "classifier-0-int8.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"classifier-0-int8\.onnx: found SHA-256 \w+, expected"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("choice", "segmenter", "classifiers"),
    [("f32", "f32", "f32"), ("bf16", "bf16", "bf16"), ("bf16-segmenter", "bf16", "f32"), ("f16", "f16", "f16")],
)
def test_the_networks_are_opened_in_what_the_choice_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, segmenter: str, classifiers: str
) -> None:
    bundle = make_bundle(tmp_path / "bundle", n_members=2)
    opened: list[tuple[str, object]] = []
    monkeypatch.setattr(
        "marrowscope.bundle.bundle.open_network",
        lambda graph, _, __, precision, **___: opened.append((graph.path.name, precision)),
    )
    bundle.open_segmenter(precision=choice)
    bundle.open_classifiers(precision=choice)
    members = [("classifier-0.onnx", classifiers), ("classifier-1.onnx", classifiers)]
    assert opened == [("segmenter.onnx", segmenter), *members]


def test_a_precision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert bundle.resolve_precision("bf16", ("f32", "bf16")) == "bf16"
    assert bundle.resolve_precision("bf16-segmenter", ("f32", "bf16")) == "bf16-segmenter"
    for unknown in ("f8", "int8"):
        with pytest.raises(
            ConfigError, match=f"precision '{unknown}': expected auto or one of f32, bf16, bf16-segmenter, f16"
        ):
            bundle.resolve_precision(unknown, ("f32", "int8"))
    for choice in ("bf16", "bf16-segmenter"):
        with pytest.raises(
            ConfigError, match=f"precision '{choice}': the device here computes in f32; choose one of them or auto"
        ):
            bundle.resolve_precision(choice, ("f32",))
    with pytest.raises(ConfigError, match="computes in f32, bf16, bf16-segmenter; choose one of them or auto"):
        bundle.resolve_precision("f16", ("f32", "bf16"))
    with pytest.raises(ConfigError, match="precision 'bf16-segmenter': the device here computes in bf16; choose"):
        bundle.resolve_precision("bf16-segmenter", ("bf16",))


def test_a_gate_written_by_hand_against_its_changes_is_no_bundle(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", spec=make_spec(precisions={"bf16": FAILED_GATE}))
    path = bundle.folder / "bundle.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("passed = false", "passed = true"), encoding="utf-8")
    with pytest.raises(BundleError, match=r"\[precisions\.bf16\]: found passed = true beside changes"):
        load_bundle(bundle.folder)
