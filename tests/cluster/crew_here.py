"""A crew of one worker in this process, in place of Ray's, for the tests that ask for ``crew``."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from marrowscope.cluster.shard_worker import Engine, NodeFacts, Refusal, ShardWorker, describe_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from marrowscope.cluster.shard_worker import Job
    from marrowscope.cohort.shards import Block


class CrewHere:
    """One worker, in this process. STOPS_AFTER blocks the call is ended as by a signal; FACTS changes a node."""

    def __init__(self, address: str, job: Job, *, accept: Callable[[Engine], object], say: object = None) -> None:
        del address, say
        self._job, self._accept = job, accept
        self._worker: ShardWorker | None = None
        self._given: deque[Block] = deque()
        self.predicted: list[int] = []
        MADE.append(self)

    n_working = property(lambda self: len(self._given))

    def ask(self, witnesses: Mapping[Path, int]) -> list[NodeFacts]:
        return [FACTS(describe_node(self._job, witnesses))]

    def open(self) -> None:
        self._worker = ShardWorker(self._job, 1)
        engine = self._worker.open()
        assert isinstance(engine, Engine)
        self._accept(engine)

    def give(self, block: Block) -> bool:
        if self._worker is None or self._given:
            return False
        self._given.append(block)
        return True

    def wait(self) -> list[tuple[Block, int | Refusal | None]]:
        if len(self.predicted) == STOPS_AFTER[0]:
            raise KeyboardInterrupt
        assert self._worker is not None
        block = self._given.popleft()
        self.predicted.append(block.shard.index)
        return [(block, self._worker.predict(block))]

    def close(self) -> None:
        return


MADE: list[CrewHere] = []
STOPS_AFTER: list[int | None] = [None]


def FACTS(facts: NodeFacts) -> NodeFacts:  # noqa: N802  replaced by tests
    return facts
