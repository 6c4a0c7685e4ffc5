"""Blocks of patients to a crew of workers, one block a worker at a time; what a lost worker had goes to another one.

Invariant: a block is with one worker at most, and every block is done or an error was raised. One block a worker is in
memory, and a count for each block that was lost; the blocks to come are taken from an iterator.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from marrowscope.cluster.shard_worker import Refusal
from marrowscope.errors import RunError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from marrowscope.cohort.shards import Block

MAX_LOSSES = 3
"""So many workers may end over one block before it is taken to be the cause."""


class Crew(Protocol):
    """Workers that may end at any time."""

    @property
    def n_working(self) -> int:
        """How many workers have a block."""

    def give(self, block: Block) -> bool:
        """Give a block to a free worker; False where none is free."""

    def wait(self) -> list[tuple[Block, int | Refusal | None]]:
        """Wait until something happens; returns blocks that left a worker, with their images, or None if it ended.

        A list without a block means that a worker became free. Raises RunError where no worker is left.
        """


def dispatch(blocks: Iterable[Block], crew: Crew, done: Callable[[Block], object]) -> None:
    """Let ``crew`` predict all ``blocks``; ``done`` gets each as soon as it is whole.

    Raises RunError for a refusal, and for a block over which workers ended ``MAX_LOSSES`` times.
    """
    again: deque[Block] = deque()
    source, losses = iter(blocks), Counter[int]()
    block = next(source, None)
    while block is not None or crew.n_working:
        while block is not None and crew.give(block):
            block = again.popleft() if again else next(source, None)
        for left, outcome in crew.wait():
            if isinstance(outcome, Refusal):
                message = f"shard {left.shard}: {outcome.sentence}"
                raise RunError(message)
            if outcome is not None:
                done(left)
                continue
            losses[left.shard.index] += 1
            if losses[left.shard.index] == MAX_LOSSES:
                first = left.inputs.images[0].place
                ended = count_of(MAX_LOSSES, "worker process", "worker processes")
                message = (
                    f"shard {left.shard}, from {first} on: found that {ended} ended over it, expected one to predict "
                    "it; see the memory of the nodes and the logs of Ray. The same call goes on"
                )
                raise RunError(message)
            again.append(left)
        if block is None and again:
            block = again.popleft()
