"""What a cell is called does not depend on how many others were left with it for the last batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.records import ImageArray

SIZE = 16


@pytest.mark.parametrize("step", [0.0, 1e-6])
def test_small_batches_are_used_only_where_they_give_equal_bits(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """``step`` is the share by which an output changes with each crop in the batch, as other kernels would do it."""
    worker = Worker(
        load_bundle(demonstration_bundle()), PredictConfig(backend="onnxruntime", threads=1, batch_size=SIZE)
    )
    plain, sizes = worker.run_classifiers, []

    def run(batch: ImageArray) -> list[dict[str, NDArray[np.float32]]]:
        sizes.append(len(batch))
        changed = np.float32(1 - step * len(batch))
        return [{name: values * changed for name, values in member.items()} for member in plain(batch)]

    monkeypatch.setattr(worker, "run_classifiers", run)
    crops = list(np.random.default_rng(0).integers(0, 255, (SIZE, *worker.blank_batch().shape[1:]), dtype=np.uint8))
    whole = worker._classify(crops)
    assert worker._classify(crops[:3]) == whole[:3]
    assert worker._classify(crops[:2]) == whole[:2]
    assert sizes[3:] == ([4] if step == 0 else [SIZE])
