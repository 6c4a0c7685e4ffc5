"""The moving average of the weights: its formula, and that a killed stage resumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from marrowscope.train import stage as training_stage  # noqa: E402
from marrowscope.train.average import WeightAverage  # noqa: E402
from marrowscope.train.checkpoint import hash_weights, load_tensors, save_checkpoint  # noqa: E402
from marrowscope.train.config import StagePlan  # noqa: E402
from marrowscope.train.stage import StageInputs, fit_stage  # noqa: E402
from tests.crop_sets import tiny_config  # noqa: E402
from tests.train.stages import stage_inputs, tiny_model  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

PLAN = StagePlan(name="one", train_on="expert", select_on="predicted", epochs=2, learning_rate=3e-3)


def test_the_average_follows_its_formula_and_warms_up() -> None:
    model = tiny_model(tiny_config())
    average = WeightAverage(model, decay=0.3)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 4.0)):
        with torch.no_grad():
            model.cblc.bias.fill_(value)
        if step == 0:
            expected = float(average.model.cblc.bias[0])
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        average.update(model, step)
        assert float(average.model.cblc.bias[0]) == pytest.approx(expected)
    assert float(model.cblc.bias[0].detach()) == 4.0


def test_statistics_of_batch_norm_are_averaged_and_its_counts_copied() -> None:
    model = tiny_model(tiny_config())
    average = WeightAverage(model, decay=0.5)
    before = {name: value.clone() for name, value in average.model.state_dict().items()}
    model.train()(torch.rand(8, 3, 32, 32))
    average.update(model, 100)
    names = [name for name in before if name.endswith("running_mean")]
    assert names
    for name in names:
        torch.testing.assert_close(
            average.model.state_dict()[name], (before[name] + model.state_dict()[name]) / 2, atol=1e-6, rtol=1e-5
        )
    counts = [name for name in before if name.endswith("num_batches_tracked")]
    assert all(average.model.state_dict()[name] == 1 for name in counts)


@pytest.mark.parametrize("select", ["last", "ema"])
def test_a_stage_killed_in_an_epoch_resumes_to_the_same_kept_weights(
    crops_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    config = tiny_config(select=select, ema_decay=0.7)
    inputs = stage_inputs(crops_dir, config)
    fit_stage(tiny_model(config), inputs, config, plan=PLAN, stage=1, folder=tmp_path / "whole")
    save, saved = save_checkpoint, []

    class KilledError(Exception):
        pass

    def save_and_die(*given: object) -> None:
        save(*given)  # type: ignore[arg-type]
        saved.append(given)
        if len(saved) == 5:  # in the second epoch, between its ends
            raise KilledError

    monkeypatch.setattr(training_stage, "save_checkpoint", save_and_die)
    with pytest.raises(KilledError):
        fit_stage(tiny_model(config), inputs, config, plan=PLAN, stage=1, folder=tmp_path / "cut")
    monkeypatch.setattr(training_stage, "save_checkpoint", save)
    assert load_tensors(tmp_path / "cut" / "checkpoint.safetensors")[1]["step"] > 0  # type: ignore[operator]
    fit_stage(tiny_model(config), inputs, config, plan=PLAN, stage=1, folder=tmp_path / "cut")
    whole, cut = (load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("whole", "cut"))
    assert hash_weights(whole) == hash_weights(cut)


def test_what_is_kept_differs_and_is_what_the_name_says(crops_dir: Path, tmp_path: Path) -> None:
    """The last step's weights are those of the checkpoint; the average is stored beside them, and neither is it."""
    kept = {}
    for select in ("last", "ema"):
        config = tiny_config(select=select, ema_decay=0.9)
        inputs = stage_inputs(crops_dir, config)
        state = fit_stage(tiny_model(config), inputs, config, plan=PLAN, stage=1, folder=tmp_path / select)
        assert state.best_epoch == 2
        stored = load_tensors(tmp_path / select / "checkpoint.safetensors")[0]
        part = {"last": "model/", "ema": "average/"}[select]
        of_part = {name.removeprefix(part): value for name, value in stored.items() if name.startswith(part)}
        kept[select] = hash_weights(load_tensors(tmp_path / select / "best.safetensors")[0])
        assert kept[select] == hash_weights(of_part)
        assert any(name.startswith("average/") for name in stored) == (select == "ema")
    assert kept["last"] != kept["ema"]


def test_without_validation_crops_a_fixed_schedule_trains_and_states_no_figure(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config(select="last")
    inputs = stage_inputs(crops_dir, config)
    alone = StageInputs(inputs.crop_set, inputs.training_rows, inputs.validation_rows[:0], inputs.info, "")
    state = fit_stage(tiny_model(config), alone, config, plan=PLAN, stage=1, folder=tmp_path)
    assert [row.selection for row in state.history] == [None, None]
    assert [row.validation_loss for row in state.history] == [None, None]
    assert all(row.train_loss > 0 for row in state.history)
