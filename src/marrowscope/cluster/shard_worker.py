"""What a node of a cluster does: say what it has, open the networks once, predict one block of patients after another.

Nothing here knows of Ray. Blocks name photographs by their paths, or by addresses of an object store, from which every
node fetches its own; what is found goes where the shards meet, and only counts go back.
"""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import marrowscope
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import bundle_path
from marrowscope.cluster.meeting_place import shard_path, shard_to_predict
from marrowscope.cluster.object_store import ObjectStore
from marrowscope.disk.addresses import address_of, place_of
from marrowscope.errors import MarrowscopeError
from marrowscope.machine import processor_features
from marrowscope.predict import predict
from marrowscope.runs.manifest import installed_versions
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.cohort.shards import Block
    from marrowscope.streaming.config import PredictConfig


@dataclass(frozen=True, slots=True)
class Job:
    """What the nodes are to predict with, and where: ``bundle`` as the user gave it, a path or a shipped name.

    Relative paths are those of ``working_folder``. The shards are written below ``folder``, a path or an address.
    """

    bundle: Path | None
    config: PredictConfig
    folder: Path
    working_folder: Path
    keep_copies: bool = False


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself: ``versions`` may change a result, ``unseen`` are paths that it does not see."""

    host: str
    version: str
    versions: Mapping[str, str]
    bundle_sha256: str
    processor: str
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Engine:
    """What networks were opened on."""

    backend: str
    device: str
    precision: str
    processor: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a worker cannot go on: the sentence of a MarrowscopeError."""

    sentence: str


def describe_node(job: Job, witnesses: Mapping[Path, int]) -> NodeFacts:
    """Say what this node has. ``witnesses`` are files with their sizes that it must see as the driver does."""
    try:
        os.chdir(job.working_folder)
        bundle_sha256 = load_bundle(bundle_path(job.bundle)).spec_sha256
    except (OSError, MarrowscopeError) as error:
        bundle_sha256 = f"none ({error})"
    return NodeFacts(
        host=platform.node() or socket.gethostname(),
        version=marrowscope.__version__,
        versions=installed_versions(),
        bundle_sha256=bundle_sha256,
        processor=processor_features(),
        unseen=tuple(address_of(path) or str(path) for path, size in witnesses.items() if _size(path) != size),
    )


class ShardWorker:
    """The networks of a job's bundle, and blocks through them; ``threads`` is the number of cores of this slot."""

    def __init__(self, job: Job, threads: int) -> None:
        self._job = job
        self._config = job.config.model_copy(update={"threads": threads, "processes": 1})
        self._opened: tuple[Bundle, Worker] | None = None

    def open(self) -> Engine | Refusal:
        """Open the networks; says on what they run."""
        try:
            os.chdir(self._job.working_folder)
            bundle = load_bundle(bundle_path(self._job.bundle))
            worker = Worker(bundle, self._config)
        except MarrowscopeError as error:
            return Refusal(str(error))
        self._opened = bundle, worker
        return Engine(worker.backend, worker.device, worker.precision, processor_features())

    def predict(self, block: Block) -> int | Refusal:
        """Predict a block into its folder, after what an earlier call left there; returns its number of images."""
        if self._opened is None:
            message = "found networks that are not open, expected a call of open() first"
            raise RuntimeError(message)
        bundle, worker = self._opened
        try:
            with shard_to_predict(shard_path(self._job.folder, block.shard.index), block) as shard:
                if shard is not None:
                    predict(
                        shard.block,
                        bundle,
                        shard.out,
                        config=self._config,
                        worker=worker,
                        keep_copies=self._job.keep_copies,
                        progress=shard.progress,
                    )
        except MarrowscopeError as error:
            return Refusal(str(error))
        return len(block.inputs.images)


def _size(path: Path) -> int | None:
    try:
        if (address := address_of(path)) is None:
            return path.stat().st_size
        store = ObjectStore()
        try:
            found = store.describe(place_of(address))
        finally:
            store.close()
    except (OSError, MarrowscopeError):
        return None
    return None if found is None else found.n_bytes
