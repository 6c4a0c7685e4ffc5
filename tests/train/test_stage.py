from __future__ import annotations

import csv
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from marrowscope.errors import RunError, TrainingError
from marrowscope.train import stage as training_stage
from marrowscope.train.checkpoint import hash_weights, load_tensors
from marrowscope.train.config import HEADS, NO_AUGMENTATION, StagePlan
from marrowscope.train.crop_set import class_priors
from marrowscope.train.stage import Progress, StageInputs, fit_stage, learning_rate_share
from marrowscope.train.step import TrainingStep
from marrowscope.train.validation import predict_logits, probabilities, score
from tests.crop_sets import tiny_config
from tests.train.stages import stage_inputs, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.loader import TrainingBatch


def test_one_batch_is_learned_by_heart(crops_dir: Path, tmp_path: Path) -> None:
    """Eight crops, no augmentation: every head gets every crop right and the loss all but vanishes."""
    # Crops with another's border would have a part in the batch statistics.
    config = tiny_config(augment=NO_AUGMENTATION, dropout=0.0, weight_decay=0.0, loss_weights={"consistency": 0})
    inputs, model = stage_inputs(crops_dir, config, n_rows=8), tiny_model(config)
    plan = StagePlan(name="overfit", train_on="expert", select_on="predicted", epochs=30, learning_rate=2e-2)
    state = fit_stage(model, inputs, config, plan=plan, stage=1, folder=tmp_path / "stage")
    last = state.history[-1]
    assert sum(last.train_losses[head] for head in HEADS) < 0.02
    found = probabilities(predict_logits(model, inputs.crop_set, inputs.training_rows, inputs.info), inputs.info)
    for head, values in found.items():
        np.testing.assert_array_equal(values.argmax(axis=1), inputs.crop_set.labels[head][inputs.training_rows])


