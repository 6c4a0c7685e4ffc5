"""One prediction on a cluster: the driver divides the input, workers predict shards, it merges them.

The shards meet in ``archive.shards`` beside the run ``archive``, on a shared disk or in a store. The same call again
keeps finished shards and goes on in the others. How the input is divided depends on the input alone, so that a cluster
that has lost a node finds the same shards. Paths travel, pixels never.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import bundle_path
from marrowscope.cluster.dispatch import dispatch
from marrowscope.cluster.meeting_place import SharedDisk, SharedStore
from marrowscope.cluster.merge import merge
from marrowscope.cluster.ray_crew import RayCrew, refuse_unlike
from marrowscope.cluster.shard_worker import Engine, Job, describe_node
from marrowscope.cohort.inputs import Inputs, collect_inputs
from marrowscope.cohort.shards import divide, input_digest
from marrowscope.cohort.stated import NOTHING_STATED, Stated
from marrowscope.config import UNREADABLE, parse_json
from marrowscope.disk.addresses import address_of
from marrowscope.errors import RunError
from marrowscope.imaging import sha256_bytes
from marrowscope.predict import PredictConfig, Prediction, new_assessor, size_and_time
from marrowscope.runs.folder import refuse_run_folder
from marrowscope.streaming.slide_reading import refuse_missing_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from marrowscope.cluster.meeting_place import MeetingPlace
    from marrowscope.cluster.publish import StoredFolder
    from marrowscope.cluster.shard_worker import NodeFacts
    from marrowscope.cohort.shards import Block

IMAGES_A_SHARD = 128
"""A worker that ends loses far less: on a disk the images under way, in a store those after the last 64."""
_MAX_SHARDS = 10_000
_JOURNAL, _ENGINE = "journal.json", "engine.json"
_N_WITNESSES = 3


def predict_across(
    paths: Sequence[Path] | Inputs,
    bundle: Path | None,
    out: Path,
    *,
    address: str,
    config: PredictConfig | None = None,
    mixed: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], object] | None = None,
    finish: Callable[[Path], object] | None = None,
    keep_copies: bool = False,
    stated: Stated = NOTHING_STATED,
    stored: StoredFolder | None = None,
    images_a_shard: int = IMAGES_A_SHARD,
) -> Prediction:
    """Predict all images in ``paths`` on the Ray cluster at ``address`` and write the run that one machine would write.

    Of images in an object store, ``paths`` is what was listed; every node fetches those of its own shards.
    ``bundle`` is a folder that every node sees, or the name of a shipped bundle. ``mixed`` accepts nodes whose
    processors differ; the last digits may then differ too. ``say`` gets sentences for the user. All else is as in
    ``predict`` and ``merge``. ``out`` has to be on a disk that all nodes share, or stands for the address ``stored``,
    where the shards are published, and then the run.

    Raises RunError or InputError before any work where the input, the bundle, ``out``, the cluster or one of its nodes
    cannot be used, and RunError where workers end over one shard again and again.
    """
    config = config or PredictConfig()
    inputs = paths if isinstance(paths, Inputs) else collect_inputs(paths, stated=stated)
    firsts = {image.patient_id: image for image in reversed(inputs.images) if not image.address}
    refuse_missing_scale(list(firsts.values()), config.um_per_px)
    opened = load_bundle(bundle_path(bundle))
    new_assessor(inputs.patients, opened, config)  # refuses reference ranges that do not fit
    refuse_run_folder(out, overwrite=overwrite)
    n_shards = count_shards(inputs, images_a_shard)
    meeting = _meeting_place(out, stored)
    job = Job(bundle, config, meeting.folder, Path.cwd(), keep_copies)
    here = describe_node(job, {})
    _begin(meeting, _fingerprint(inputs, here, job, n_shards))
    crew = RayCrew(address, job, accept=lambda engine: _accept(meeting, engine, mixed=mixed), say=say)
    try:
        refuse_unlike(crew.ask(_witnesses(meeting, inputs)), here, mixed=mixed)
        finished = meeting.finished()
        if len(finished) < n_shards:
            crew.open()
        _predict(inputs, n_shards, finished, crew, progress)
    finally:
        crew.close()
    run = merge(
        meeting.gather(n_shards),
        opened,
        out,
        mixed=mixed,
        overwrite=overwrite,
        command=command,
        progress=None,
        finish=finish,
        resumed=finished,
    )
    meeting.remove()
    return run


def count_shards(inputs: Inputs, images_a_shard: int = IMAGES_A_SHARD) -> int:
    """Return into how many shards an input is divided, whatever the cluster."""
    n_patients = len({image.patient_id for image in inputs.images})
    return max(1, min(n_patients, -(-len(inputs.images) // images_a_shard), _MAX_SHARDS))


def _meeting_place(out: Path, stored: StoredFolder | None) -> MeetingPlace:
    """Return where the shards of the run ``out`` meet: beside it."""
    name = f"{out.name}.shards"
    if stored is None:
        return SharedDisk(out.absolute().with_name(name))
    return SharedStore(Path(stored.address).with_name(name), stored)


def _predict(
    inputs: Inputs,
    n_shards: int,
    finished: Collection[int],
    crew: RayCrew,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Have every shard predicted that is not finished."""
    n_done = 0

    def done(block: Block) -> None:
        nonlocal n_done
        n_done += len(block.inputs.images)
        if progress:
            progress(n_done, len(inputs.images))

    def unfinished() -> Iterator[Block]:
        for block in divide(inputs, n_shards):
            if block.shard.index in finished:
                done(block)
            else:
                yield block

    dispatch(unfinished(), crew, done)


