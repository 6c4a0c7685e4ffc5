"""Weights that are damaged, or another network's, are refused by name before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")

from marrowscope.errors import RunError  # noqa: E402
from marrowscope.train.checkpoint import (  # noqa: E402
    TrainingState,
    fill,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from marrowscope.train.classifier_graph import load_classifier  # noqa: E402
from marrowscope.train.model import new_classifier  # noqa: E402
from tests.train.test_initial_weights import TINY, _info  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.arange(3.0), "n": torch.tensor(4)}, {"epoch": 2})
    tensors, meta = load_tensors(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert (tensors["n"].item(), meta) == (4, {"epoch": 2})


def test_every_truncation_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.arange(30.0)}, {"epoch": 2})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RunError, match=r"w\.safetensors: cannot be read as safetensors"):
            load_tensors(path)


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    state, path = module.state_dict(), tmp_path / "w.safetensors"
    for wrong, name in (
        ({"weight": state["weight"]}, "bias"),
        (state | {"weight": torch.zeros(3, 3)}, "weight"),
        (state | {"more": torch.zeros(1)}, "more"),
    ):
        with pytest.raises(
            RunError, match=rf"w\.safetensors: does not fit the network: 1 tensor .*, first {name}; expe"
        ):
            fill(module, wrong, path)
    fill(module, {name: tensor + 1 for name, tensor in state.items()}, path)


def test_a_classifier_of_wrong_shapes_or_a_strange_header(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    meta = {"info": _info().model_dump(mode="json")}
    save_tensors(path, new_classifier(TINY, 16, 0.0, 0).state_dict(), meta)
    with pytest.raises(RunError, match="found no epoch in the header, expected weights of `marrowscope train"):
        load_classifier(path)
    save_tensors(path, {"a": torch.zeros(1)}, meta | {"info": {"architecture": 5}})
    with pytest.raises(RunError, match="header: architecture: found 5, expected a text in quotes"):
        load_classifier(path)
    module = torch.nn.Linear(2, 3)
    save_tensors(path, {f"model/{name}": tensor for name, tensor in module.state_dict().items()}, {"stage": "one"})
    with pytest.raises(RunError, match="header: epoch: found nothing, expected a value"):
        load_checkpoint(path, module, torch.optim.SGD(module.parameters()))


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"optimizer/1/exp_avg_sq": None}, "1 tensor absent, .*first 1/exp_avg_sq"),
        ({"optimizer/1/exp_avg": torch.zeros(3)}, "1/exp_avg"),
        ({"optimizer/0/step": torch.zeros(2)}, "0/step"),
        ({"optimizer/2/step": torch.zeros(())}, "2/step"),
        ({"optimizer/0": torch.zeros(())}, "first 0;"),
        ({"optimizer/0/more/step": torch.zeros(())}, "0/more/step"),
        ({f"optimizer/0/{slot}": None for slot in ("exp_avg", "exp_avg_sq", "step")}, ""),
    ],
)
def test_what_the_optimizer_keeps_is_whole_or_refused(change: dict[str, Any], first: str, tmp_path: Path) -> None:
    path, module = tmp_path / "last.safetensors", torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(path, module, optimizer, TrainingState(stage="s", epoch=1, step=2, fingerprint="f"))
    tensors, meta = load_tensors(path)
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    save_tensors(path, changed, meta)
    fresh = torch.nn.Linear(3, 2)
    resumed = torch.optim.AdamW(fresh.parameters())
    if not first:  # a parameter that was frozen has nothing
        assert load_checkpoint(path, fresh, resumed).step == 2
        return
    with pytest.raises(RunError, match=rf"last\.safetensors: does not fit the optimizer: .*{first}"):
        load_checkpoint(path, fresh, resumed)