def test_a_stage_writes_its_best_epoch_its_table_and_its_scalars(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    seen: list[Progress] = []
    plan = config.stages[0]
    state = fit_stage(
        tiny_model(config),
        stage_inputs(crops_dir, config),
        config,
        plan=plan,
        stage=1,
        folder=tmp_path,
        on_progress=seen.append,
    )
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    selections = [float(row["selection"]) for row in rows]
    assert state.best_epoch == 1 + selections.index(max(selections))
    assert (tmp_path / "best.safetensors").is_file()
    assert list((tmp_path / "tensorboard").glob("events.*"))
    steps = [now for now in seen if now.finished_epoch is None]
    assert [(now.epoch, now.step) for now in steps] == [(epoch, step) for epoch in (1, 2) for step in range(1, 6)]
    assert steps[-1].seconds_left == 0
    assert all(now.crops_per_second > 0 for now in steps)
    assert [now.finished_epoch.epoch for now in seen if now.finished_epoch] == [1, 2]


def test_an_absent_category_is_never_predicted(crops_dir: Path) -> None:
    """The heads are set to shout for an absent class; the probabilities give it exactly nothing."""
    config = tiny_config()
    inputs, model = stage_inputs(crops_dir, config), tiny_model(config)
    absent = [k for k, known in enumerate(inputs.info.trained("category")) if not known]
    assert len(absent) == 11
    with torch.no_grad():
        model.category.bias[absent] = 1000.0
    found = probabilities(predict_logits(model, inputs.crop_set, inputs.validation_rows, inputs.info), inputs.info)
    assert (found["category"][:, absent] == 0).all()
    np.testing.assert_allclose(found["category"].sum(axis=1), 1, atol=1e-6)


def test_a_category_seen_only_in_validation_does_not_stop_the_training(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    inputs = stage_inputs(crops_dir, config)
    code = inputs.crop_set.cells["expert_code"].to_numpy()[inputs.training_rows]
    rows = inputs.training_rows[np.isin(code, ["N5", "L"])]  # neither CBLC nor an uncounted cell is left
    info = inputs.info.model_copy(update={"priors": class_priors(inputs.crop_set.class_shares(rows))})
    one_sided = StageInputs(inputs.crop_set, rows, inputs.validation_rows, info, "fingerprint")
    state = fit_stage(tiny_model(config), one_sided, config, plan=config.stages[1], stage=1, folder=tmp_path)
    loss = state.history[0].validation_loss
    assert loss is not None
    assert np.isfinite(loss)
    assert info.trained("cblc") == (True, False)
    assert info.trained("countable") == (False, True)


def test_a_side_without_crops_is_refused(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    inputs = stage_inputs(crops_dir, config)
    empty = StageInputs(inputs.crop_set, inputs.training_rows, np.array([], dtype=np.int64), inputs.info, "")
    with pytest.raises(TrainingError, match="no labeled crop of source 'predicted' among the validation patients"):
        fit_stage(tiny_model(config), empty, config, plan=config.stages[0], stage=1, folder=tmp_path)


def test_a_loss_that_explodes_stops_the_stage_and_says_where(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    model = tiny_model(config)
    with torch.no_grad():
        model.category.bias[:] = float("nan")
    with pytest.raises(TrainingError, match=r"stage gt-to-yolo, epoch 1, step 1: the loss is not finite \(cblc = "):
        fit_stage(model, stage_inputs(crops_dir, config), config, plan=config.stages[0], stage=1, folder=tmp_path)


def test_a_checkpoint_of_other_inputs_is_not_continued(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    inputs = stage_inputs(crops_dir, config)
    plan = config.stages[1]
    fit_stage(tiny_model(config), inputs, config, plan=plan, stage=1, folder=tmp_path)
    other = StageInputs(inputs.crop_set, inputs.training_rows, inputs.validation_rows, inputs.info, "another")
    with pytest.raises(RunError, match="made from other crops, another split or other settings"):
        fit_stage(tiny_model(config), other, config, plan=plan, stage=1, folder=tmp_path)


def test_the_learning_rate_warms_up_and_falls_to_one_percent() -> None:
    shares = [learning_rate_share(step, 100, 0.1) for step in range(100)]
    assert shares[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert max(shares) == pytest.approx(1)
    assert shares[55] == pytest.approx(0.505)
    assert 0.01 < shares[-1] < 0.011
    assert all(later < earlier for earlier, later in pairwise(shares[10:]))


def test_selection_is_the_mean_of_its_two_figures() -> None:
    """Against scikit-learn, macro F1 over the categories present."""
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    labels = {head: random.integers(0, k, 60) for head, k in (("cblc", 2), ("countable", 2), ("category", 4))}
    predicted = {
        head: random.random((60, k)).astype(np.float32) for head, k in (("cblc", 2), ("countable", 2), ("category", 16))
    }
    predicted["category"][:, 4:] = 0
    figures = score(predicted, labels)
    cblc = sklearn.f1_score(labels["cblc"], predicted["cblc"].argmax(axis=1), average="weighted")
    macro = sklearn.f1_score(labels["category"], predicted["category"].argmax(axis=1), average="macro")
    assert figures["cblc_weighted_f1"] == pytest.approx(cblc)
    assert figures["selection"] == pytest.approx((cblc + macro) / 2)
    assert figures["cblc_auc"] == pytest.approx(sklearn.roc_auc_score(labels["cblc"], predicted["cblc"][:, 1]))


class _SpoiledFrom:
    """A step whose loss is not a number from the n-th call on; the others are left as they are."""

    def __init__(self, step: TrainingStep, n: int) -> None:
        self._step, self._left, self.corrections = step, n, step.corrections

    def __call__(self, batch: TrainingBatch, *, learning_rate: float, seed: int) -> dict[str, torch.Tensor]:
        self._left -= 1
        terms = self._step(batch, learning_rate=learning_rate, seed=seed)
        return terms if self._left > 0 else {name: term * float("nan") for name, term in terms.items()}


def test_losses_read_every_few_steps_are_those_read_every_step(
    crops_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA: the same table of losses and the same weights, fewer reports, one at the end of each epoch."""
    config = tiny_config(checkpoint_every_steps=100)
    found = {}
    for every in (1, 3):
        monkeypatch.setitem(training_stage.STEPS_BETWEEN_READS, "cpu", every)
        seen: list[Progress] = []
        folder, inputs = tmp_path / str(every), stage_inputs(crops_dir, config)
        state = fit_stage(
            tiny_model(config), inputs, config, plan=config.stages[0], stage=1, folder=folder, on_progress=seen.append
        )
        steps = [(now.epoch, now.step) for now in seen if now.finished_epoch is None]
        rows = [row.model_dump(exclude={"seconds", "crops_per_second"}) for row in state.history]
        found[every] = steps, rows, hash_weights(load_tensors(folder / "best.safetensors")[0])
    assert found[1][0] == [(epoch, step) for epoch in (1, 2) for step in range(1, 6)]
    assert found[3][0] == [(epoch, step) for epoch in (1, 2) for step in (3, 5)]
    assert found[1][1:] == found[3][1:]


def test_a_loss_read_late_still_names_its_own_step_and_is_never_saved(
    crops_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are read at step 4, for a checkpoint: the fault of step 3 is named, and the file holds the start."""
    monkeypatch.setitem(training_stage.STEPS_BETWEEN_READS, "cpu", 20)
    config = tiny_config(checkpoint_every_steps=4)
    make = TrainingStep
    monkeypatch.setattr(training_stage, "TrainingStep", lambda *given, **named: _SpoiledFrom(make(*given, **named), 3))
    with pytest.raises(TrainingError, match=r"epoch 1, step 3: the loss is not finite \(cblc = nan"):
        fit_stage(
            tiny_model(config), stage_inputs(crops_dir, config), config, plan=config.stages[0], stage=1, folder=tmp_path
        )
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == 0
