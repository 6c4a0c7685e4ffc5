from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from marrowscope.train.loader import StageBatches, TrainingBatch
from marrowscope.train.stage import configure_torch
from marrowscope.train.step import TrainingStep, autocasts, make_optimizer
from tests.crop_sets import tiny_config
from tests.train.stages import stage_inputs, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.model import CellClassifier

CPU = torch.device("cpu")


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operations for which the processor would have to wait for a GPU: their result's value or size."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()
        self.n_seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        name = func.overloadpacket.__name__
        self.n_seen += 1
        by_mask = name in {"index", "index_put", "index_put_", "_unsafe_index"} and any(
            index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1]
        )
        if by_mask or name in {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def _step(crops_dir: Path, config: ClassifierConfig) -> tuple[TrainingStep, TrainingBatch, CellClassifier]:
    configure_torch(config)
    inputs, model = stage_inputs(crops_dir, config), tiny_model(config).train()
    step = TrainingStep(
        model,
        make_optimizer(model, config),
        config,
        inputs.info,
        crop_set=inputs.crop_set,
        training_rows=inputs.training_rows,
    )
    return step, StageBatches(inputs.crop_set, inputs.training_rows, config, 1)[0, 0], model


@pytest.mark.parametrize("imbalance", ["logit_adjustment", "focal"])
def test_a_step_never_waits_for_the_device(crops_dir: Path, imbalance: str) -> None:
    """Every term on, AdamW as on CUDA: no value is fetched, nothing is chosen by a mask, which needs its count."""
    config = tiny_config(imbalance=imbalance)
    step, batch, model = _step(crops_dir, config)
    step.optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step(batch, learning_rate=1e-3, seed=0)  # AdamW makes its slots in the first step
    with _Waits() as waits:
        step(batch, learning_rate=1e-3, seed=0)
    assert waits.n_seen > 100
    assert waits.found == set()
    with _Waits() as waits:
        bool(torch.ones(3)[torch.tensor([True, False, True])].sum() > 1)
    assert waits.found >= {"index", "_local_scalar_dense"}  # what the test looks for can be seen


def test_the_terms_are_named_and_weighted(crops_dir: Path) -> None:
    config = tiny_config()
    step, batch, _ = _step(crops_dir, config)
    terms = step(batch, learning_rate=1e-3, seed=0)
    assert list(terms) == ["cblc", "countable", "category", "morphology", "evidence", "consistency", "total"]
    total = sum(config.loss_weights[name] * float(term) for name, term in terms.items() if name != "total")
    assert float(terms["total"]) == pytest.approx(total, rel=1e-5)
    assert not any(term.requires_grad for term in terms.values())


def test_a_term_of_weight_zero_is_not_computed(crops_dir: Path) -> None:
    off = {"morphology": 0, "evidence": 0, "consistency": 0}
    step, batch, _ = _step(crops_dir, tiny_config(loss_weights=off))
    assert list(step(batch, learning_rate=1e-3, seed=0)) == ["cblc", "countable", "category", "total"]
    assert len(batch.crops) == len(batch.rows)


def test_a_batch_of_one_crop_has_no_consistency(crops_dir: Path) -> None:
    step, batch, _ = _step(crops_dir, tiny_config(norm="group"))  # batch norm wants two
    alone = TrainingBatch(batch.rows[:1], batch.crops[:1], batch.masks[:1])
    terms = step(alone, learning_rate=1e-3, seed=0)
    assert "consistency" not in terms
    assert torch.isfinite(terms["total"])


def test_the_learning_rate_given_is_the_one_used_and_norms_do_not_decay(crops_dir: Path) -> None:
    config = tiny_config(weight_decay=0.5)
    step, batch, model = _step(crops_dir, config)
    before = {name: value.clone() for name, value in model.named_parameters()}
    step(batch, learning_rate=0.0, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    decay = {id(p): group["weight_decay"] for group in step.optimizer.param_groups for p in group["params"]}
    for name, value in model.named_parameters():
        assert decay[id(value)] == (0.5 if value.ndim > 1 else 0.0), name


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("bf16", "cpu", True), ("float32", "cuda", False)],
)
def test_bf16_is_for_cuda_unless_asked_for(precision: str, device: str, *, expected: bool) -> None:
    assert autocasts(tiny_config(precision=precision), torch.device(device)) is expected


def test_bf16_trains_on_the_cpu_too(crops_dir: Path) -> None:
    """The first step's terms agree with those of float32 within the precision of 8 bits, and stay float32."""
    exact, batch, _ = _step(crops_dir, tiny_config(dropout=0.0))
    rounded, _, _ = _step(crops_dir, tiny_config(dropout=0.0, precision="bf16"))
    wanted, found = (step(batch, learning_rate=1e-3, seed=0) for step in (exact, rounded))
    assert {term.dtype for term in found.values()} == {torch.float32}
    for head in ("cblc", "countable", "category"):
        assert float(found[head]) == pytest.approx(float(wanted[head]), rel=0.05)
    assert any(float(found[name]) != float(wanted[name]) for name in wanted)
