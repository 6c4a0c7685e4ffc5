"""Soft labels of confusable codes, against targets written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from marrowscope.errors import ConfigError  # noqa: E402
from marrowscope.train.config import HEADS  # noqa: E402
from marrowscope.train.losses import HeadCorrection, classification_losses  # noqa: E402
from marrowscope.train.soft_labels import check_groups, given_away  # noqa: E402
from marrowscope.vocabulary import load_vocabulary  # noqa: E402

VOCABULARY = load_vocabulary()
ALL = {"cblc": [True] * 2, "countable": [True] * 2, "category": [True] * 16}
PLACE = {name: VOCABULARY.categories.index(name) for name in VOCABULARY.categories}


def _labels(codes: list[str | None]) -> dict[str, np.ndarray]:
    """Give what the vocabulary says of each code, by head; -1 for an unlabeled crop."""
    entries = [None if code is None else VOCABULARY.lookup(code) for code in codes]
    return {
        "cblc": np.array([-1 if entry is None else int(entry.cblc) for entry in entries]),
        "countable": np.array([-1 if entry is None else int(entry.countable) for entry in entries]),
        "category": np.array([-1 if entry is None else PLACE[entry.category] for entry in entries]),
    }


def _given(
    codes: list[str | None], groups: list[list[str]], smoothing: float, trained: dict[str, list[bool]] = ALL
) -> dict[str, Any]:
    return given_away(codes, _labels(codes), groups, smoothing, trained)


def test_a_blast_gives_to_monocytes_and_lymphocytes_in_every_head() -> None:
    """N is CBLC, M2 and L2 are not; all three are countable. E is in no group, and an unlabeled crop has no label."""
    found = _given(["N", "M2", "E", None, "L2", "N"], [["N", "M2", "L2"]], 0.2)
    expected = np.zeros(16)
    expected[[PLACE["M2"], PLACE["L"]]] = 0.1
    np.testing.assert_allclose(found["category"][0], expected, atol=1e-7)
    np.testing.assert_allclose(found["category"][5], expected, atol=1e-7)
    zero = [0.0, 0.0]
    np.testing.assert_allclose(
        found["cblc"], np.array([[0.2, 0], [0.1, 0.1], zero, zero, [0.1, 0.1], [0.2, 0]]), atol=1e-7
    )
    np.testing.assert_allclose(
        found["countable"], np.array([[0, 0.2], [0, 0.2], zero, zero, [0, 0.2], [0, 0.2]]), atol=1e-7
    )
    assert not found["category"][2:4].any()


def test_a_smudge_cell_gives_to_a_countable_cblc() -> None:
    found = _given(["V", "N"], [["V", "N"]], 0.1)
    assert found["category"][0, PLACE["N"]] == pytest.approx(0.1)
    np.testing.assert_allclose(found["cblc"][0], [0, 0.1], atol=1e-7)
    np.testing.assert_allclose(found["countable"][0], [0, 0.1], atol=1e-7)


def test_a_code_without_a_crop_and_an_untrained_class_get_nothing() -> None:
    np.testing.assert_allclose(
        _given(["N", "M2"], [["N", "M2", "L2"]], 0.2)["category"][0, [PLACE["M2"], PLACE["L"]]], [0.2, 0], atol=1e-7
    )
    assert not _given(["N", "E"], [["N", "M2"]], 0.2)["category"].any()
    trained = ALL | {"category": [index != PLACE["L"] for index in range(16)]}
    found = _given(["N", "M2", "L2"], [["N", "M2", "L2"]], 0.2, trained)
    assert found["category"][0].sum() == pytest.approx(0.1)
    assert found["category"][0, PLACE["L"]] == 0


def _corrections(offsets: dict[str, Any]) -> dict[str, HeadCorrection]:
    return {
        head: HeadCorrection(values, torch.ones_like(values), 0.0, torch.isfinite(values).nonzero()[:, 0])
        for head, values in offsets.items()
    }


def test_the_loss_is_torchs_own_cross_entropy_of_the_soft_target() -> None:
    """With logit adjustment and an untrained class; torch takes class probabilities as the target."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"cblc": 2, "countable": 2, "category": 16}
    logits = {head: torch.randn(5, k, generator=generator) for head, k in sizes.items()}
    offsets = {head: torch.randn(k, generator=generator) for head, k in sizes.items()}
    offsets["category"][PLACE["Other"]] = -torch.inf
    trained = {head: torch.isfinite(values).tolist() for head, values in offsets.items()}
    codes: list[str | None] = ["N", "L2", "E", "M2", "N5"]
    given = _given(codes, [["N", "M2", "L2"], ["N5", "E"]], 0.3, trained)
    targets = {head: torch.from_numpy(values) for head, values in _labels(codes).items()}
    tensors = {head: torch.from_numpy(values) for head, values in given.items()}
    found = classification_losses(logits, targets, _corrections(offsets), given=tensors)
    for head in HEADS:
        soft = torch.nn.functional.one_hot(targets[head], sizes[head]).float() * (1 - tensors[head].sum(1))[:, None]
        soft = soft + tensors[head]
        kept = torch.isfinite(offsets[head])
        own = torch.nn.functional.cross_entropy((logits[head] + offsets[head])[:, kept], soft[:, kept])
        assert float(found[head]) == pytest.approx(float(own), rel=1e-5)


def test_no_smoothing_is_the_hard_loss_and_gradients_stay_finite() -> None:
    offsets = {"cblc": torch.zeros(2), "countable": torch.zeros(2), "category": torch.zeros(16)}
    offsets["category"][5] = -torch.inf
    logits = {head: torch.zeros(1, len(values), requires_grad=True) for head, values in offsets.items()}
    targets = {head: torch.tensor([1]) for head in offsets}
    nothing = {head: torch.zeros(1, len(values)) for head, values in offsets.items()}
    hard = classification_losses(logits, targets, _corrections(offsets))
    soft = classification_losses(logits, targets, _corrections(offsets), given=nothing)
    assert all(float(hard[head].detach()) == pytest.approx(float(soft[head].detach())) for head in HEADS)
    torch.stack(list(soft.values())).sum().backward()
    assert all(bool(torch.isfinite(values.grad).all()) for values in logits.values())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["N", "Q9"]], "found code 'Q9', expected codes of"),
        ([["N", "L"], ["L", "M2"]], "found code 'L' twice"),
        ([["N"]], "found a group of one code"),
    ],
)
def test_groups_that_make_no_sense_are_refused(groups: list[list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_groups(groups, VOCABULARY)
