"""Workers on the nodes of a Ray cluster: one actor for each core, or for each GPU where one is asked for.

Steps: connect; ask every node what it has; refuse one that differs, in one sentence, before anything is opened; open an
actor in every slot. An actor that ends is opened again while its node is there. Ray is imported here alone, and here
only inside functions: nothing else needs the extra ``cluster``.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from marrowscope.cluster.shard_worker import Engine, NodeFacts, Refusal, ShardWorker, describe_node
from marrowscope.disk.addresses import address_of
from marrowscope.errors import ConfigError, DependencyError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.cluster.shard_worker import Job
    from marrowscope.cohort.shards import Block

_ASKED_FOR_S = 300.0
_SAID_AFTER_S = 60.0
_LOST_AFTER_S, _LOOK_EVERY_S = 30.0, 0.5
_MAX_OPENED = 5
"""So many times an actor is opened in one slot while its node lives."""


@dataclass
class _Slot:
    """A core or a GPU of a node, with the actor there."""

    node_id: str
    host: str
    n_gpus: int
    threads: int
    n_opened: int = 0
    actor: Any = None


class RayCrew:
    """The slots of a cluster that do one job; see ``dispatch.Crew``. ``close`` ends the actors and the connection."""

    def __init__(
        self, address: str, job: Job, *, accept: Callable[[Engine], object], say: Callable[[str], object] | None = None
    ) -> None:
        """Connect to the cluster at ``address``; ``accept`` gets every engine that was opened and may raise RunError.

        Raises DependencyError without Ray, and RunError where the cluster cannot be reached or has no slot.
        """
        self._ray = _connect(address)
        self._job, self._accept, self._say = job, accept, say
        self._opening: dict[Any, _Slot] = {}
        self._working: dict[Any, tuple[_Slot, Block]] = {}
        self._free: deque[_Slot] = deque()
        self._is_silent = True

    @property
    def n_working(self) -> int:
        """How many workers have a block."""
        return len(self._working)

    def ask(self, witnesses: Mapping[Path, int]) -> list[NodeFacts]:
        """Return what every node with a slot has; one that is lost meanwhile is left out.

        Raises RunError for one that is there and does not answer, and where none is left.
        """
        self._slots = _slots(self._nodes(), self._job.config.device)
        nodes = {slot.node_id: slot.host for slot in self._slots}
        remote = self._ray.remote(describe_node)
        asked = {
            node_id: remote.options(num_cpus=0, max_retries=0, scheduling_strategy=self._on(node_id)).remote(
                self._job, dict(witnesses)
            )
            for node_id in nodes
        }
        facts = []
        for node_id, host in nodes.items():
            try:
                facts.append(self._answer(asked[node_id], host))
            except RunError:
                if len(nodes) == 1 or not self._is_lost(node_id):
                    raise
                self._slots = [slot for slot in self._slots if slot.node_id != node_id]
        if not facts:
            message = "found that every node of the cluster was lost, expected one; start its nodes again"
            raise RunError(message)
        return facts

    def open(self) -> None:
        """Open an actor in every slot; each takes blocks as soon as its networks are open."""
        for slot in self._slots:
            self._open(slot)

    def give(self, block: Block) -> bool:
        """Give a block to a free worker; False where none is free."""
        if not self._free:
            return False
        slot = self._free.popleft()
        self._working[slot.actor.predict.remote(block)] = slot, block
        return True

    def wait(self) -> list[tuple[Block, int | Refusal | None]]:
        """Wait until a worker opens or leaves its block; see ``dispatch.Crew``."""
        if not self._opening and not self._working:
            message = (
                "found no worker process left in the cluster, expected one; start its nodes again. The same call "
                "goes on"
            )
            raise RunError(message)
        ready, _ = self._ray.wait([*self._opening, *self._working], num_returns=1, timeout=_SAID_AFTER_S)
        if not ready and not self._working and self._is_silent and self._say:
            self._is_silent = False
            self._say("Waiting for a free core or GPU of the cluster.")
        return [left for reference in ready for left in self._take(reference)]

    def close(self) -> None:
        """End the actors and leave the cluster."""
        self._ray.shutdown()

    def _take(self, reference: Any) -> list[tuple[Block, int | Refusal | None]]:  # noqa: ANN401  Ray has no types here
        """Take one answer; returns the block that left a worker, if one did."""
        outcome = self._outcome(reference)
        if (opened := self._opening.pop(reference, None)) is not None:
            if isinstance(outcome, Refusal):
                message = f"node {opened.host}: {outcome.sentence}"
                raise RunError(message)
            if outcome is None:
                self._replace(opened)
            else:
                self._accept(outcome)
                self._free.append(opened)
            return []
        slot, block = self._working.pop(reference)
        if outcome is None:
            self._replace(slot)
        else:
            self._free.append(slot)
        return [(block, outcome)]

    def _outcome(self, reference: Any) -> Any:  # noqa: ANN401  Ray has no types here
        """Return what an actor answered, a refusal for an error nobody foresaw, None where the actor is gone."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Refusal(_said(error))
        except self._ray.exceptions.RayError:
            return None

    def _replace(self, slot: _Slot) -> None:
        """Open an actor again where its node is still there."""
        self._ray.kill(slot.actor)  # one that is only out of reach must not go on
        if slot.n_opened < _MAX_OPENED and any(node["NodeID"] == slot.node_id for node in self._nodes()):
            self._open(slot)

    def _open(self, slot: _Slot) -> None:
        slot.n_opened += 1
        slot.actor = (
            self._ray.remote(ShardWorker)
            .options(
                num_cpus=0 if slot.n_gpus else 1,
                num_gpus=slot.n_gpus,
                max_restarts=0,
                scheduling_strategy=self._on(slot.node_id),
            )
            .remote(self._job, slot.threads)
        )
        self._opening[slot.actor.open.remote()] = slot

    def _is_lost(self, node_id: str) -> bool:
        """Say whether Ray gives a node up, which it may learn some seconds after the node's last answer."""
        end = time.monotonic() + _LOST_AFTER_S
        while any(node["NodeID"] == node_id for node in self._nodes()):
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _answer(self, reference: Any, host: str) -> NodeFacts:  # noqa: ANN401  Ray has no types here
        try:
            facts: NodeFacts = self._ray.get(reference, timeout=_ASKED_FOR_S)
        except self._ray.exceptions.RayError as error:
            message = (
                f"node {host}: found no marrowscope that answers ({_said(error)}), expected the version that runs "
                "here; install it in the Python that Ray was started with there"
            )
            raise RunError(message) from error
        return facts

    def _on(self, node_id: str) -> Any:  # noqa: ANN401  Ray has no types here
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415  the extra `cluster`

        return NodeAffinitySchedulingStrategy(node_id, soft=False)


