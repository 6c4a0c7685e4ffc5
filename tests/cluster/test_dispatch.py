"""Blocks to a crew that loses workers: each is done once, or the cause is named."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from marrowscope.cluster.dispatch import MAX_LOSSES, dispatch
from marrowscope.cluster.shard_worker import Refusal
from marrowscope.cohort.inputs import Inputs
from marrowscope.cohort.shards import Block, Shard
from marrowscope.errors import RunError
from marrowscope.records import InputImage, Patient

if TYPE_CHECKING:
    from collections.abc import Callable


def blocks_of(n: int) -> list[Block]:
    inputs = Inputs((Patient("P", "A", "AML"),), (InputImage("P/1", "P", Path("P/1.jpg"), None),))
    return [Block(Shard(index, n), inputs, "", (), 0) for index in range(1, n + 1)]


class MadeUpCrew:
    """Workers whose fate over a block ``fate`` decides; they open one after another."""

    def __init__(self, n_slots: int, fate: Callable[[Block], int | Refusal | None], seed: int = 0) -> None:
        self._fate, self._random = fate, random.Random(seed)  # noqa: S311  no secret
        self._closed, self._free = n_slots, 0
        self._working: list[Block] = []
        self.given: list[int] = []

    @property
    def n_working(self) -> int:
        return len(self._working)

    def give(self, block: Block) -> bool:
        if not self._free:
            return False
        self._free -= 1
        assert block not in self._working
        self._working.append(block)
        self.given.append(block.shard.index)
        return True

    def wait(self) -> list[tuple[Block, int | Refusal | None]]:
        if self._closed and (not self._working or self._random.random() < 0.5):
            self._closed, self._free = self._closed - 1, self._free + 1
            return []
        block = self._working.pop(self._random.randrange(len(self._working)))
        outcome = self._fate(block)
        if outcome is None:
            self._closed += 1
        else:
            self._free += 1
        return [(block, outcome)]


@pytest.mark.parametrize("seed", range(20))
def test_every_block_is_done_once_whatever_workers_end(seed: int) -> None:
    ended = random.Random(seed)  # noqa: S311  no secret
    lost = {index: ended.randrange(MAX_LOSSES) for index in range(1, 31)}
    left = dict(lost)

    def fate(block: Block) -> int | None:
        left[block.shard.index] -= 1
        return None if left[block.shard.index] >= 0 else 1

    crew, done = MadeUpCrew(4, fate, seed), list[int]()
    dispatch(iter(blocks_of(30)), crew, lambda block: done.append(block.shard.index))
    assert sorted(done) == list(range(1, 31))
    assert len(crew.given) == 30 + sum(lost.values())


def test_no_block_is_no_work() -> None:
    dispatch([], MadeUpCrew(0, lambda _: 1), lambda _: pytest.fail("nothing was done"))


def test_a_block_over_which_workers_end_is_named() -> None:
    crew = MadeUpCrew(2, lambda block: None if block.shard.index == 3 else 1)
    with pytest.raises(RunError, match=rf"shard 3/5, from P.1.jpg on: found that {MAX_LOSSES} worker processes ended"):
        dispatch(blocks_of(5), crew, lambda _: None)
    assert crew.given.count(3) == MAX_LOSSES


def test_a_refusal_ends_the_work_with_its_sentence() -> None:
    crew = MadeUpCrew(2, lambda block: Refusal("found no scale") if block.shard.index == 2 else 1)
    with pytest.raises(RunError, match="shard 2/9: found no scale"):
        dispatch(blocks_of(9), crew, lambda _: None)
