from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from marrowscope.errors import ConfigError  # noqa: E402
from marrowscope.train.device import choose_device  # noqa: E402

if TYPE_CHECKING:
    from marrowscope.train.device import Device


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_auto_is_cuda_where_torch_finds_it(
    monkeypatch: pytest.MonkeyPatch, wanted: Device, chosen: str, *, there: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(wanted) == chosen


def test_cuda_that_is_not_there_is_refused_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: found cuda, but torch finds no CUDA device here; use cpu or auto"):
        choose_device("cuda")
