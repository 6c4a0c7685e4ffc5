"""A run in a store is never half there, and one call at a time writes it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.cluster import store_lock
from marrowscope.cluster.mirror import Mirror
from marrowscope.cluster.publish import StoredFolder
from marrowscope.cluster.store_lock import locked_address
from marrowscope.disk import MARKER_NAME, Marker, mark_folder, name_files
from marrowscope.errors import LockLostError, RunError
from marrowscope.runs.folder import RUN_KIND, refuse_run_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.cluster.object_store import ObjectStore
    from tests.stores import Bucket

FIRST = {"cells.parquet": "cells", "report/index.html": "page", "regions.parquet": "only the first has it"}
SECOND = {"cells.parquet": "other cells", "report/index.html": "other page"}
LOCK = ".run.marrowscope-lock"


@pytest.fixture
def base(request: pytest.FixtureRequest) -> str:
    """Return a folder of the bucket that no other test has."""
    return str(abs(hash(request.node.name)))


def folder_at(store: ObjectStore, address: str, root: Path, check: Callable[[], object] = lambda: None) -> StoredFolder:
    mirror = Mirror(store, root)
    root.mkdir()
    mirror.copy_if_there(f"{address}.part")
    return StoredFolder(mirror, address, mirror.list_output(address), check)


def make_run(folder: Path, content: dict[str, str]) -> None:
    """Make a run in place of what is there."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, text in {**content, "manifest.json": f"of {content['cells.parquet']}"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    mark_folder(folder, RUN_KIND)


def kill_after(store: ObjectStore, n_steps: int, patch: pytest.MonkeyPatch) -> None:
    """Let the call end before its step ``n_steps`` that changes the store."""
    left = [n_steps]

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return method(*arguments)

        return call

    for name in ("write_bytes", "remove", "write"):
        patch.setattr(store, name, counted(getattr(store, name)))


@pytest.mark.parametrize("n_steps", range(8))
def test_a_call_killed_at_any_step_leaves_the_old_run_or_none_or_the_new_one_and_can_be_repeated(
    bucket: Bucket, store: ObjectStore, base: str, tmp_path: Path, n_steps: int
) -> None:
    address = f"s3://smears/{base}/run"
    first = folder_at(store, address, tmp_path / "first")
    make_run(first.folder, FIRST)
    first.publish()
    second = folder_at(store, address, tmp_path / "second")
    make_run(second.folder, SECOND)
    is_killed = False
    with pytest.MonkeyPatch.context() as patch:
        kill_after(store, n_steps, patch)
        try:
            second.publish()
        except KeyboardInterrupt:
            is_killed = True
    assert is_killed == (n_steps < 7)
    keys = bucket.keys(f"{base}/run/")
    if f"{base}/run/manifest.json" in keys:
        cells = bucket.get(f"{base}/run/cells.parquet").decode()
        assert bucket.get(f"{base}/run/manifest.json").decode() == f"of {cells}"
    again = folder_at(store, address, tmp_path / "again")
    refuse_run_folder(again.folder, overwrite=n_steps in {0, 7})
    make_run(again.folder, SECOND)
    again.publish()
    found = bucket.get_folder(f"{base}/run", tmp_path / "found")
    expected = {path.relative_to(again.folder): path.read_bytes() for path in again.folder.rglob("*") if path.is_file()}
    assert {path.relative_to(found): path.read_bytes() for path in found.rglob("*") if path.is_file()} == expected


