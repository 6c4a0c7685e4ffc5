"""The doctor tells a healthy installation from one that must not be trusted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marrowscope.bundle import write_bundle
from marrowscope.cli.main import app
from marrowscope.doctor import examine
from marrowscope.errors import BundleError
from tests.bundles import make_bundle
from tests.onnx_graphs import classifier_graph


@pytest.fixture
def wrong_bundle(tmp_path: Path) -> Path:
    """Give a bundle with right hashes whose network is not the one the golden sample was made with."""
    bundle = make_bundle(tmp_path / "bundle")
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.spec.files}
    return write_bundle(tmp_path / "wrong", bundle.spec, files | {"classifier-0.onnx": classifier_graph(seed=9)}).folder


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
    assert diagnosis.as_dict()["bundle"] is None


def test_without_a_runtime_nothing_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marrowscope.networks.available_backends", lambda: ())
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
