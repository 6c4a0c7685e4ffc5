"""A loss term is a function and its weight: all else follows, and one without the other is refused at the start."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from marrowscope.errors import ConfigError, InputError
from marrowscope.fit import fit_classifier
from marrowscope.train.config import HEADS, LOSS_WEIGHTS, PLASMA
from marrowscope.train.losses import TERMS, StepOutput, Term, check_terms
from marrowscope.train.training_record import EpochRow, read_finished
from tests.crop_sets import tiny_config, write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

ONE_EPOCH = ({"name": "one", "train_on": "expert", "select_on": "predicted", "epochs": 1, "learning_rate": 1e-3},)


def evidence_size(seen: StepOutput) -> Tensor:
    """Mean square of the last feature map, over the n crops."""
    return seen.output.evidence[: seen.n].float().square().mean()


def test_every_weight_has_a_term_and_every_term_a_weight() -> None:
    check_terms(LOSS_WEIGHTS)
    assert list(LOSS_WEIGHTS) == [*HEADS, PLASMA, *TERMS]


def test_a_new_term_is_weighted_logged_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TERMS, "evidence_size", Term(evidence_size))
    monkeypatch.setitem(LOSS_WEIGHTS, "evidence_size", 0.1)
    crops = write_crop_set(tmp_path / "crops", patients=4)
    fit_classifier(crops, tmp_path / "out", tiny_config(stages=ONE_EPOCH))
    with (tmp_path / "out" / "1-one" / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    terms = {name: float(row[f"train_loss_{name}"]) for name in LOSS_WEIGHTS if name not in {PLASMA, "teacher"}}
    assert row[f"train_loss_{PLASMA}"] == ""  # no plasma cell among the crops
    assert terms["evidence_size"] > 0
    assert sum(LOSS_WEIGHTS[name] * term for name, term in terms.items()) == pytest.approx(
        float(row["train_loss"]), rel=1e-5
    )
    assert read_finished(tmp_path / "out").result.best_epoch.train_losses == pytest.approx(terms)
    without = fit_classifier(crops, tmp_path / "off", tiny_config(stages=ONE_EPOCH, loss_weights={"evidence_size": 0}))
    assert "evidence_size" not in without.best.train_losses
    assert without.best.train_losses["cblc"] != terms["cblc"]


def test_a_weight_without_a_term_or_a_term_without_a_weight_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = write_crop_set(tmp_path / "crops", patients=2)
    with monkeypatch.context() as patched:
        patched.setitem(LOSS_WEIGHTS, "forgotten", 0.1)
        with pytest.raises(ConfigError, match=r"loss_weights: found a weight 'forgotten' without a term, .* LOSS_WEIG"):
            fit_classifier(crops, tmp_path / "out", tiny_config())
    with monkeypatch.context() as patched:
        patched.setitem(TERMS, "unweighted", Term(evidence_size))
        with pytest.raises(ConfigError, match="loss_weights: found a term 'unweighted' without a weight"):
            fit_classifier(crops, tmp_path / "out", tiny_config())
    assert not (tmp_path / "out").exists()


def test_a_term_that_needs_masks_refuses_a_crop_set_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TERMS, "masked", Term(evidence_size, needs_masks=True))
    monkeypatch.setitem(LOSS_WEIGHTS, "masked", 0.1)
    crops = write_crop_set(tmp_path / "crops")
    (crops / "masks.npy").unlink()
    weights = {"evidence": 0, "consistency": 0}
    with pytest.raises(InputError, match=r"expected it for the loss terms masked; .*, or set masked = 0 under"):
        fit_classifier(crops, tmp_path / "out", tiny_config(loss_weights=weights))


def test_an_epochs_terms_have_a_key_each_on_disk_in_the_order_of_the_weights() -> None:
    names = [name for name in EpochRow.model_fields if name != "train_losses"]
    figures = dict.fromkeys(names, 0.5) | {"epoch": 1, "train_loss_cblc": 0.25, "train_loss_evidence": None}
    row = EpochRow.model_validate(figures)
    assert row.train_losses == {"cblc": 0.25}
    on_disk = json.loads(row.model_dump_json())
    place = names.index("train_loss") + 1
    assert list(on_disk) == [*names[:place], *(f"train_loss_{name}" for name in LOSS_WEIGHTS), *names[place:]]
    assert on_disk["train_loss_evidence"] is None
    assert EpochRow.model_validate(on_disk) == row
    assert "epoch" not in row.model_dump(exclude={"epoch"})
