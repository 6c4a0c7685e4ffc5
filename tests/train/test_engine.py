from __future__ import annotations

import csv
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from marrowscope.errors import RunError, TrainingError  # noqa: E402
from marrowscope.train.config import NO_AUGMENTATION, ClassifierConfig, StagePlan  # noqa: E402
from marrowscope.train.dataset import class_priors, open_crop_set  # noqa: E402
from marrowscope.train.engine import Progress, StageInputs, fit_stage, learning_rate_share  # noqa: E402
from marrowscope.train.model import CellClassifier, ClassifierInfo, new_classifier  # noqa: E402
from marrowscope.train.targets import standardise  # noqa: E402
from marrowscope.train.validation import predict_logits, probabilities, score  # noqa: E402
from marrowscope.vocabulary import load_vocabulary  # noqa: E402
from tests.crop_sets import tiny_config  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def _inputs(folder: Path, config: ClassifierConfig, n_rows: int | None = None) -> StageInputs:
    crop_set = open_crop_set(folder, load_vocabulary())
    rows = crop_set.rows({"p0", "p1", "p2", "p3"}, "expert")[:n_rows]
    info = ClassifierInfo(
        architecture=config.architecture,
        categories=crop_set.categories,
        crop_px=config.crop_px,
        um_per_px=0.3,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        priors=class_priors(crop_set.labels, rows, 16),
        imbalance=config.imbalance,
        tau=config.tau,
        norm=config.norm,
        morphology=standardise(crop_set.measured, rows)[0],
        initial_weights="random",
    )
    return StageInputs(crop_set, rows, crop_set.rows({"p4", "p5"}, "predicted"), info, "fingerprint")


def _model(config: ClassifierConfig) -> CellClassifier:
    return new_classifier(config.architecture, 16, config.dropout, config.seed, n_morphology=3, norm=config.norm)


def test_one_batch_is_learned_by_heart(crops_dir: Path, tmp_path: Path) -> None:
    """Eight crops, no augmentation: every head gets every crop right and the loss all but vanishes."""
    # Crops with another's border would have a part in the batch statistics.
    config = tiny_config(augment=NO_AUGMENTATION, dropout=0.0, weight_decay=0.0, loss_weights={"consistency": 0})
    inputs, model = _inputs(crops_dir, config, n_rows=8), _model(config)
    plan = StagePlan(name="overfit", train_on="expert", select_on="predicted", epochs=30, learning_rate=2e-2)
    state = fit_stage(model, inputs, config, plan=plan, stage=1, folder=tmp_path / "stage")
    last = state.history[-1]
    assert last.train_loss_cblc + last.train_loss_countable + last.train_loss_category < 0.02
    found = probabilities(predict_logits(model, inputs.crop_set, inputs.training_rows, inputs.info), inputs.info)
    for head, values in found.items():
        np.testing.assert_array_equal(values.argmax(axis=1), inputs.crop_set.labels[head][inputs.training_rows])


def test_a_stage_writes_its_best_epoch_its_table_and_its_scalars(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    seen: list[Progress] = []
    plan = config.stages[0]
    state = fit_stage(
        _model(config), _inputs(crops_dir, config), config, plan=plan, stage=1, folder=tmp_path, on_progress=seen.append
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
    inputs, model = _inputs(crops_dir, config), _model(config)
    absent = [k for k, known in enumerate(inputs.info.trained("category")) if not known]
    assert len(absent) == 11
    with torch.no_grad():
        model.category.bias[absent] = 1000.0
    found = probabilities(predict_logits(model, inputs.crop_set, inputs.validation_rows, inputs.info), inputs.info)
    assert (found["category"][:, absent] == 0).all()
    np.testing.assert_allclose(found["category"].sum(axis=1), 1, atol=1e-6)


def test_a_category_seen_only_in_validation_does_not_stop_the_training(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    inputs = _inputs(crops_dir, config)
    code = inputs.crop_set.cells["expert_code"].to_numpy()[inputs.training_rows]
    rows = inputs.training_rows[np.isin(code, ["N5", "L"])]  # neither CBLC nor an uncounted cell is left
    info = inputs.info.model_copy(update={"priors": class_priors(inputs.crop_set.labels, rows, 16)})
    one_sided = StageInputs(inputs.crop_set, rows, inputs.validation_rows, info, "fingerprint")
    state = fit_stage(_model(config), one_sided, config, plan=config.stages[1], stage=1, folder=tmp_path)
    assert np.isfinite(state.history[0].validation_loss)
    assert info.trained("cblc") == (True, False)
    assert info.trained("countable") == (False, True)


def test_a_side_without_crops_is_refused(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    inputs = _inputs(crops_dir, config)
    empty = StageInputs(inputs.crop_set, inputs.training_rows, np.array([], dtype=np.int64), inputs.info, "")
    with pytest.raises(TrainingError, match="no labelled crop of source 'predicted' among the validation patients"):
        fit_stage(_model(config), empty, config, plan=config.stages[0], stage=1, folder=tmp_path)


def test_a_loss_that_explodes_stops_the_stage_and_says_where(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    model = _model(config)
    with torch.no_grad():
        model.category.bias[:] = float("nan")
    with pytest.raises(TrainingError, match=r"stage gt-to-yolo, epoch 1, step 1: the loss is not finite \(cblc = "):
        fit_stage(model, _inputs(crops_dir, config), config, plan=config.stages[0], stage=1, folder=tmp_path)


def test_a_checkpoint_of_other_inputs_is_not_continued(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    inputs = _inputs(crops_dir, config)
    plan = config.stages[1]
    fit_stage(_model(config), inputs, config, plan=plan, stage=1, folder=tmp_path)
    other = StageInputs(inputs.crop_set, inputs.training_rows, inputs.validation_rows, inputs.info, "another")
    with pytest.raises(RunError, match="made from other crops, another split or other settings"):
        fit_stage(_model(config), other, config, plan=plan, stage=1, folder=tmp_path)


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
