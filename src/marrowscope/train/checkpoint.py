"""Weights and training states on disk: one safetensors file each, its JSON in the header, replaced atomically.

No pickle. A training state holds everything the next step depends on; order, augmentation and dropout are
functions of (seed, epoch, step), so nothing random has to be stored and a resumed training ends in equal weights.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from marrowscope.config import UNREADABLE, ConfigT, FrozenModel, parse_json, validate_config
from marrowscope.disk import written_whole
from marrowscope.errors import ConfigError, RunError
from marrowscope.train.training_record import EpochRow
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

CLASSIFIER_NAME, SPLIT_NAME = "classifier.safetensors", "split.csv"
"""Files of a training folder, beside fit.json and the stages' own folders."""

_META_KEY = "marrowscope"
_MODEL, _OPTIMIZER, _AVERAGE = "model/", "optimizer/", "average/"
_SLOTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW keeps of a parameter."""


class TrainingState(FrozenModel):
    """Where a stage stands. ``loss_sums`` add up the steps of the unfinished epoch."""

    stage: str
    epoch: int = Field(description="epochs finished")
    step: int = Field(description="steps finished inside the current epoch")
    loss_sums: dict[str, float] = Field(default_factory=dict)
    seconds: float = Field(default=0.0, description="spent in the unfinished epoch")
    history: tuple[EpochRow, ...] = ()
    best_epoch: int = 0
    info: dict[str, object] = Field(default_factory=dict, description="ClassifierInfo of the weights")
    fingerprint: str = Field(description="of the crops, the split and the configuration; another one is not resumed")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, object]) -> None:
    """Write named tensors with a JSON header to ``path``; a kill at any time leaves the old file or the new one."""
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as temporary:
        save_file(packed, temporary, metadata={_META_KEY: json.dumps(meta)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read tensors and their JSON header (empty where another program wrote the file).

    Raises RunError for a file that is damaged, of another format (a pickle is not opened), or holds NaN.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            text = (stream.metadata() or {}).get(_META_KEY, "{}")
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  no mapping
            meta = parse_json(text)
    except (OSError, SafetensorError, AttributeError, *UNREADABLE) as error:  # the last for a kind torch does not have
        message = f"{path}: cannot be read as safetensors ({error}); expected a weights file; train again or restore it"
        raise RunError(message) from error
    wrong = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if wrong is not None or not isinstance(meta, dict):
        found = "a header that is no table" if wrong is None else f"NaN or infinite values in {wrong}"
        message = f"{path}: found {found}, expected trained weights; train again or restore it"
        raise RunError(message)
    return tensors, meta


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``module`` with the tensors of ``path``; RunError where they are those of another network."""
    wanted = module.state_dict()
    wrong = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    wrong += [name for name in tensors if name not in wanted]
    if wrong:
        message = (
            f"{path}: does not fit the network: {count_of(len(wrong), 'tensor')} absent, of another shape or too "
            "many, first "
            f"{wrong[0]}; expected {len(wanted)} of the architecture it names; train again or restore it"
        )
        raise RunError(message)
    module.load_state_dict(dict(tensors))


def read_part(model: type[ConfigT], meta: Mapping[str, object], key: str | None, path: Path) -> ConfigT:
    """Read ``key`` of a weights file's header, or all of it, as ``model``; RunError where it is not that."""
    values = meta if key is None else meta.get(key)
    if not isinstance(values, dict):
        message = f"{path}: found no {key} in the header, expected weights of `marrowscope train classifier`"
        raise RunError(message)
    try:
        return validate_config(model, values, where=f"{path}, header")
    except ConfigError as error:
        message = f"{error}; expected weights of `marrowscope train classifier`, train again or restore them"
        raise RunError(message) from error


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names and the values of a state: equal weights give equal hashes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    average: nn.Module | None = None,
) -> None:
    """Write model, optimizer, state and, where one is kept, the average of the weights as one file."""
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {_AVERAGE + name: tensor for name, tensor in average.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}/{slot}": value for slot, value in slots.items()}
    save_tensors(path, tensors, state.model_dump(mode="json"))


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
) -> TrainingState:
    """Fill model, optimizer and, where one is kept, the average of the weights; give the state to go on from."""
    tensors, meta = load_tensors(path)
    state = read_part(TrainingState, meta, None, path)
    fill(model, _with_prefix(tensors, _MODEL), path)
    if average is not None:
        fill(average, _with_prefix(tensors, _AVERAGE), path)
    slots = _optimizer_slots(_with_prefix(tensors, _OPTIMIZER), optimizer, path)
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, loaded in optimizer.state.items():
        for slot, value in loaded.items():
            if value.shape == parameter.shape:  # the parameter's layout in memory, as in a training never interrupted
                loaded[slot] = torch.empty_like(parameter).copy_(value)
    return state


def _optimizer_slots(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, path: Path
) -> dict[int, dict[str, Tensor]]:
    """Return what AdamW keeps of each parameter, by its number; RunError where that is not whole.

    A parameter that has never been trained, since it was frozen, has nothing.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shapes = {str(index): parameter.shape for index, parameter in enumerate(parameters)}
    slots: dict[int, dict[str, Tensor]] = {}
    wrong = []
    for name, tensor in tensors.items():
        index, _, slot = name.partition("/")
        expected = torch.Size() if slot == "step" else shapes.get(index)
        if index not in shapes or slot not in _SLOTS or tensor.shape != expected:
            wrong.append(name)
        else:
            slots.setdefault(int(index), {})[slot] = tensor
    wrong += [f"{index}/{slot}" for index, found in slots.items() for slot in _SLOTS if slot not in found]
    if wrong:
        message = (
            f"{path}: does not fit the optimizer: {count_of(len(wrong), 'tensor')} absent, of another shape or too "
            f"many, first {min(wrong)}; expected {', '.join(_SLOTS)} of each trained parameter; train again or restore "
            "it"
        )
        raise RunError(message)
    return slots


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one part of a checkpoint, by their own names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
