"""The doctor tells a healthy installation from one that must not be trusted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marrowscope.bundle import Bundle, write_bundle
from marrowscope.bundle.golden import check_golden
from marrowscope.cli.main import app
from marrowscope.doctor import choose, examine
from marrowscope.errors import BundleError
from marrowscope.networks import Graph, Network, open_network
from tests.bundle.test_precisions import FAILED, make_change, make_gate
from tests.bundles import make_bundle
from tests.onnx_graphs import classifier_graph


@pytest.fixture(autouse=True)
def _golden_samples_run_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run them in this process, where ``own_process`` is not asked for: another one imports everything anew."""
    if "own_process" not in request.fixturenames:
        monkeypatch.setattr("marrowscope.doctor.check_golden_apart", check_golden)


@pytest.fixture
def own_process() -> None:
    """Ask for golden samples as the doctor runs them."""


@pytest.fixture
def wrong_bundle(tmp_path: Path) -> Path:
    """Give a bundle with right hashes whose network is not the one the golden sample was made with."""
    bundle = make_bundle(tmp_path / "bundle")
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.spec.files}
    return write_bundle(tmp_path / "wrong", bundle.spec, files | {"classifier-0.onnx": classifier_graph(seed=9)}).folder


@pytest.mark.usefixtures("own_process")
def test_a_right_bundle_is_healthy_on_every_runtime(tmp_path: Path) -> None:
    diagnosis = examine(make_bundle(tmp_path / "bundle").folder)
    installed = [name for name, devices in diagnosis.devices.items() if devices]
    assert diagnosis.healthy
    assert [result.backend for result in diagnosis.golden] == installed
    facts = json.loads(json.dumps(diagnosis.as_dict()))
    assert facts["chosen_backend"] == installed[0]
    assert facts["bundle"]["name"] == "test"
    assert facts["packages"]["numpy"]


def test_without_a_bundle_the_installation_is_shown() -> None:
    diagnosis = examine()
    assert diagnosis.healthy
    assert diagnosis.golden == ()
    assert diagnosis.choice is None
    assert diagnosis.as_dict()["bundle"] is None


def test_without_a_runtime_nothing_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.networks.runtimes.available_backends", lambda: ())
    monkeypatch.setattr("marrowscope.doctor.available_backends", lambda: ())
    diagnosis = examine()
    assert not diagnosis.healthy
    assert diagnosis.chosen is None
    assert set(diagnosis.devices.values()) == {()}


def test_a_failed_sample_is_a_result(wrong_bundle: Path) -> None:
    assert not examine(wrong_bundle).healthy


def test_command_line_says_so_and_exits_with_one(wrong_bundle: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--bundle", str(wrong_bundle)])
    assert result.exit_code == 1
    assert "golden sample FAILS" in result.stdout
    listed = CliRunner().invoke(app, ["doctor", "--json", "--bundle", str(wrong_bundle)])
    assert json.loads(listed.stdout)["healthy"] is False


def test_a_damaged_bundle_is_an_error(wrong_bundle: Path) -> None:
    (wrong_bundle / "CARD.md").write_text("changed", encoding="utf-8")
    with pytest.raises(BundleError, match=r"CARD\.md: found SHA-256"):
        examine(wrong_bundle)


def with_gate(tmp_path: Path, *, passed: bool) -> Bundle:
    """Give a bundle whose bf16 passed or failed with OpenVINO."""
    bundle = make_bundle(tmp_path / "bundle")
    gate = make_gate(make_change() if passed else FAILED, files=dict(bundle.spec.files))
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.spec.files}
    return write_bundle(tmp_path / "gated", bundle.spec.model_copy(update={"precisions": {"bf16": gate}}), files)


def test_the_precision_in_use_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.doctor.capabilities", lambda _: ("f32", "bf16"))
    bundle = with_gate(tmp_path, passed=True)
    choice = choose(bundle, "openvino")
    assert choice.precision == "bf16"
    assert choice.reasons["bf16"].startswith("passed on 100 cells of 3 patients")
    assert choice.reasons["bf16-segmenter"] == "not chosen by auto: its accuracy was not measured with this bundle"
    assert choice.reasons["f16"] == "not chosen by auto: the device has no instructions for it"
    elsewhere = choose(bundle, "onnxruntime")
    assert elsewhere.precision == "f32"
    assert elsewhere.reasons["bf16"] == "not chosen by auto: its accuracy was measured with openvino"


def test_a_failed_gate_is_told_and_f32_used(tmp_path: Path) -> None:
    bundle = with_gate(tmp_path, passed=False)
    diagnosis = examine(bundle.folder)
    assert diagnosis.choice is not None
    assert diagnosis.choice.precision == "f32"
    assert diagnosis.healthy  # a precision that is not used makes nobody ill
    listed = CliRunner().invoke(app, ["doctor", "--bundle", str(bundle.folder)])
    assert f"will use: {diagnosis.chosen} in f32" in listed.stdout
    assert "  bf16: not chosen by auto: " in listed.stdout


def test_the_golden_sample_runs_in_the_precision_in_use_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_bundle(tmp_path / "bundle")
    files: dict[str, Path | bytes] = {name: source.folder / name for name in source.spec.files}
    gate = make_gate(files=dict(source.spec.files), backend="onnxruntime")
    gates = {"bf16": make_gate(FAILED, files=dict(source.spec.files), backend="onnxruntime"), "bf16-segmenter": gate}
    bundle = write_bundle(tmp_path / "gated", source.spec.model_copy(update={"precisions": gates}), files)
    opened: list[tuple[str, str]] = []

    def open_in_f32(graph: Graph, backend: str, device: str, precision: str, *, threads: None, streams: int) -> Network:
        opened.append((graph.path.name, precision))
        return open_network(graph, backend, device, threads=threads, streams=streams)

    monkeypatch.setattr("marrowscope.doctor.choose_backend", lambda _: "onnxruntime")
    monkeypatch.setattr("marrowscope.doctor.available_backends", lambda: ("onnxruntime",))
    monkeypatch.setattr("marrowscope.doctor.capabilities", lambda _: ("f32", "bf16"))
    monkeypatch.setattr("marrowscope.bundle.bundle.open_network", open_in_f32)
    diagnosis = examine(bundle.folder)
    assert [result.precision for result in diagnosis.golden] == ["f32", "bf16-segmenter"]
    assert opened[2:] == [("segmenter.onnx", "bf16"), ("classifier-0.onnx", "f32")]
    assert diagnosis.as_dict()["chosen_precision"] == "bf16-segmenter"
    assert diagnosis.healthy
    listed = CliRunner().invoke(app, ["doctor", "--bundle", str(bundle.folder)])
    assert "will use: onnxruntime in bf16-segmenter" in listed.stdout
    assert "  bf16-segmenter: passed on 100 cells of 3 patients" in listed.stdout
    assert "golden sample passes on onnxruntime CPU bf16-segmenter: " in listed.stdout
