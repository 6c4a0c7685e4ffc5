"""A node that is lost between the listing of a cluster and its answer is left out; one that is there has to answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from marrowscope.cluster import ray_crew
from marrowscope.cluster.ray_crew import RayCrew
from marrowscope.cluster.shard_worker import Job
from marrowscope.errors import RunError
from marrowscope.predict import PredictConfig


class LostError(Exception):
    """What Ray raises where a node does not answer."""


class MadeUpRay:
    """Nodes of one core, of which ``silent`` do not answer; ``listed`` are those that Ray still knows, in turn."""

    exceptions = SimpleNamespace(RayError=LostError)

    def __init__(self, listed: list[set[str]], silent: set[str]) -> None:
        self._listed, self._silent = listed, silent

    def nodes(self) -> list[dict[str, Any]]:
        names = self._listed.pop(0) if len(self._listed) > 1 else self._listed[0]
        return [
            {"NodeID": name, "NodeManagerHostname": name, "Alive": True, "Resources": {"CPU": 1.0}}
            for name in sorted(names)
        ]

    def remote(self, _function: object) -> Any:  # noqa: ANN401 - as Ray has it
        return SimpleNamespace(options=lambda **where: SimpleNamespace(remote=lambda *_: where["scheduling_strategy"]))

    def get(self, node_id: str, timeout: float) -> str:
        assert timeout > 0
        if node_id in self._silent:
            raise LostError(node_id)
        return f"facts of {node_id}"


def crew_on(ray: MadeUpRay, monkeypatch: pytest.MonkeyPatch) -> RayCrew:
    monkeypatch.setattr(ray_crew, "_connect", lambda _address: ray)
    monkeypatch.setattr(ray_crew, "_LOST_AFTER_S", 0.0)
    monkeypatch.setattr(RayCrew, "_on", lambda _self, node_id: node_id)
    job = Job(None, PredictConfig(), Path("shards"), Path(), keep_copies=False)
    return RayCrew("here:1", job, accept=lambda _engine: None)


def test_a_node_that_is_lost_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = crew_on(MadeUpRay([{"a", "b"}, {"a", "b"}, {"a"}], {"b"}), monkeypatch)
    monkeypatch.setattr(ray_crew, "_LOST_AFTER_S", 60.0)
    monkeypatch.setattr(ray_crew, "_LOOK_EVERY_S", 0.0)
    assert list(map(str, crew.ask({}))) == ["facts of a"]
    assert [slot.node_id for slot in crew._slots] == ["a"]


@pytest.mark.parametrize("silent", [{"b"}, {"a", "b"}])
def test_a_node_that_is_there_has_to_answer(monkeypatch: pytest.MonkeyPatch, silent: set[str]) -> None:
    crew = crew_on(MadeUpRay([{"a", "b"}], silent), monkeypatch)
    with pytest.raises(RunError, match=r"node [ab]: found no marrowscope that answers"):
        crew.ask({})


def test_where_every_node_is_lost_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = crew_on(MadeUpRay([{"a", "b"}, set()], {"a", "b"}), monkeypatch)
    with pytest.raises(RunError, match="every node of the cluster was lost"):
        crew.ask({})