def _fingerprint(inputs: Inputs, here: NodeFacts, job: Job, n_shards: int) -> dict[str, object]:
    """Return what determines the rows of all shards: calls with the same fingerprint share their shards.

    Photographs are identified by path, size and time of modification, as in the journal of a single call.
    """
    files = [f"{image.place}\t{size_and_time(image.path)}" for image in inputs.images]
    return {
        "marrowscope": here.version,
        "versions": dict(here.versions),
        "bundle_sha256": here.bundle_sha256,
        "config": job.config.computed(),
        "keep_copies": job.keep_copies,
        "n_shards": n_shards,
        "inputs_sha256": input_digest(inputs),
        "files_sha256": sha256_bytes("\n".join(files).encode()),
    }


def _begin(meeting: MeetingPlace, fingerprint: Mapping[str, object]) -> None:
    """Make the folder of the shards, or keep it where an earlier call predicted the same."""
    if _read(meeting, _JOURNAL) == fingerprint:
        return
    meeting.begin()
    meeting.write(_JOURNAL, fingerprint)


def _accept(meeting: MeetingPlace, engine: Engine, *, mixed: bool) -> None:
    """Keep the first engine; RunError for another one, unless only the processor differs and ``mixed`` accepts it."""
    kept = _read(meeting, _ENGINE)
    if kept is None:
        meeting.write(_ENGINE, asdict(engine))
        return
    other = [name for name, value in asdict(engine).items() if kept.get(name) != value]
    if mixed and other == ["processor"]:
        return
    if other:
        message = (
            f"{address_of(meeting.folder) or meeting.folder}: found a worker with {other[0]} "
            f"{getattr(engine, other[0])}, expected {kept.get(other[0])} as of the shards so far; use nodes of that "
            "kind, or remove the folder to begin anew"
        )
        raise RunError(message)


def _witnesses(meeting: MeetingPlace, inputs: Inputs) -> dict[Path, int]:
    """Return files that every node has to see as this machine does, with their sizes: the journal and some images."""
    images = inputs.images
    step = max(1, len(images) // _N_WITNESSES)
    found = {Path(image.place): image.path.stat().st_size for image in images[::step] if image.path.is_file()}
    return {meeting.folder / _JOURNAL: len(meeting.read(_JOURNAL) or b"")} | found


def _read(meeting: MeetingPlace, name: str) -> dict[str, object] | None:
    content = meeting.read(name)
    try:
        found = None if content is None else parse_json(content.decode())
    except UNREADABLE:
        return None
    return found if isinstance(found, dict) else None