def refuse_unlike(nodes: Sequence[NodeFacts], here: NodeFacts, *, mixed: bool) -> None:
    """Raise RunError, in one sentence, for the first node on which a shard would not be the one of this machine.

    Processors are compared between the nodes: this machine predicts nothing. ``mixed`` accepts that they differ.
    """
    for node in nodes:
        if node.unseen and address_of(node.unseen[0]) is not None:
            message = (
                f"node {node.host}: found no object {node.unseen[0]} as it is here, expected a store that all nodes "
                "read; install marrowscope[store] there, and set the address and the credentials where `ray start` is "
                "called"
            )
            raise RunError(message)
        if node.unseen:
            message = (
                f"node {node.host}: found no file {node.unseen[0]} as it is here, expected a disk that all nodes "
                "share; mount it there under the same path"
            )
            raise RunError(message)
        differs = _difference(node, here)
        if differs:
            message = f"node {node.host}: found {differs}, as here; install the same on every node"
            raise RunError(message)
        if node.processor != nodes[0].processor and not mixed:
            other = set(node.processor.split()) ^ set(nodes[0].processor.split())
            message = (
                f"node {node.host}: found a processor that differs from that of {nodes[0].host} in "
                f"{', '.join(sorted(other))}, expected equal ones, because the last digits may differ; leave one kind "
                "out of the cluster, or accept it with --mixed"
            )
            raise RunError(message)


def _difference(node: NodeFacts, here: NodeFacts) -> str:
    """Say in what a node differs, the empty string where it does not."""
    if node.version != here.version:
        return f"marrowscope {node.version}, expected {here.version}"
    names = sorted({*node.versions, *here.versions})
    if name := next((name for name in names if node.versions.get(name) != here.versions.get(name)), ""):
        return f"{name} {node.versions.get(name)}, expected {here.versions.get(name)}"
    if node.bundle_sha256 != here.bundle_sha256:
        return f"bundle {node.bundle_sha256[:80]}, expected {here.bundle_sha256[:12]}"
    return ""


def _slots(nodes: Iterable[Mapping[str, Any]], device: str) -> list[_Slot]:
    """Return one slot a core, or one a GPU where ``device`` is neither auto nor the CPU; RunError where none is."""
    wants_gpu = device.lower() not in {"auto", "cpu"}
    slots: list[_Slot] = []
    for node in nodes:
        cores, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
        threads = max(1, cores // gpus) if wants_gpu and gpus else 1
        n_slots = gpus if wants_gpu else cores
        slots += [_Slot(node["NodeID"], node["NodeManagerHostname"], int(wants_gpu), threads) for _ in range(n_slots)]
    if not slots:
        kind = "GPU" if wants_gpu else "core"
        message = f"found no {kind} in the cluster, expected at least one; start nodes with `ray start` that have some"
        raise RunError(message)
    return slots


def _connect(address: str) -> Any:  # noqa: ANN401  Ray has no types here
    """Import Ray and connect to a cluster that is there; Ray's handlers of signals are put back to ours."""
    if address == "local" or "://" in address:
        message = (
            f"--ray: found {address!r}, expected auto or HOST:PORT of a cluster that runs; call this on one of its "
            "nodes"
        )
        raise ConfigError(message)
    # Nodes have their own environments: without this, a driver under `uv run` would have each worker build one.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray  # noqa: PLC0415  the extra `cluster`, needed only here
    except ImportError as error:
        message = "found no module ray, which --ray needs; run pip install 'marrowscope[cluster]' on every node"
        raise DependencyError(message) from error
    ours = (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in ours}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        message = (
            f"--ray {address}: found no Ray cluster that takes this call ({_said(error)}), expected one with the "
            "versions of Ray and Python that are here; start it with `ray start --head`, and call this on one of its "
            "nodes"
        )
        raise RunError(message) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ray


def _said(error: BaseException) -> str:
    """Return the last line of an error, for Ray puts whole tracebacks into its messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