def test_the_marker_is_written_last_and_the_manifest_before_it(
    bucket: Bucket, store: ObjectStore, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_at(store, f"s3://smears/{base}/run", tmp_path / "one")
    make_run(folder.folder, FIRST)
    written: list[str] = []
    write = store.write

    def noted(files: list[tuple[Path, str]]) -> None:
        if not written:
            marker = Marker.model_validate_json(bucket.get(f"{base}/run/{MARKER_NAME}"))
            assert not marker.complete
            assert set(marker.files) == {*FIRST, "manifest.json"}
        written.extend(place.removeprefix(f"smears/{base}/run/") for _, place in files)
        write(files)

    monkeypatch.setattr(store, "write", noted)
    folder.publish()
    assert written[-2:] == ["manifest.json", MARKER_NAME]
    assert sorted(written[:-2]) == sorted(FIRST)


def test_a_folder_that_a_command_left_as_it_was_is_not_written(
    store: ObjectStore, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder_at(store, f"s3://smears/{base}/run", tmp_path / "first")
    make_run(first.folder, FIRST)
    first.publish()
    same = folder_at(store, f"s3://smears/{base}/run", tmp_path / "same")
    kill_after(store, 0, monkeypatch)
    same.publish()
    same.save_parts()


def test_a_report_that_is_added_is_named_before_it_is_there_and_the_run_stays_one(
    bucket: Bucket, store: ObjectStore, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder_at(store, f"s3://smears/{base}/run", tmp_path / "first")
    make_run(first.folder, FIRST)
    first.publish()
    (first.folder / "run.json").write_text("{}")
    name_files(first.folder, RUN_KIND, ["run.json"])
    kill_after(store, 1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        first.publish()
    assert "run.json" in Marker.model_validate_json(bucket.get(f"{base}/run/{MARKER_NAME}")).files
    assert bucket.get(f"{base}/run/manifest.json") == b"of cells"
    monkeypatch.undo()
    first.publish()
    assert bucket.get(f"{base}/run/run.json") == b"{}"


def test_an_earlier_run_and_foreign_files_are_refused_as_in_a_folder(
    bucket: Bucket, store: ObjectStore, base: str, tmp_path: Path
) -> None:
    first = folder_at(store, f"s3://smears/{base}/run", tmp_path / "first")
    make_run(first.folder, FIRST)
    first.publish()
    second = folder_at(store, f"s3://smears/{base}/run", tmp_path / "second")
    with pytest.raises(RunError, match="found an earlier run, expected a new or empty folder; add --overwrite"):
        refuse_run_folder(second.folder, overwrite=False)
    refuse_run_folder(second.folder, overwrite=True)
    bucket.put(f"{base}/run/thesis.docx", b"of somebody")
    third = folder_at(store, f"s3://smears/{base}/run", tmp_path / "third")
    with pytest.raises(RunError, match=r"foreign files.*nothing is removed. It contains thesis.docx"):
        refuse_run_folder(third.folder, overwrite=True)


def test_the_parts_of_an_unfinished_run_go_with_it_and_another_runs_parts_do_not_stay(
    bucket: Bucket, store: ObjectStore, base: str, tmp_path: Path
) -> None:
    first = folder_at(store, f"s3://smears/{base}/run", tmp_path / "first")
    parts = first.folder.with_name("run.part")
    (parts / "parts").mkdir(parents=True)
    for name in ("journal.json", "parts/00000.fields", "parts/00001.fields"):
        (parts / name).write_text("of the first")
    first.save_parts()
    again = folder_at(store, f"s3://smears/{base}/run", tmp_path / "again")
    parts = again.folder.with_name("run.part")
    assert (parts / "parts/00001.fields").read_text() == "of the first"
    (parts / "parts/00001.fields").unlink()
    (parts / "parts/00000.fields").write_text("of another call")
    (parts / "journal.json").write_text("of another call")
    again.save_parts()
    assert bucket.keys(f"{base}/run.part") == [f"{base}/run.part/journal.json", f"{base}/run.part/parts/00000.fields"]
    assert bucket.get(f"{base}/run.part/parts/00000.fields") == b"of another call"


def test_a_second_call_is_refused_by_name_and_the_lock_goes_with_the_first(
    bucket: Bucket, store: ObjectStore, base: str
) -> None:
    said: list[str] = []
    with locked_address(store, f"s3://smears/{base}/run", said.append) as lock:
        lock.check()
        with (
            pytest.raises(RunError, match=r"run: found it in use by process \d+ on \S+ since .*, expected one call at"),
            locked_address(store, f"s3://smears/{base}/run", said.append),
        ):
            pass
        assert bucket.keys(f"{base}/") == [f"{base}/{LOCK}"]
    assert bucket.keys(f"{base}/") == []
    assert said == []


def test_of_calls_that_start_at_the_same_time_one_goes_on(store: ObjectStore, base: str) -> None:
    held: list[int] = []
    refused: list[RunError] = []
    begin, end = threading.Barrier(4), threading.Barrier(4)

    def call(number: int) -> None:
        begin.wait()
        try:
            with locked_address(store, f"s3://smears/{base}/run", print):
                held.append(number)
                end.wait(30)
        except RunError as error:
            refused.append(error)
            end.wait(30)

    calls = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in calls:
        thread.start()
    for thread in calls:
        thread.join()
    assert len(held) == 1
    assert len(refused) == 3


@pytest.mark.parametrize("by", ["age", "end of its process"])
def test_a_stale_lock_is_taken_over_and_its_holder_publishes_nothing_more(
    bucket: Bucket, store: ObjectStore, base: str, tmp_path: Path, *, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    address = f"s3://smears/{base}/run"
    said: list[str] = []
    with locked_address(store, address, said.append) as lock:
        slow = folder_at(store, address, tmp_path / "slow", lock.check)
        make_run(slow.folder, FIRST)
        if by == "age":
            monkeypatch.setattr(store, "age_s", lambda _: 61.0)
        else:
            monkeypatch.setattr(store_lock, "has_ended", lambda _: True)
        with locked_address(store, address, said.append):
            with pytest.raises(LockLostError, match="another call took this lock over, expected to hold it to the end"):
                slow.publish()
            assert bucket.keys(f"{base}/run/") == []
    assert len(said) == 1
    assert "took over the lock of process" in said[0]
    assert ("which was not renewed for 61 s" if by == "age" else "whose process is gone") in said[0]


def test_a_lock_is_renewed_and_a_holder_who_lost_it_is_interrupted(
    bucket: Bucket, store: ObjectStore, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "_RENEWED_EVERY_S", 0.02)
    renewed: list[str] = []
    replace = store.replace

    def noted(place: str, content: bytes, tag: str) -> str | None:
        renewed.append(place)
        return replace(place, content, tag)

    monkeypatch.setattr(store, "replace", noted)
    key = f"{base}/{LOCK}"

    def work() -> None:
        with locked_address(store, f"s3://smears/{base}/run", print):
            end = time.monotonic() + 20
            while len(renewed) < 3 and time.monotonic() < end:
                time.sleep(0.01)
            bucket.put(key, b"another's")
            while time.monotonic() < end:  # an interrupt from a thread does not end a sleep
                time.sleep(0.01)

    with pytest.raises(LockLostError, match="another call took this lock over"):
        work()
    assert len(renewed) >= 3
    assert bucket.get(key) == b"another's"


def test_a_store_that_knows_no_conditions_is_said_to_be_one(
    store: ObjectStore, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(place: str, content: bytes) -> str:
        store.write_bytes(place, content)
        found = store.describe(place)
        return found.tag if found else ""

    monkeypatch.setattr(store, "create", create)
    said: list[str] = []
    with locked_address(store, f"s3://smears/{base}/run", said.append):
        pass
    assert len(said) == 1
    assert "it cannot keep a second call with this --out away" in said[0]
